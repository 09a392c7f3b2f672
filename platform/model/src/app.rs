//! An app: the thing people push to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::addon::{Addon, Link};
use crate::{AppId, AppName, ProcessName, ReleaseId, TeamId};

/// An app as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Its id; never used again.
    pub id: AppId,
    /// Its name, unique on the platform.
    pub name: AppName,
    /// The team that owns it.
    pub team: TeamId,
    /// The block of user ids its containers run in; given again only after the app is destroyed.
    pub block: u16,
    /// State that is not part of a release.
    pub settings: AppSettings,
    /// The release that runs, or last ran.
    pub current_release: Option<ReleaseId>,
    /// Rises by one with each change of the app; every change names the value it was planned on.
    pub generation: u64,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// App state with a generation of its own: it applies to the next release as to this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct AppSettings {
    /// Branch whose pushes deploy; the first pushed branch becomes it.
    pub deploy_branch: Option<String>,
    /// Instances per process; a process that is absent runs once if it is `web`, else not at all.
    pub scale: BTreeMap<ProcessName, u16>,
    /// Stopped by its owner: no instances, the router answers 503 `stopped`.
    pub stopped: bool,
    /// Rises with each `ps restart`: instances created under a lower value are replaced by new
    /// ones of the same release, the new ones first.
    pub restarts: u64,
    /// Limits of each instance, per process.
    pub limits: BTreeMap<ProcessName, Limits>,
    /// What kind of add-on it is; nothing for an app that people push to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addon: Option<Addon>,
    /// Add-ons that its instances reach.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<AppId, Link>,
}

impl AppSettings {
    /// How many instances of `process` are wanted while the app is not stopped.
    pub fn wanted(&self, process: &ProcessName) -> u16 {
        self.scale.get(process).copied().unwrap_or(u16::from(process.as_str() == "web"))
    }
}

/// What one container may use. There is no unlimited value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Memory, swap included.
    pub memory_mib: u32,
    /// Processor time, in thousandths of one core.
    pub cpu_milli: u32,
    /// Processes and threads.
    pub pids: u32,
    /// Bytes that the container may write to its own root.
    pub disk_mib: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_mib: 512, cpu_milli: 2000, pids: 512, disk_mib: 1024 }
    }
}

impl Limits {
    /// The defaults of a build container.
    pub fn build() -> Self {
        Self { memory_mib: 2048, cpu_milli: 2000, pids: 1024, disk_mib: 8192 }
    }
}
