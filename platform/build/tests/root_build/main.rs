//! Whole builds with the real agent, stacks, buildpacks and registries. They need root.

mod builds;
mod failures;
mod frameworks;
mod platform;
mod running;
