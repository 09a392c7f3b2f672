//! Whole builds with the real agent, stacks, buildpacks and registries. They need root.

#![expect(clippy::unwrap_used, reason = "tests")]

mod builds;
mod failures;
mod frameworks;
mod platform;
mod running;
mod wasm;
