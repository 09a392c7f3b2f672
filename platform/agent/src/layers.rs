//! Layers: tars that become trees, and directories of build containers that become tars.
//!
//! A tree is stored once, under its DiffID, with the numeric owners 0 to 65535 of its tar, and
//! shown to containers with shifted ids. Archives and directories are walked by confined children
//! alone; what a child gives is checked here: the digest of what it was given, the counts it says.

mod seal;
mod store;
mod unpack;
mod walk;

pub(crate) use seal::{SealJob, seal, seal_child};
pub(crate) use store::{Trees, list, sweep};
pub(crate) use unpack::{UnpackJob, unpack, unpack_child};
pub(crate) use walk::{Bounds, Odd, walk};

/// Control group of a child that walks a tree: little memory of its own, some for cached pages.
const LIMITS: crate::cgroup::LeafLimits =
    crate::cgroup::LeafLimits { memory_bytes: 512 << 20, cpu_milli: 2000, pids: 4 };
