//! The platform itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the platform is and where its parts listen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Info {
    /// Version of the server.
    pub version: String,
    /// Id of the data folder.
    pub id: String,
    /// Domain below which apps get their default host name.
    pub domain: String,
    /// Address of the router.
    pub http: String,
    /// Address of git over SSH.
    pub ssh: String,
    /// Fingerprint of the SSH server's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_fingerprint: Option<String>,
}

/// Whether the platform is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok` or `failing`.
    pub status: String,
}
