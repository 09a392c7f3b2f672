//! The agent as a whole, with real containers. Needs root, busybox-static, nftables, iproute2.

#![expect(clippy::unwrap_used, reason = "tests")]

mod adoption;
mod builds;
mod cgroup2;
mod commands;
mod confinement;
mod disks;
mod files;
mod hung;
mod ids;
mod life;
mod measures;
mod network;
mod platform;
mod reach;
mod refusals;
mod removal;
#[path = "../../../../tests/src/scene.rs"]
#[expect(dead_code, unreachable_pub, reason = "the acceptance tests use the rest of it")]
mod scene;
mod system_calls;
mod views;
mod volumes;
