//! Commands in containers, between their descriptors and the frames of a client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use berth_api::{ExitView, Size};
use berth_container::Terminal;
use berth_deploy::{Attached, Command, DeployError, Streams, TIME_MS_MAX};
use berth_model::{App, AppId, InstanceId, InstanceRecord, ProcessName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::{RoomActions, internal};
use crate::http::{ActionError, Input, NewRun, Output, Session};

/// How long a command waits for its client.
const ATTACH_MAX: Duration = Duration::from_secs(10);
/// Frames between a command and a slow client.
const FRAMES_MAX: usize = 32;
/// Bytes of one frame.
const FRAME_BYTES: usize = 16 * 1024;

/// Commands that wait for their client. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Waiting(Arc<Mutex<HashMap<InstanceId, (AppId, Session)>>>);

impl Waiting {
    fn put(&self, app: AppId, run: InstanceId, session: Session) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(run, (app, session));
        let waiting = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(ATTACH_MAX).await;
            // Dropping the session ends the command.
            waiting.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
        });
    }

    pub(super) fn take(&self, app: AppId, run: InstanceId) -> Result<Session, ActionError> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.remove(&run) {
            Some((owner, session)) if owner == app => Ok(session),
            Some(other) => {
                waiting.insert(run, other);
                Err(ActionError::Missing(format!("there is no run {run}")))
            }
            None => Err(ActionError::Missing(format!(
                "no command waits as {run}; it was attached to, or waited too long"
            ))),
        }
    }
}

fn refused(error: DeployError) -> ActionError {
    match error {
        DeployError::NoApp { .. } | DeployError::NotRunning { .. } => {
            ActionError::Missing(error.to_string())
        }
        DeployError::NoRelease { .. }
        | DeployError::NoCommands { .. }
        | DeployError::EmptyCommand
        | DeployError::TooManyRuns { .. } => ActionError::Refused(error.to_string()),
        other => internal(other),
    }
}

pub(super) async fn start(
    actions: &RoomActions,
    app: App,
    run: NewRun,
) -> Result<InstanceRecord, ActionError> {
    let command = Command {
        argv: argv(actions, &app, run.command).await?,
        env: env(run.terminal),
        tty: run.terminal.map(terminal),
        time_ms_max: run
            .timeout_s
            .map_or(TIME_MS_MAX, |s| s.saturating_mul(1000).clamp(1, TIME_MS_MAX)),
    };
    let deploys = &actions.pipeline.deploys;
    if run.detach {
        return deploys.run_detached(app.id, command).await.map_err(refused);
    }
    let attached = deploys.run(app.id, command).await.map_err(refused)?;
    let instance = attached.instance;
    actions.waiting.put(app.id, instance, session(attached));
    let row = actions.pipeline.store.instance(instance).await.map_err(internal)?;
    row.ok_or_else(|| ActionError::Missing(format!("the run {instance} is gone")))
}

pub(super) async fn exec(
    actions: &RoomActions,
    app: App,
    instance: InstanceRecord,
    command: Vec<String>,
    size: Option<Size>,
) -> Result<Session, ActionError> {
    let command = Command {
        argv: command,
        env: env(size),
        tty: size.map(terminal),
        time_ms_max: TIME_MS_MAX,
    };
    let label = instance.label();
    let attached =
        actions.pipeline.deploys.exec(app.id, Some(&label), command).await.map_err(refused)?;
    Ok(session(attached))
}

/// A process type alone stands for its command, as Heroku's users expect.
async fn argv(
    actions: &RoomActions,
    app: &App,
    command: Vec<String>,
) -> Result<Vec<String>, ActionError> {
    let ([word], Some(release)) = (command.as_slice(), app.current_release) else {
        return Ok(command);
    };
    let Ok(process) = word.parse::<ProcessName>() else { return Ok(command) };
    let release = actions.pipeline.store.release(release).await.map_err(internal)?;
    let named = release.and_then(|release| release.manifest.processes.get(&process).cloned());
    Ok(named.map_or(command, |process| process.command))
}

fn env(size: Option<Size>) -> Vec<(String, String)> {
    let term = size.map(|_| ("TERM".to_owned(), "xterm-256color".to_owned()));
    term.into_iter().collect()
}

fn terminal(size: Size) -> Terminal {
    Terminal { rows: size.rows, columns: size.columns }
}

/// Carries bytes until the command ends or the client goes.
fn session(attached: Attached) -> Session {
    let (input, from_client) = mpsc::channel(FRAMES_MAX);
    let (to_client, output) = mpsc::channel(FRAMES_MAX);
    let (streams, end) = attached.split();
    tokio::spawn(async move {
        let carrying = match streams {
            Streams::Terminal(master) => {
                let reading = tokio::spawn(read(master.clone(), to_client.clone(), Output::Stdout));
                let resizing = master.clone();
                let writing = tokio::spawn(write(master, from_client, move |size| {
                    // A terminal that is gone has no size.
                    let _ = resizing.resize(terminal(size));
                }));
                (vec![reading], writing)
            }
            Streams::Pipes { stdin, stdout, stderr } => {
                let out = tokio::spawn(read(stdout, to_client.clone(), Output::Stdout));
                let errors = tokio::spawn(read(stderr, to_client.clone(), Output::Stderr));
                (vec![out, errors], tokio::spawn(write(stdin, from_client, |_| {})))
            }
        };
        let (reading, writing) = carrying;
        let ended = tokio::select! {
            ended = end => ended,
            // Dropping the future that waits for the end kills the command.
            () = to_client.closed() => {
                writing.abort();
                return;
            }
        };
        // What was written before the end is still in the pipes.
        for task in reading {
            let _ = tokio::time::timeout(Duration::from_secs(5), task).await;
        }
        writing.abort();
        let last = match ended {
            Ok(exit) => {
                Output::Exit(ExitView { code: exit.code, oom: exit.oom, timed_out: exit.timed_out })
            }
            Err(error) => Output::Error(error.to_string()),
        };
        let _ = to_client.send(last).await;
    });
    Session { input, output }
}

async fn read(
    mut from: impl AsyncRead + Unpin,
    to: mpsc::Sender<Output>,
    frame: fn(Bytes) -> Output,
) {
    let mut buffer = vec![0; FRAME_BYTES];
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 || to.send(frame(Bytes::copy_from_slice(&buffer[..count]))).await.is_err() {
            return;
        }
    }
}

async fn write(
    mut to: impl AsyncWrite + Unpin,
    mut from: mpsc::Receiver<Input>,
    resize: impl Fn(Size),
) {
    while let Some(input) = from.recv().await {
        match input {
            Input::Bytes(bytes) => {
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Input::Resize(size) => resize(size),
            Input::End => return,
        }
    }
}
