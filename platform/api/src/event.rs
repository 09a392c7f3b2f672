//! What happened on the platform.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::Time;

/// A change that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Position in the stream, and the id of the server-sent event; gaps are possible.
    pub seq: i64,
    /// What happened; the name of the server-sent event.
    #[schema(example = "app.created")]
    pub kind: String,
    /// Version of the form of `before` and `after`.
    pub schema: u32,
    /// Id of what changed.
    pub subject: String,
    /// Who did it.
    pub actor: String,
    /// Where the call came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<String>,
    /// When.
    pub at: Time,
    /// State before, secrets masked.
    pub before: serde_json::Value,
    /// State after, secrets masked.
    pub after: serde_json::Value,
}

/// Part of the stream of events, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Events {
    /// The events.
    pub items: Vec<EventView>,
    /// `after` of the next part; absent when there is no more for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_after: Option<i64>,
}

/// Which events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// Only events with a greater `seq`; without it a page begins at the oldest, a stream at now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// Most items of a page; 50 when absent, 200 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// Only events of the app of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
}
