//! The nouns of Berth and the decisions over them.
//!
//! Takes and gives plain values: no async, no input or output, no clock, no randomness (both are
//! passed in). Every room speaks to the next one in these types, so a value that is held is valid:
//! names and digests are checked when they are parsed, states only go forward.

pub mod addon;
pub mod alert;
pub mod app;
pub mod build;
pub mod buildpack;
pub mod digest;
pub mod drain;
pub mod event;
pub mod extension;
pub mod id;
pub mod image;
pub mod log;
pub mod manifest;
pub mod name;
pub mod plan;
pub mod principal;
pub mod release;
pub mod rollout;
pub mod route;
pub mod size;
pub mod source;
pub mod text;
pub mod volume;

pub use app::{App, AppSettings, Limits};
pub use build::{Build, BuildOutput, BuildState, LayerRef};
pub use digest::Digest;
pub use event::Event;
pub use id::*;
pub use manifest::{Manifest, Process, Runtime};
pub use name::{
    AppName, BuildpackId, Domain, NameError, PackageName, ProcessName, TeamName, UserName,
    VolumeName,
};
pub use principal::{Caller, Role};
pub use release::{
    Deployment, DeploymentState, InstanceRecord, InstanceRole, InstanceState, Release,
};
pub use route::{Route, RouteMiddleware, RouteTable, Target, TargetAddress};
pub use source::Source;
pub use volume::{MountPath, Volume};
