//! Instances of an app's processes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// One placement of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceView {
    /// Its id.
    pub id: String,
    /// Its name for people: `web.1`. Old and new instances share it while one replaces the other.
    pub name: String,
    /// The process type.
    pub process: String,
    /// 1, 2, 3… within the process.
    pub slot: u16,
    /// Number of the release that it runs.
    pub release: u64,
    /// `planned`, `fetching`, `created`, `running`, `ready`, `draining`, `stopped` or `failed`.
    pub state: String,
    /// Gets requests.
    pub answering: bool,
    /// Exit code of its last attempt, when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it was created.
    pub created_at: Time,
    /// When it first passed its check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Time>,
}

/// How many instances of which process run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProcessView {
    /// The process type.
    pub process: String,
    /// How many instances are wanted.
    pub wanted: u16,
    /// How many are ready.
    pub ready: u16,
    /// What it runs.
    pub command: Vec<String>,
}

/// An app's processes and their instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Instances {
    /// Process types of the release that serves.
    pub processes: Vec<ProcessView>,
    /// Instances that are not gone, by name.
    pub items: Vec<InstanceView>,
}

/// How many instances of each process should run; processes that are absent stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Instances by process type.
    #[schema(example = json!({"web": 2, "worker": 1}))]
    pub processes: BTreeMap<String, u16>,
}
