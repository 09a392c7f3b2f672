//! What a change would do.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A change of an app to plan: exactly one of these. Its `Debug` form does not show values.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PlanChange {
    /// As `ps scale`.
    Scale(BTreeMap<String, u16>),
    /// As `config set` and `config unset`.
    Config {
        /// Values to set, by name.
        #[serde(default)]
        set: BTreeMap<String, String>,
        /// Names to remove.
        #[serde(default)]
        unset: Vec<String>,
        /// Keep the change for the next release.
        #[serde(default)]
        no_restart: bool,
    },
    /// As `releases rollback`.
    Rollback {
        /// Number of the release; the one that served before the current when absent.
        #[serde(default)]
        release: Option<u64>,
    },
    /// As `domains add`.
    AddDomain(String),
    /// As `domains remove`.
    RemoveDomain(String),
    /// As `apps rename`.
    Rename(String),
    /// As `ps restart`.
    Restart {},
    /// As `ps stop`.
    Stop {},
    /// As `ps start`.
    Start {},
    /// As `apps destroy`.
    Destroy {},
}

impl fmt::Debug for PlanChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Scale(_) => "Scale",
            Self::Config { .. } => "Config",
            Self::Rollback { .. } => "Rollback",
            Self::AddDomain(_) => "AddDomain",
            Self::RemoveDomain(_) => "RemoveDomain",
            Self::Rename(_) => "Rename",
            Self::Restart {} => "Restart",
            Self::Stop {} => "Stop",
            Self::Start {} => "Start",
            Self::Destroy {} => "Destroy",
        };
        f.write_str(kind)
    }
}

/// What a change would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    /// Version of the form of `changes`.
    pub version: u32,
    /// The app's generation that the plan was made on.
    pub generation: u64,
    /// In order; empty when everything is so already.
    pub changes: Vec<PlannedChange>,
}

/// One thing that would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedChange {
    /// What is done: `scale`, `set_config`, `create_release`…
    pub kind: String,
    /// For people; secrets are not in it.
    pub text: String,
    /// What is lost by it cannot be had back.
    pub destructive: bool,
}
