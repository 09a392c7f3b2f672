//! Releases, deployments and plans.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// A release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseView {
    /// Its id.
    pub id: String,
    /// 1, 2, 3…
    pub number: u64,
    /// Whether it runs.
    pub current: bool,
    /// Digest of its image.
    pub image: String,
    /// Version of its configuration.
    pub config_version: u64,
    /// Commit that it was built from.
    pub commit: String,
    /// Why it exists.
    pub reason: String,
    /// Who made it.
    pub actor: String,
    /// What it runs.
    #[schema(value_type = Object)]
    pub manifest: berth_model::Manifest,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What differs between two releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseDiff {
    /// The first.
    pub from: u64,
    /// The second.
    pub to: u64,
    /// What differs; values of the configuration are not shown.
    pub changes: Vec<Difference>,
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// What: `image`, `config GREETING`, `process web`.
    pub what: String,
    /// In the first release.
    pub from: Option<String>,
    /// In the second release.
    pub to: Option<String>,
}

/// Rolls back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// Number of the release to bring back; the one before the current where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<u64>,
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentView {
    /// Its id.
    pub id: String,
    /// Number of the release that it brings.
    pub release: u64,
    /// Where it stands.
    pub state: String,
    /// Whether it is over.
    pub finished: bool,
    /// Whether its release answers requests.
    pub switched: bool,
    /// Why it failed.
    pub error: Option<String>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// What a change would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    /// Version of this shape.
    pub version: u32,
    /// Generation of the app that it was planned on.
    pub generation: u64,
    /// What would change, in order, in words.
    pub changes: Vec<String>,
    /// Which policy would not allow it, and why.
    pub denied: Option<String>,
}

/// A change to be planned, not made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "change", deny_unknown_fields)]
pub enum PlanRequest {
    /// `ps scale`.
    Scale {
        /// Instances per process.
        processes: std::collections::BTreeMap<String, u16>,
    },
    /// `config set` and `config unset`; values are not needed to plan.
    Config {
        /// Names that would be set.
        set: Vec<String>,
        /// Names that would be removed.
        unset: Vec<String>,
    },
    /// `releases rollback`.
    Rollback {
        /// Number of the release.
        release: u64,
    },
    /// `apps destroy`.
    Destroy {},
}
