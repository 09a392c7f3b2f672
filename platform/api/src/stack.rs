//! Stacks.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// A base that apps are built and run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StackView {
    /// Its name: `debian-12`.
    pub name: String,
    /// `run` or `build`.
    pub part: String,
    /// Digest of its layer; absent until it is first needed.
    pub digest: Option<String>,
    /// Bytes of its layer.
    pub bytes: Option<u64>,
    /// When it was made.
    pub made_at: Option<Timestamp>,
}
