//! Instances, scale, logs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceView {
    /// Its id.
    pub id: String,
    /// Its name: `web.1`.
    pub name: String,
    /// Process type.
    pub process: String,
    /// `instance`, `release`, `run` or `detached`.
    pub role: String,
    /// Where it stands.
    pub state: String,
    /// Release that it runs.
    pub release: u64,
    /// Which start of its process.
    pub attempt: u32,
    /// Exit code of its last attempt.
    pub exit_code: Option<i32>,
    /// Why it failed.
    pub error: Option<String>,
    /// Memory in use, bytes.
    pub memory_bytes: Option<u64>,
    /// When it was created.
    pub created_at: Timestamp,
}

/// Changes the scale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Instances per process; others stay as they are.
    pub processes: BTreeMap<String, u16>,
}

/// One line of an app's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// When it was written.
    pub at: Timestamp,
    /// `web.1`, `run.1`.
    pub source: String,
    /// Instance that wrote it; with `seq` it is the id of the line.
    pub instance: String,
    /// Position within the instance.
    pub seq: u64,
    /// `stdout`, `stderr` or `system`.
    pub stream: String,
    /// The text.
    pub line: String,
}
