//! The containers of this data folder as the agent knows them.
//!
//! Each has a run process, which tells every change over its socket; a thread per container
//! listens and writes the change down here, and whoever watches is woken. The truth is with the
//! run processes: an agent that starts again asks them (`adopt`).

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};

use berth_container::{InstanceStatus, Role};
use berth_model::{AppId, InstanceId};

use crate::cgroup::Leaf;
use crate::context::IdBlock;
use crate::failure::Failure;

/// A running container, for verbs that work inside it.
#[derive(Debug, Clone)]
pub(crate) struct Inside {
    /// Process 1 of the container, as the host names it. Valid while the container runs: open a
    /// pidfd and look at `starttime` before trusting it.
    pub(crate) init: u32,
    /// Where its processes are.
    pub(crate) leaf: Leaf,
    /// What its ids are on the host.
    pub(crate) ids: IdBlock,
    /// What it is for.
    pub(crate) role: Role,
    /// Whose it is.
    pub(crate) app: AppId,
}
