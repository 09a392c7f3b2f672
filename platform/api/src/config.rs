//! An app's environment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

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

/// A version of the environment, without values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigVersionView {
    /// Its number.
    pub version: u64,
    /// It is the one that the next release takes.
    pub current: bool,
    /// Names that it holds.
    pub names: Vec<String>,
    /// Who made it.
    pub actor: String,
    /// When it was made.
    pub created_at: Timestamp,
}
