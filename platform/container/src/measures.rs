//! What containers and the platform's own programs use: the answer to the verb `Measures`.

use berth_model::{AppId, InstanceId};
use serde::{Deserialize, Serialize};

use crate::wire::Role;

/// Most containers in one answer; the oldest are told.
pub const MEASURED_MAX: usize = 4096;

/// Everything that is measured at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measures {
    /// Containers that are not gone, by id.
    pub instances: Vec<InstanceMeasures>,
    /// The platform's own programs beside berthd.
    pub programs: Vec<ProgramMeasures>,
}

/// What one container uses. Sums count from the container's first start, over all its attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceMeasures {
    /// Its id.
    pub instance: InstanceId,
    /// Whose it is.
    pub app: AppId,
    /// What it is for.
    pub role: Role,
    /// Which start of its process, from 1.
    pub attempt: u32,
    /// Processor time, microseconds.
    pub cpu_us: u64,
    /// Time for which it was kept from the processor by its limit, microseconds, of all its
    /// threads together.
    pub throttled_us: u64,
    /// Memory that it cannot do without, bytes: all but what of files was not used for long.
    pub memory_bytes: u64,
    /// Most memory so far, what files take included, bytes; 0 where the kernel does not tell
    /// (before Linux 5.19 with cgroup v2).
    pub memory_peak_bytes: u64,
    /// What it may use, bytes.
    pub memory_limit_bytes: u64,
    /// Processes that the kernel ended for their memory.
    pub oom_kills: u64,
    /// Processes and threads.
    pub processes: u32,
    /// What went through its network interface; none for a build container, and while it waits
    /// between two attempts. Counts from the last start of its process.
    pub network: Option<NetworkMeasures>,
}

/// What went through a network interface, bytes, as the container sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkMeasures {
    /// To the container.
    pub received_bytes: u64,
    /// From the container.
    pub sent_bytes: u64,
}

/// One of the platform's own programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnProgram {
    /// `berthd serve`.
    Control,
    /// `berth-agent serve`.
    Agent,
    /// `berthd route`.
    Route,
    /// `berthd wasm`.
    Wasm,
}

impl OwnProgram {
    /// As it is called in measures.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Agent => "agent",
            Self::Route => "router",
            Self::Wasm => "wasm",
        }
    }
}

/// What a program uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramMeasures {
    /// Which.
    pub program: OwnProgram,
    /// Processor time since it started, microseconds.
    pub cpu_us: u64,
    /// Memory, bytes.
    pub memory_bytes: u64,
}
