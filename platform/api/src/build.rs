//! Builds.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{DeploymentView, Timestamp};

/// A build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuildView {
    /// Its id.
    pub id: String,
    /// Commit that is built.
    pub commit: String,
    /// `running`, `succeeded`, `failed`, `cancelled` or `abandoned`.
    pub state: String,
    /// Digest of the image.
    pub image: Option<String>,
    /// Why it did not succeed.
    pub error: Option<String>,
    /// What brings its image to run; nothing before there is a release of it.
    pub deployment: Option<DeploymentView>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// One line of a build's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuildLogLine {
    /// Its number, from 1.
    pub number: u64,
    /// The text as the push showed it.
    pub line: String,
}
