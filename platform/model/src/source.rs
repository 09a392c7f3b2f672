//! What a push hands to a build.

use serde::{Deserialize, Serialize};

use crate::{AppId, Digest};

/// The tree of one commit, archived. Nothing after `push` opens a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The app that was pushed to.
    pub app: AppId,
    /// The commit's object id, 40 hex digits.
    pub commit: String,
    /// The tree's object id, 40 hex digits.
    pub tree: String,
    /// The committer's time, Unix seconds: SOURCE_DATE_EPOCH of the build.
    pub committed_at_s: i64,
    /// Canonical tar of the tree in the blob store (paths relative to its root).
    pub archive: Digest,
}
