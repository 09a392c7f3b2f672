//! Builds: the pushed source and the buildpacks give the layers and the manifest of an image.
//!
//! Takes a `Source`, the app's configuration, the stack and what the last build left; gives a
//! `BuildOutput` and what the next build needs, and writes the build log. Buildpacks are Wasm
//! components that decide; tools run in a build container of the agent, which is started only when
//! a step needs it and whose only way out is `proxy`. Nothing here opens a repository, an image
//! registry or a path that a guest named.

mod archive;
mod builder;
mod component;
mod container;
mod dated;
mod detect;
mod environment;
mod error;
mod fetch;
mod finish;
mod host;
mod installed;
mod inventory;
mod log;
pub mod manifest;
mod order;
pub mod plan;
pub mod proxy;
mod request;
mod session;
mod state;
mod steps;
mod tree;
pub mod trial;

pub use archive::ArchiveError;
pub use builder::Builder;
pub use error::BuildError;
pub use installed::{Installed, Loaded};
pub use inventory::{Inventory, InventoryError};
pub use log::Log;
pub use request::{Outcome, Request, Settings, Stack, StackSource, StepTime, memo_key};
