//! Releases, deployments and instances.

use serde::{Deserialize, Serialize};

use crate::{
    AppId, DeploymentId, Digest, InstanceId, Manifest, PrincipalId, ProcessName, ReleaseId,
    TargetAddress,
};

/// What runs, fixed: image, manifest and configuration. Immutable once its row is written, which
/// is the point of no return of a push. It has no state: deployments have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its id.
    pub id: ReleaseId,
    /// The app.
    pub app: AppId,
    /// 1, 2, 3… within the app.
    pub number: u64,
    /// Digest of the image.
    pub image: Digest,
    /// What it runs.
    pub manifest: Manifest,
    /// Version of the app's configuration.
    pub config_version: u64,
    /// Commit that it was built from.
    pub commit: String,
    /// Why it exists: `Deploy 1a2b3c4`, `Set GREETING config`, `Rollback to v3`.
    pub reason: String,
    /// Who made it.
    pub actor: PrincipalId,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// A release becoming what runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// The app.
    pub app: AppId,
    /// The release that it brings.
    pub release: ReleaseId,
    /// Where it stands.
    pub state: DeploymentState,
    /// An automatic rollback; it is never rolled back itself.
    #[serde(default)]
    pub rollback: bool,
    /// The release that served when this one was switched to; set by the switch.
    #[serde(default)]
    pub previous: Option<ReleaseId>,
    /// Why it failed, for people.
    pub error: Option<String>,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// When it came to its state, Unix milliseconds.
    #[serde(default)]
    pub changed_at_ms: i64,
    /// Unix milliseconds; set with the terminal state.
    pub finished_at_ms: Option<i64>,
}

/// Where a deployment stands; it only goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentState {
    /// Waits for its turn.
    Queued,
    /// Layers are brought to the host.
    Fetching,
    /// The release phase runs.
    Releasing,
    /// Instances are created.
    Starting,
    /// Instances must show that they are ready.
    Checking,
    /// The router is given the new targets.
    Switching,
    /// The new instances are watched while the old ones are kept.
    Monitoring,
    /// The release runs.
    Done,
    /// It did not come to run; the release before it still does.
    Failed,
    /// A later deployment took its place.
    Superseded,
    /// Its release failed under watch and the one before it was brought back.
    RolledBack,
}

impl DeploymentState {
    /// Every state, in order.
    pub const ALL: [Self; 11] = [
        Self::Queued,
        Self::Fetching,
        Self::Releasing,
        Self::Starting,
        Self::Checking,
        Self::Switching,
        Self::Monitoring,
        Self::Done,
        Self::Failed,
        Self::Superseded,
        Self::RolledBack,
    ];

    /// Whether the state is final.
    pub fn is_terminal(self) -> bool {
        self >= Self::Done
    }

    /// Whether the new release answers requests.
    pub fn is_switched(self) -> bool {
        matches!(self, Self::Monitoring | Self::Done)
    }

    /// Whether `next` may follow: forward, and never out of a final state.
    pub fn may_become(self, next: Self) -> bool {
        !self.is_terminal() && next > self
    }

    /// The text form used in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Fetching => "fetching",
            Self::Releasing => "releasing",
            Self::Starting => "starting",
            Self::Checking => "checking",
            Self::Switching => "switching",
            Self::Monitoring => "monitoring",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// Where one instance stands; it only goes forward. A restart is a new attempt of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Wanted, nothing done yet.
    Planned,
    /// Its layers are brought to the host.
    Fetching,
    /// Its container exists.
    Created,
    /// Its process runs.
    Running,
    /// It passed its check.
    Ready,
    /// It gets no new requests.
    Draining,
    /// It ended as asked.
    Stopped,
    /// It ended by itself, or never came to run.
    Failed,
}

impl InstanceState {
    /// Every state, in order.
    pub const ALL: [Self; 8] = [
        Self::Planned,
        Self::Fetching,
        Self::Created,
        Self::Running,
        Self::Ready,
        Self::Draining,
        Self::Stopped,
        Self::Failed,
    ];

    /// Whether the state is final: nothing of the instance is left but its logs.
    pub fn is_terminal(self) -> bool {
        self >= Self::Stopped
    }

    /// The text form used in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Fetching => "fetching",
            Self::Created => "created",
            Self::Running => "running",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// What an instance is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceRole {
    /// One of a process's instances; kept running.
    Instance,
    /// The release phase of a release; runs at most once.
    Release,
    /// A one-off command that ends with its client.
    Run,
    /// A one-off command that goes on without its client.
    Detached,
}

impl InstanceRole {
    /// The text form used in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Release => "release",
            Self::Run => "run",
            Self::Detached => "detached",
        }
    }
}

/// An instance as it is stored. The row is written before anything is started under its id, so
/// that what a crash left behind is always found again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// Its id; never used again.
    pub id: InstanceId,
    /// The app.
    pub app: AppId,
    /// What it runs.
    pub release: ReleaseId,
    /// The deployment that created it; its failures count against that deployment.
    pub deployment: Option<DeploymentId>,
    /// The process type; `release` for a release phase, `run` for a one-off command.
    pub process: ProcessName,
    /// 1, 2, 3… within the process: `web.1`.
    pub slot: u16,
    /// What it is for.
    pub role: InstanceRole,
    /// `AppSettings::restarts` when it was created; a lower value than the app's is replaced.
    pub restarts: u64,
    /// Where it stands; it only goes forward.
    pub state: InstanceState,
    /// Where it listens, from its start until the address may be given out again.
    pub address: Option<TargetAddress>,
    /// The attempt of its process that passed the check and still runs; only such an instance
    /// gets requests.
    pub answering: Option<u32>,
    /// Exit code of its last attempt, with the terminal state.
    pub exit_code: Option<i32>,
    /// Why it failed, for people.
    pub error: Option<String>,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Unix milliseconds; when it first passed its check.
    pub ready_at_ms: Option<i64>,
    /// Unix milliseconds; when it got no new requests any more.
    pub draining_at_ms: Option<i64>,
    /// Unix milliseconds; set with the terminal state.
    pub stopped_at_ms: Option<i64>,
}

impl InstanceRecord {
    /// Its name for people: `web.1`.
    pub fn label(&self) -> String {
        format!("{}.{}", self.process, self.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_never_goes_back_and_never_leaves_a_final_state() {
        for from in DeploymentState::ALL {
            for to in DeploymentState::ALL {
                let may = from.may_become(to);
                assert_eq!(may, !from.is_terminal() && to > from, "{from:?} -> {to:?}");
            }
        }
    }
}
