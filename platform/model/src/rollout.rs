//! What an app's instances and deployments do next.
//!
//! Takes what is wanted of one app and what is seen of it, gives the smallest next steps. Pure:
//! the time is passed in, nothing is remembered between calls, so that the same function serves a
//! deployment, a scale, a restart, a stop and the clearing up after a crash. Each step is safe to
//! take twice. States only go forward; what failed is replaced, never revived.
//!
//! `new instances ready -> durable switch -> router acknowledges -> old ones are watched, drained,
//! stopped` holds for every change: an instance that the router may still know is never stopped.
//! A process that mounts a volume is the exception of the order, not of the drain: its old instance
//! leaves the table, is drained and stopped, and only then its new one starts.

mod alone;
mod bring;
mod planner;
mod seen;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    AppId, AppSettings, Deployment, DeploymentId, DeploymentState, InstanceId, InstanceRecord,
    InstanceState, ProcessName, Release, ReleaseId, Runtime, Target, TargetAddress,
};

/// The process type that gets requests.
pub const WEB: &str = "web";

/// Every deadline of a deployment, in milliseconds unless its name says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// Layers must be on the host after this.
    pub fetch_ms_max: u32,
    /// The release phase is killed after this.
    pub release_phase_ms_max: u32,
    /// Containers must have started after this.
    pub start_ms_max: u32,
    /// Instances must be ready after this.
    pub check_ms_max: u32,
    /// The first probe waits this long.
    pub probe_first_ms: u32,
    /// Probes are never further apart.
    pub probe_pause_ms_max: u32,
    /// One probe takes no longer.
    pub probe_ms_max: u32,
    /// Whoever waits for an instance is told why after this, and again whenever the wait has
    /// doubled.
    pub wait_note_ms: u32,
    /// A process without a port is ready when it ran this long.
    pub alive_ms: u32,
    /// The new release is watched this long after the switch, with the old one kept.
    pub monitor_ms: u32,
    /// Requests in flight on an instance that left the table may take this long.
    pub drain_ms_max: u32,
    /// SIGKILL follows SIGTERM after this.
    pub stop_ms_max: u32,
    /// Ends of one slot's process that a deployment bears before it fails; this one fails it.
    pub exits_max: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            fetch_ms_max: 600_000,
            release_phase_ms_max: 3_600_000,
            start_ms_max: 60_000,
            check_ms_max: 60_000,
            probe_first_ms: 10,
            probe_pause_ms_max: 1000,
            probe_ms_max: 5000,
            wait_note_ms: 5000,
            alive_ms: 1000,
            monitor_ms: 10_000,
            drain_ms_max: 30_000,
            stop_ms_max: 30_000,
            exits_max: 3,
        }
    }
}

/// How many instances of which processes a release runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formation {
    /// The release.
    pub release: ReleaseId,
    /// Instances per process.
    pub processes: BTreeMap<ProcessName, u16>,
    /// It has a release phase.
    pub phase: bool,
    /// It is loaded into the Wasm worker: no container, no layers, one target.
    pub wasm: bool,
}

impl Formation {
    /// The formation of `release` under the app's settings. `formation` of app.json replaces the
    /// scale; a Wasm app has one target, whatever its scale, as it keeps nothing resident.
    pub fn of(release: &Release, settings: &AppSettings) -> Self {
        let manifest = &release.manifest;
        let wasm = matches!(manifest.runtime, Runtime::Wasm { .. });
        let count = |process: &ProcessName| {
            let count = manifest.formation.get(process).copied();
            let count = count.unwrap_or_else(|| settings.wanted(process));
            if wasm { count.min(1) } else { count }
        };
        Self {
            release: release.id,
            processes: manifest.processes.keys().map(|name| (name.clone(), count(name))).collect(),
            phase: manifest.release.is_some() && !wasm,
            wasm,
        }
    }
}

/// A deployment that is not finished, with what it brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// The deployment.
    pub deployment: Deployment,
    /// What its release runs.
    pub formation: Formation,
}

/// What is wanted of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The app.
    pub app: AppId,
    /// No instances at all.
    pub stopped: bool,
    /// `AppSettings::restarts`.
    pub restarts: u64,
    /// Processes that mount a volume. Of each of them one instance runs at most, of whatever
    /// release: the old one is gone before the new one starts.
    pub alone: BTreeSet<ProcessName>,
    /// The release of `App::current_release`.
    pub current: Option<Formation>,
    /// Deployments that are not finished, oldest first.
    pub deployments: Vec<Rollout>,
    /// Deadlines.
    pub timeouts: Timeouts,
}

/// What is seen of an app.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Now, Unix milliseconds, from a clock that does not jump while the process lives.
    pub now_ms: i64,
    /// When this process began to look: time in which nobody looked counts for no deadline.
    pub began_ms: i64,
    /// The stored instances.
    pub instances: Vec<InstanceRecord>,
    /// Containers and loaded Wasm apps by instance, read after the rows were.
    pub containers: BTreeMap<InstanceId, Container>,
    /// Targets in the newest table that the router acknowledged.
    pub served: Option<BTreeSet<InstanceId>>,
    /// Instances outside the table without a request in flight.
    pub drained: BTreeSet<InstanceId>,
    /// All layers of the deployment's release are on the host.
    pub fetched: bool,
    /// Why they could not be brought there.
    pub fetch_error: Option<String>,
    /// One-off commands that a session of this process takes care of.
    pub held: BTreeSet<InstanceId>,
    /// Instances whose `Stop` is under way in this process.
    pub ending: BTreeSet<InstanceId>,
    /// No new instance before this, because earlier ones could not be started; Unix milliseconds.
    pub hold_until_ms: i64,
}

/// A container as its host tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Where it stands.
    pub phase: Phase,
    /// Which start of its process, from 1.
    pub attempt: u32,
    /// How the last attempt ended.
    pub exit_code: Option<i32>,
    /// How long this attempt runs.
    pub running_ms: u64,
    /// Where it is reached.
    pub address: Option<TargetAddress>,
}

/// Where a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Being made.
    Starting,
    /// Its main process runs.
    Running,
    /// Its main process ended and will be started again.
    Waiting,
    /// It ended for good.
    Exited,
}

/// How an instance row ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// `Stopped` or `Failed`.
    pub state: InstanceState,
    /// Exit code, where its process ended by itself.
    pub exit_code: Option<i32>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Why a deployment failed. The caller adds what only the host knows: ports, log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Layers could not be brought to the host.
    Fetch(String),
    /// The release phase ended with a code other than 0, or could not be started.
    ReleasePhase(InstanceId),
    /// The release phase was started and nothing is known of its end; it is not run again.
    ReleasePhaseLost(InstanceId),
    /// An instance could not be started, or was lost, too often.
    NotStarted(InstanceId),
    /// An instance's process ended too often.
    Exited(InstanceId),
    /// Instances did not start in time.
    StartDeadline,
    /// Instances were not ready in time.
    NotReady(Vec<InstanceId>),
    /// An instance ended while it was watched after the switch.
    Watch(InstanceId),
}

/// One next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Move a deployment forward; `Superseded` and `Done` end it.
    Advance(DeploymentId, DeploymentState),
    /// Bring the layers of the deployment's release to the host.
    FetchLayers(DeploymentId),
    /// Write the row of the release phase's run, then start it.
    StartReleasePhase(DeploymentId),
    /// Write the row of a new instance, then start it.
    StartInstance {
        /// What it runs.
        release: ReleaseId,
        /// Which process.
        process: ProcessName,
        /// Which slot of it.
        slot: u16,
        /// The deployment it belongs to.
        deployment: Option<DeploymentId>,
    },
    /// The row is there and the host does not know it: start it under its id.
    Resume(InstanceId),
    /// The host runs it: the row becomes `Running` and gets its address.
    Adopt(InstanceId),
    /// Find out whether it answers; then it is `Ready` and answering.
    Probe(InstanceId),
    /// A process without a port ran long enough: it is `Ready`.
    Ready(InstanceId),
    /// Its process ended after it was ready: it is not answering until it passes a probe again.
    Silence(InstanceId),
    /// The durable switch of a deployment.
    Switch(DeploymentId),
    /// Publish the routes and wait for the router's acknowledgement.
    Publish,
    /// The row becomes `Draining`: it leaves the table, what is in flight may go on until then.
    Drain {
        /// Which.
        instance: InstanceId,
        /// Unix milliseconds.
        until_ms: i64,
    },
    /// End it and everything of it, then write how it ended. Fine when it is gone already.
    Stop {
        /// Which.
        instance: InstanceId,
        /// SIGKILL after this.
        grace_ms: u32,
        /// What the row becomes.
        ending: Ending,
    },
    /// No table has it any more: its address may be given out again.
    FreeAddress(InstanceId),
    /// The deployment failed; what served goes on.
    Fail(DeploymentId, Failure),
    /// The deployment failed under watch: end it and queue the previous release.
    RollBack(DeploymentId, Failure),
    /// Nothing to do before this time, unless something changes; Unix milliseconds.
    Wait {
        /// When to look again.
        until_ms: i64,
    },
}

/// The targets of an app: its current release's web instances that answer, by id.
pub fn targets(current: Option<ReleaseId>, instances: &[InstanceRecord]) -> Vec<Target> {
    let mut targets: Vec<_> = instances
        .iter()
        .filter(|row| row.state == InstanceState::Ready && row.answering.is_some())
        .filter(|row| row.process.as_str() == WEB && row.role == crate::InstanceRole::Instance)
        .filter(|row| Some(row.release) == current)
        .filter_map(|row| Some(Target { instance: row.id, address: row.address.clone()? }))
        .collect();
    targets.sort_by_key(|target| target.instance);
    targets
}

/// The next steps, in the order in which they are to be taken. Empty, or a single `Wait`, means
/// that the app is as it is wanted, or that a step taken earlier has yet to show its effect.
pub fn plan(wanted: &Wanted, observed: &Observed) -> Vec<Step> {
    planner::Planner::new(wanted, observed).plan()
}
