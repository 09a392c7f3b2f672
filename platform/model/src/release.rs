//! Releases, deployments and instances.

use serde::{Deserialize, Serialize};

use crate::{AppId, DeploymentId, Digest, Manifest, PrincipalId, ReleaseId};

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
    /// Why it failed, for people.
    pub error: Option<String>,
    /// Unix milliseconds.
    pub created_at_ms: i64,
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
