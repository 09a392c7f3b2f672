//! An app's environment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The environment of an app.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigView {
    /// Version; rises with each change.
    pub version: u64,
    /// Values by name.
    pub variables: BTreeMap<String, String>,
}

/// Changes the environment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeConfig {
    /// Values by name; null removes the name.
    pub variables: BTreeMap<String, Option<String>>,
    /// Keep the change for the next release instead of making one now.
    #[serde(default)]
    pub no_restart: bool,
}

/// A new version of the environment, and the deployment that brings it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigChanged {
    /// The new version.
    pub version: u64,
    /// The deployment; absent where nothing runs or `no_restart` was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
}
