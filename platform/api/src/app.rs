//! Apps and their domains.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// An app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AppView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The team that owns it.
    pub team: String,
    /// Where it answers.
    pub urls: Vec<String>,
    /// Where to push over HTTP.
    pub git_http: String,
    /// Where to push over SSH.
    pub git_ssh: String,
    /// Number of the release that runs.
    pub release: Option<u64>,
    /// Branch whose pushes deploy.
    pub deploy_branch: Option<String>,
    /// Instances per process that were asked for.
    pub scale: BTreeMap<String, u16>,
    /// Stopped by `ps stop`.
    pub stopped: bool,
    /// Rises with each change.
    pub generation: u64,
    /// When it was created.
    pub created_at: Timestamp,
}

/// Creates an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApp {
    /// Its name.
    pub name: String,
    /// The team that owns it; the caller's where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
}

/// Changes an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeApp {
    /// A new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A new deploy branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy_branch: Option<String>,
}

/// A domain of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DomainView {
    /// The host name.
    pub domain: String,
    /// Made by the platform from the app's name; cannot be removed.
    pub default: bool,
}

/// Adds a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddDomain {
    /// The host name.
    pub domain: String,
}
