//! What a release runs: Procfile, `app.json` and `berth.toml`, parsed and merged with what the
//! buildpacks proposed.

mod wasm;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, ProcessName};

pub use wasm::{HttpTarget, WasmSettings};

/// The processes of a release and how they run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Process types in name order. `release` is not among them.
    pub processes: BTreeMap<ProcessName, Process>,
    /// Command of the release phase: runs once in the new image, before any new instance.
    pub release: Option<Process>,
    /// What the image is.
    pub runtime: Runtime,
    /// `formation` of app.json: instances per process; where it is given it replaces `ps scale`.
    #[serde(default)]
    pub formation: BTreeMap<ProcessName, u16>,
    /// What a Wasm app asks for.
    #[serde(default, skip_serializing_if = "WasmSettings::is_empty")]
    pub wasm: WasmSettings,
}

/// One process type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Argument vector; a Procfile line is `["bash", "-c", line]` (or `sh`).
    pub command: Vec<String>,
    /// Directory it starts in.
    #[serde(default = "workspace")]
    pub working_dir: String,
    /// How an instance shows that it is ready; nothing means that its port accepts.
    #[serde(default)]
    pub check: Option<HttpCheck>,
}

fn workspace() -> String {
    "/workspace".to_owned()
}

/// An HTTP readiness check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// Path that answers 2xx or 3xx when the instance is ready.
    pub path: String,
}

/// How a release is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Runtime {
    /// A container from the image's layers.
    Container,
    /// A `wasi:http/proxy` component; it is a blob of its own and the image's only layer holds it.
    Wasm {
        /// The component's digest.
        component: Digest,
    },
}
