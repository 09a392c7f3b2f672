//! One row per change, written in the change's own transaction.

mod words;

pub use words::WORDS_BYTES_MAX;

use serde::{Deserialize, Serialize};

/// A change that happened. Stream, audit and extensions are cursors over these rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the stream; gaps are possible, reuse is not.
    pub seq: i64,
    /// What happened: `app.created`, `release.created`, `deployment.changed`.
    pub kind: String,
    /// Version of the shape of `before` and `after`.
    pub schema: u32,
    /// Id of what changed.
    pub subject: String,
    /// The app that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<crate::AppId>,
    /// What that app was called then; the app itself may be gone.
    #[serde(skip)]
    pub app_name: Option<String>,
    /// Who did it: a principal's name, or `system`.
    pub actor: String,
    /// The principal itself, as two may have one name; nothing in rows
    /// of before that was kept.
    #[serde(skip)]
    pub principal: Option<crate::PrincipalId>,
    /// Where the call came from.
    pub source_ip: Option<String>,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// State before, secrets masked.
    pub before: serde_json::Value,
    /// State after, secrets masked.
    pub after: serde_json::Value,
}
