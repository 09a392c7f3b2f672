//! The worker's process: its listeners, its control connections and its end.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::channel::Channel;
use super::requests;
use super::values::Line;
use super::{Call, FailureCode, LoadedApp, PROTOCOL, Reply, WorkerError, WorkerStats};
use crate::aot::Code;
use crate::app::{AppConfig, AppHost, AppHostOptions, AppValues, LogSink};

/// Most connections of the router at once.
const CONNECTIONS_MAX: usize = 4096;
/// Most control connections at once.
const CONTROL_CONNECTIONS_MAX: usize = 16;
/// How often idle apps are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// How a worker runs.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Shares and sizes.
    pub host: AppHostOptions,
    /// Build id of the program, for `Hello`.
    pub build: String,
    /// User id of the control process; only it and root may call.
    pub control_uid: u32,
    /// An app's code is unmapped after so long without a request, milliseconds.
    pub idle_ms_max: u32,
    /// How long requests under way may take when the process is asked to end, milliseconds.
    pub drain_ms_max: u32,
}

/// Someone asked the process to end, and waits for it.
struct DrainAsked {
    grace: Duration,
    drained: oneshot::Sender<()>,
}

/// Runs the worker until `shutdown`, or a `Drain`, ends it. The listeners are unix stream
/// sockets that the process inherited: control, then requests.
///
/// # Errors
/// `Engine` when the pool cannot be reserved, `Listener` when a socket is of no use.
pub async fn serve(
    control: OwnedFd,
    requests: OwnedFd,
    options: WorkerOptions,
    log: Arc<dyn LogSink>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), WorkerError> {
    let control = listener(control).map_err(|error| WorkerError::Listener("control", error))?;
    let requests = listener(requests).map_err(|error| WorkerError::Listener("requests", error))?;
    let line = Arc::new(Line::default());
    let host = Arc::new(AppHost::new(options.host, log, Arc::clone(&line) as Arc<dyn AppValues>)?);
    let worker = Arc::new(Worker { host: Arc::clone(&host), options, line });
    let (drain, mut drain_asked) = mpsc::channel::<DrainAsked>(1);
    let (closing, closed) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut controls = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP);
    let idle = Duration::from_millis(u64::from(worker.options.idle_ms_max));
    let mut shutdown = std::pin::pin!(shutdown);

    let (grace, waiting) = loop {
        tokio::select! {
            accepted = requests.accept(), if connections.len() < CONNECTIONS_MAX => {
                if let Some(stream) = usable(accepted).await {
                    connections.spawn(requests::connection(stream, Arc::clone(&host), closed.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
            accepted = control.accept(), if controls.len() < CONTROL_CONNECTIONS_MAX => {
                if let Some(stream) = usable(accepted).await {
                    controls.spawn(Arc::clone(&worker).control(stream, drain.clone()));
                }
            }
            Some(_) = controls.join_next() => {}
            _ = sweep.tick() => {
                host.unmap_idle(idle);
            }
            Some(asked) = drain_asked.recv() => break (asked.grace, Some(asked.drained)),
            () = shutdown.as_mut() => {
                break (Duration::from_millis(u64::from(worker.options.drain_ms_max)), None);
            }
        }
    };
    drop(requests);
    closing.send_replace(true);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, all_ended).await.is_err() {
        tracing::warn!(left = connections.len(), "requests were cut because their grace was over");
    }
    if let Some(waiting) = waiting {
        let _ = waiting.send(());
        // The one who asked reads the reply and then closes; nobody else is waited for.
        let _ = tokio::time::timeout(Duration::from_secs(1), controls.join_next()).await;
    }
    Ok(())
}

fn listener(descriptor: OwnedFd) -> io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::from(descriptor);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// A connection that was accepted; after an error (no descriptors left), a pause.
async fn usable<A>(accepted: io::Result<(UnixStream, A)>) -> Option<UnixStream> {
    match accepted {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            tracing::warn!(%error, "a connection was not accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

struct Worker {
    host: Arc<AppHost>,
    options: WorkerOptions,
    line: Arc<Line>,
}

impl Worker {
    /// Answers the calls of one connection.
    async fn control(self: Arc<Self>, stream: UnixStream, drain: mpsc::Sender<DrainAsked>) {
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == 0 || peer.uid() == self.options.control_uid => {}
            Ok(peer) => {
                tracing::warn!(
                    uid = peer.uid(),
                    "a control connection of another user was refused"
                );
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "a control connection of an unknown user was refused");
                return;
            }
        }
        let mut channel = Channel::new(stream);
        if let Err(error) = self.calls(&mut channel, &drain).await {
            tracing::warn!(%error, "a control connection was ended");
        }
    }

    async fn calls(
        &self,
        channel: &mut Channel,
        drain: &mpsc::Sender<DrainAsked>,
    ) -> io::Result<()> {
        let mut greeted = false;
        while let Some((call, beside)) = channel.receive::<Call>().await? {
            let reply = match call {
                Call::Hello { protocol: PROTOCOL } => {
                    greeted = true;
                    Reply::Hello { protocol: PROTOCOL, build: self.options.build.clone() }
                }
                Call::Hello { protocol } => refused(format!(
                    "the Wasm worker (build {}) speaks version {PROTOCOL} of its protocol, not {protocol}",
                    self.options.build
                )),
                _ if !greeted => refused("the first call must be a hello".to_owned()),
                Call::Load(app) => self.load(*app, beside).await,
                Call::Unload { instance } => {
                    self.host.unload(instance);
                    Reply::Done {}
                }
                Call::List {} => Reply::Loaded { apps: self.loaded() },
                Call::Stats {} => Reply::Stats(WorkerStats {
                    memory_left_bytes: self.host.memory_left_bytes(),
                    apps: self.host.stats(),
                }),
                Call::Values {} => {
                    channel.send(&Reply::Done {}, None).await?;
                    return self.line.run(channel).await;
                }
                Call::Drain { grace_ms } => drained(drain, grace_ms).await,
            };
            channel.send(&reply, None).await?;
        }
        Ok(())
    }

    async fn load(&self, app: AppConfig, code: Option<OwnedFd>) -> Reply {
        let Some(code) = code else {
            return refused("the code of the app is missing".to_owned());
        };
        let host = Arc::clone(&self.host);
        // Mapping a large component takes some milliseconds.
        let loaded = tokio::task::spawn_blocking(move || host.load(app, Code::vouched_for(code)));
        match loaded.await {
            Ok(Ok(())) => Reply::Done {},
            Ok(Err(error)) => Reply::Failed { code: FailureCode::Load, message: error.to_string() },
            Err(error) => Reply::Failed { code: FailureCode::Load, message: error.to_string() },
        }
    }

    fn loaded(&self) -> Vec<LoadedApp> {
        let apps = self.host.loaded().into_iter();
        apps.map(|(instance, component)| LoadedApp { instance, component }).collect()
    }
}

async fn drained(drain: &mpsc::Sender<DrainAsked>, grace_ms: u32) -> Reply {
    let (drained, done) = oneshot::channel();
    let grace = Duration::from_millis(u64::from(grace_ms));
    // Fails only when the process ends already.
    if drain.send(DrainAsked { grace, drained }).await.is_ok() {
        let _ = done.await;
    }
    Reply::Done {}
}

fn refused(message: String) -> Reply {
    Reply::Failed { code: FailureCode::Protocol, message }
}
