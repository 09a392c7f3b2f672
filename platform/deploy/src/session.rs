//! Commands beside the instances: `run`, `run --detached` and `exec`.
//!
//! An attached command runs in a container of its own whose main process idles, so that its
//! streams are the caller's descriptors and its end ends the container; a detached one is the main
//! process, and its output goes to the log. Rows are written before anything is started. A
//! session that is dropped, or whose platform is killed, ends its command.

mod streams;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use berth_container::{ContainerState, Exit, Payload, Reply, Request, Session, Terminal};
use berth_model::rollout::WEB;
use berth_model::{
    AppId, InstanceId, InstanceRecord, InstanceRole, InstanceState, ProcessName, Release, Runtime,
};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::new_instance_id;
use crate::drivers::embedded::payload_descriptor;
use crate::drivers::environment::payload;
use crate::drivers::{Driver, Order, StartError, WasmHost};
use crate::error::DeployError;
use crate::reconciler::{Reconciler, Shared};
use crate::records::{Launch, Records, Snapshot};

pub use streams::{Master, Streams};

/// Longest time of a command, milliseconds: a day.
pub const TIME_MS_MAX: u32 = 86_400_000;
/// The platform's init in every container, as a process that only waits.
const IDLE: [&str; 2] = ["/.berth/init", "--idle"];

/// What is to run.
#[derive(Clone)]
pub struct Command {
    /// Argument vector; the first is looked up in the container's PATH.
    pub argv: Vec<String>,
    /// Variables above the release's environment: `TERM`.
    pub env: Vec<(String, String)>,
    /// With a terminal of this size; else with three pipes.
    pub tty: Option<Terminal>,
    /// Killed after this, milliseconds; at most [`TIME_MS_MAX`].
    pub time_ms_max: u32,
}

/// A command that runs, and its streams.
pub struct Attached {
    /// The container it runs in.
    pub instance: InstanceId,
    streams: Streams,
    end: oneshot::Receiver<Result<Exit, DeployError>>,
    /// Dropped, it ends the command.
    cancel: DropGuard,
}

impl Attached {
    /// The parts: the streams, and what waits for the end; dropped, it ends the command. The
    /// streams may hold more to read after the end. Errors: the container or the agent was lost.
    pub fn split(self) -> (Streams, impl Future<Output = Result<Exit, DeployError>> + Send) {
        let Self { instance, streams, end, cancel } = self;
        let wait = async move {
            let exit = end.await.unwrap_or(Err(DeployError::Ended { instance }));
            drop(cancel);
            exit
        };
        (streams, wait)
    }
}

/// The row of a one-off command and what its container is started from.
struct Planned {
    snapshot: Snapshot,
    release: Release,
    launch: Launch,
    record: InstanceRecord,
}

impl Planned {
    fn order(&self) -> Order<'_> {
        let Self { snapshot, release, launch, record } = self;
        Order { record, app: &snapshot.app, release, launch, volumes: &snapshot.volumes }
    }

    /// The command with the release's environment, in the web process's folder.
    fn payload(&self, command: Command) -> Payload {
        let mut processes = self.release.manifest.processes.iter();
        let web = processes.find(|(name, _)| name.as_str() == WEB);
        let folder = web.map_or("/workspace", |(_, process)| &process.working_dir);
        payload(self.order(), command.argv, folder, &command.env)
    }
}

/// Keeps the planner from a command that a session looks after.
struct Held<R, W> {
    shared: Arc<Shared<R, W>>,
    instance: InstanceId,
}

impl<R, W> Held<R, W> {
    fn new(shared: &Arc<Shared<R, W>>, instance: InstanceId) -> Self {
        shared.held().insert(instance);
        Self { shared: Arc::clone(shared), instance }
    }
}

impl<R, W> Drop for Held<R, W> {
    fn drop(&mut self) {
        self.shared.held().remove(&self.instance);
    }
}

impl<R: Records, W: WasmHost> Reconciler<R, W> {
    /// Runs a command in a new container of the app's current release, with its streams.
    ///
    /// # Errors
    /// No app, no release, an empty command, too many commands at one time, the agent.
    pub async fn run(&self, app: AppId, command: Command) -> Result<Attached, DeployError> {
        let mut planned = self.plan_run(app, InstanceRole::Run, &command).await?;
        let held = Held::new(&self.shared, planned.record.id);
        self.shared.records.put_instance(&planned.record).await?;
        let idle = Command {
            argv: IDLE.map(str::to_owned).to_vec(),
            env: Vec::new(),
            tty: None,
            time_ms_max: 0,
        };
        let idle = planned.payload(idle);
        // A little more than the command: whichever ends it first, its exit says `timed out`.
        let time_ms_max = command.time_ms_max.min(TIME_MS_MAX - 10_000) + 10_000;
        self.start_run(&mut planned, &idle, time_ms_max).await?;
        let instance = planned.record.id;
        let (tty, time_ms_max) = (command.tty, command.time_ms_max.min(TIME_MS_MAX));
        let payload = planned.payload(command);
        match self.exec_in(instance, tty, time_ms_max, &payload).await {
            Ok((streams, session)) => {
                let container = Some((held, planned.record));
                Ok(self.attach(instance, streams, session, container))
            }
            Err(error) => {
                self.end_run(planned.record, None).await;
                drop(held);
                Err(error)
            }
        }
    }

    /// Runs a command in a new container that goes on without its caller, its output in the log.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_detached(
        &self,
        app: AppId,
        command: Command,
    ) -> Result<InstanceRecord, DeployError> {
        let mut planned = self.plan_run(app, InstanceRole::Detached, &command).await?;
        let held = Held::new(&self.shared, planned.record.id);
        self.shared.records.put_instance(&planned.record).await?;
        let time_ms_max = command.time_ms_max.min(TIME_MS_MAX);
        let payload = planned.payload(command);
        self.start_run(&mut planned, &payload, time_ms_max).await?;
        drop(held);
        self.wake(app);
        Ok(planned.record)
    }

    /// Runs a command in an instance that runs; `label` names it (`web.1`), without one the first.
    ///
    /// # Errors
    /// No such instance runs, an empty command, the agent.
    pub async fn exec(
        &self,
        app: AppId,
        label: Option<&str>,
        command: Command,
    ) -> Result<Attached, DeployError> {
        if command.argv.is_empty() {
            return Err(DeployError::EmptyCommand);
        }
        let snapshot = self.snapshot(app).await?;
        let (release, record) = self.find_running(&snapshot, label).await?;
        let launch = self.shared.records.launch(release.id).await?;
        let instance = record.id;
        let (tty, time_ms_max) = (command.tty, command.time_ms_max.min(TIME_MS_MAX));
        let planned = Planned { snapshot, release, launch, record };
        let payload = planned.payload(command);
        let (streams, session) = self.exec_in(instance, tty, time_ms_max, &payload).await?;
        Ok(self.attach(instance, streams, session, None))
    }

    async fn snapshot(&self, app: AppId) -> Result<Snapshot, DeployError> {
        self.shared.records.snapshot(app).await?.ok_or(DeployError::NoApp { app })
    }

    async fn find_running(
        &self,
        snapshot: &Snapshot,
        label: Option<&str>,
    ) -> Result<(Release, InstanceRecord), DeployError> {
        let statuses = self.shared.embedded.statuses().await?;
        let runs = |row: &InstanceRecord| {
            let own = statuses.iter().find(|status| status.instance == row.id);
            own.is_some_and(|status| status.state == ContainerState::Running)
        };
        let release = snapshot.current.clone();
        let release = release.ok_or(DeployError::NoRelease { app: snapshot.app.id })?;
        if matches!(release.manifest.runtime, Runtime::Wasm { .. }) {
            return Err(DeployError::NoCommands { release: release.id });
        }
        let mut rows: Vec<_> = snapshot
            .instances
            .iter()
            .filter(|row| row.role == InstanceRole::Instance && row.release == release.id)
            .filter(|row| row.state < InstanceState::Draining && runs(row))
            .filter(|row| label.is_none_or(|label| row.label() == label))
            .collect();
        rows.sort_by_key(|row| (row.process.as_str() != "web", row.slot, row.id));
        let label = label.unwrap_or("at all").to_owned();
        let row = rows.first().ok_or(DeployError::NotRunning { label })?;
        Ok((release, (*row).clone()))
    }

    async fn plan_run(
        &self,
        app: AppId,
        role: InstanceRole,
        command: &Command,
    ) -> Result<Planned, DeployError> {
        if command.argv.is_empty() {
            return Err(DeployError::EmptyCommand);
        }
        let snapshot = self.snapshot(app).await?;
        let release = snapshot.current.clone().ok_or(DeployError::NoRelease { app })?;
        if matches!(release.manifest.runtime, Runtime::Wasm { .. }) {
            return Err(DeployError::NoCommands { release: release.id });
        }
        let launch = self.shared.records.launch(release.id).await?;
        let used: BTreeSet<u16> = snapshot
            .instances
            .iter()
            .filter(|row| matches!(row.role, InstanceRole::Run | InstanceRole::Detached))
            .filter(|row| !row.state.is_terminal())
            .map(|row| row.slot)
            .collect();
        let max = self.shared.settings.runs_max;
        if used.len() >= max {
            return Err(DeployError::TooManyRuns { max });
        }
        let slot = (1..).find(|slot| !used.contains(slot)).unwrap_or(1);
        let process: ProcessName = "run".parse().map_err(crate::error::name)?;
        let record = InstanceRecord {
            id: new_instance_id()?,
            app,
            release: release.id,
            deployment: None,
            process,
            slot,
            role,
            restarts: snapshot.app.settings.restarts,
            state: InstanceState::Planned,
            address: None,
            answering: None,
            exit_code: None,
            error: None,
            created_at_ms: self.shared.clock.now_ms(),
            ready_at_ms: None,
            draining_at_ms: None,
            stopped_at_ms: None,
        };
        Ok(Planned { snapshot, release, launch, record })
    }

    /// Starts the container of a row that is written.
    async fn start_run(
        &self,
        planned: &mut Planned,
        payload: &Payload,
        time_ms_max: u32,
    ) -> Result<(), DeployError> {
        let started = self.shared.embedded.start_with(planned.order(), payload, time_ms_max).await;
        let error = match started {
            Ok(address) => {
                planned.record.state = InstanceState::Running;
                planned.record.address = address;
                return Ok(self.shared.records.put_instance(&planned.record).await?);
            }
            Err(StartError::Unknown(error)) => error,
            Err(StartError::Refused(reason)) => {
                DeployError::Refused { label: planned.record.label(), reason }
            }
            Err(StartError::Used) => DeployError::Refused {
                label: planned.record.label(),
                reason: format!("{} was used before", planned.record.id),
            },
        };
        self.end_run(planned.record.clone(), None).await;
        Err(error)
    }

    /// Starts a command in a container and gives its streams.
    async fn exec_in(
        &self,
        instance: InstanceId,
        tty: Option<Terminal>,
        time_ms_max: u32,
        payload: &Payload,
    ) -> Result<(Streams, Session), DeployError> {
        let what = || format!("run a command in {instance}");
        let request = Request::Exec { instance, tty, time_ms_max };
        let mut descriptors = vec![payload_descriptor(payload)?];
        let agent = &self.shared.embedded.agent;
        if tty.is_none() {
            let (streams, theirs) = streams::pipes()?;
            descriptors.extend(theirs);
            let session = agent.session(&request, &descriptors).await;
            return Ok((streams, session.map_err(DeployError::agent(what()))?));
        }
        let mut session =
            agent.session(&request, &descriptors).await.map_err(DeployError::agent(what()))?;
        let (reply, mut descriptors) = session.reply().await.map_err(DeployError::agent(what()))?;
        let master: Option<OwnedFd> = descriptors.pop();
        match (reply, master) {
            (Reply::Attached {}, Some(master)) => {
                Ok((Streams::Terminal(Master::new(master)?), session))
            }
            _ => Err(DeployError::Reply { what: what() }),
        }
    }

    /// Waits for the end in a task of its own, so that a dropped session is cleared away too. What
    /// [`Self::close`] leaves is ended by the next process, as after a crash.
    fn attach(
        &self,
        instance: InstanceId,
        streams: Streams,
        mut session: Session,
        container: Option<(Held<R, W>, InstanceRecord)>,
    ) -> Attached {
        let cancel = CancellationToken::new();
        let (tell, end) = oneshot::channel();
        let (this, cancelled) = (self.clone(), cancel.clone());
        let work = async move {
            let ended = cancelled.run_until_cancelled(session.reply()).await;
            drop(session);
            let result = match ended {
                Some(Ok((Reply::Exited(exit), _))) => Ok(exit),
                Some(Ok(_)) => Err(DeployError::Reply { what: format!("wait for {instance}") }),
                Some(Err(source)) => {
                    let what = format!("run a command in {instance}");
                    Err(DeployError::Agent { what, source })
                }
                None => Err(DeployError::Ended { instance }),
            };
            let exit_code = result.as_ref().ok().map(|exit| exit.code);
            let _ = tell.send(result);
            if let Some((held, record)) = container {
                this.end_run(record, exit_code).await;
                drop(held);
            }
        };
        let closing = self.shared.closing.clone();
        self.shared.tasks.spawn(async move { closing.run_until_cancelled(work).await });
        Attached { instance, streams, end, cancel: cancel.drop_guard() }
    }

    /// Ends a command's container and its row. What fails here is done by the next look at the
    /// app, as nobody holds the command any more.
    async fn end_run(&self, record: InstanceRecord, exit_code: Option<i32>) {
        let grace_ms = self.shared.settings.run_grace_ms;
        let ended = async {
            self.shared.embedded.stop(record.id, grace_ms).await?;
            let record = InstanceRecord {
                state: InstanceState::Stopped,
                exit_code,
                stopped_at_ms: Some(self.shared.clock.now_ms()),
                ..record.clone()
            };
            self.shared.records.put_instance(&record).await.map_err(DeployError::from)
        };
        if let Err(error) = ended.await {
            tracing::warn!(instance = %record.id, "a command's container is left: {error}");
        }
        self.wake(record.app);
    }
}
