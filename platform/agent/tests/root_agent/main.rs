//! The agent as a whole, with real containers. Needs root, busybox-static, nftables, iproute2.

#![expect(clippy::unwrap_used, reason = "tests")]

mod adoption;
mod builds;
mod commands;
mod confinement;
mod life;
mod network;
mod platform;
mod refusals;
mod removal;
