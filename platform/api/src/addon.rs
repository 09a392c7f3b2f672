//! Add-ons: databases, caches and the like that the platform runs.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::Timestamp;

/// An add-on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddonView {
    /// Its id.
    pub id: String,
    /// Its name, which no app has.
    pub name: String,
    /// The team that owns it.
    pub team: String,
    /// The extension that describes it.
    pub kind: String,
    /// What was chosen when it was made.
    pub options: Value,
    /// The name under which attached apps find it.
    pub host: String,
    /// The TCP port that they reach.
    pub port: u16,
    /// `ready`, `starting`, `stopped`, or `none` before it first ran.
    pub state: String,
    /// Variables that an attached app gets.
    pub exports: Vec<String>,
    /// Apps that are attached to it.
    pub attached: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// The deployment that brings it to run; only when it was just made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
}

/// Makes an add-on. The first one of its packages takes some minutes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAddon {
    /// The extension that describes it: `postgresql`, or its whole id.
    pub kind: String,
    /// Its name; add-ons and apps share their names.
    pub name: String,
    /// The team that will own it; the caller's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// What the extension lets one choose, an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Value>,
}

/// Attaches an add-on to an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachAddon {
    /// The app.
    pub app: String,
    /// Put before the names of the variables, with an underscore between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// An add-on was attached to an app, or detached from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttachmentChanged {
    /// The app.
    pub app: String,
    /// The variables that came or went.
    pub variables: Vec<String>,
    /// The deployment that brings them; absent while the app has no release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
}

/// A backup of an add-on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupView {
    /// Its id.
    pub id: String,
    /// The extension that can read it.
    pub kind: String,
    /// What it holds: `sha256:…`.
    pub digest: String,
    /// How much that is.
    pub bytes: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Puts what a backup holds in place of what an add-on holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreAddon {
    /// The backup, of this add-on or of another one of its kind.
    pub backup: String,
}
