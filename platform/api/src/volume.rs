//! Volumes of an app.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// A folder of an app that outlives its instances and releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeView {
    /// Its id.
    pub id: String,
    /// Its name, unique in the app.
    pub name: String,
    /// The app that owns it.
    pub app: String,
    /// The process type that mounts it; it runs once, and is stopped before its successor starts.
    pub process: String,
    /// Where the process finds it.
    pub path: String,
    /// What it may hold, MiB.
    pub size_mib: u32,
    /// What it takes on the machine's disk, bytes; absent until an instance first had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    /// Id of the instance that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Makes a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVolume {
    /// Its name: lower-case letters, digits and hyphens.
    pub name: String,
    /// Where the process finds it: an absolute path.
    pub path: String,
    /// The process type that mounts it; `web` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// What it may hold, MiB; 1024 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_mib: Option<u32>,
    /// Leave what runs as it is: the next instance has it.
    #[serde(default)]
    pub no_restart: bool,
}
