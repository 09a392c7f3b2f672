//! A build and what it gives.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AppId, BuildId, DeploymentId, Digest, Manifest};

/// A build as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Its id.
    pub id: BuildId,
    /// The app it belongs to.
    pub app: AppId,
    /// Commit that was pushed.
    pub commit: String,
    /// Archive of the tree.
    pub source: Digest,
    /// Where it stands.
    pub state: BuildState,
    /// Image of a build that succeeded.
    pub image: Option<Digest>,
    /// Why it did not succeed, for people.
    pub error: Option<String>,
    /// The ref that is to name the commit once it answers; nothing when nobody pushed.
    pub ref_name: Option<String>,
    /// What brings its image to run; nothing when there was no need to.
    pub deployment: Option<DeploymentId>,
    /// Something may still follow: lines of its log, the move of its ref.
    pub open: bool,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Unix milliseconds; set with the terminal state.
    pub finished_at_ms: Option<i64>,
}

/// Where a build stands. Only `Running` is followed by another state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildState {
    /// Being built.
    Running,
    /// An image exists.
    Succeeded,
    /// The source or a tool failed.
    Failed,
    /// Its owner, or a closed connection, ended it.
    Cancelled,
    /// The platform stopped while it ran.
    Abandoned,
}

impl BuildState {
    /// Whether the state is final.
    pub fn is_terminal(self) -> bool {
        self != Self::Running
    }

    /// The text form used in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Abandoned => "abandoned",
        }
    }
}

/// One layer of an image: an uncompressed canonical tar in the blob store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRef {
    /// DiffID, which is also the blob's digest.
    pub diff_id: Digest,
    /// Bytes of the tar.
    pub bytes: u64,
    /// Who made it, for people: `stack`, `python/packages`, `app`.
    pub name: String,
}

/// What a build gives to `image`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildOutput {
    /// Layers from the lowest to the highest; the stack's come first. Empty for a Wasm app.
    pub layers: Vec<LayerRef>,
    /// What the release runs.
    pub manifest: Manifest,
    /// Environment that the buildpacks' launch layers set, resolved to plain values.
    pub env: BTreeMap<String, String>,
    /// Labels with reproducible values only.
    pub labels: BTreeMap<String, String>,
    /// Committer's time of the source, Unix seconds: `created` of the image.
    pub created_at_s: i64,
}
