//! Alerts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// A rule over one measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AlertView {
    /// Its id.
    pub id: String,
    /// The app whose measure it is; absent for the machine's.
    pub app: Option<String>,
    /// The measure: `cpu`, `latency_p95`.
    pub measure: String,
    /// `above` or `below`.
    pub comparison: String,
    /// The threshold, in the measure's unit.
    pub value: f64,
    /// How long it has to be broken, or kept again, before that is told; seconds.
    pub for_s: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it is told to be broken; absent while it is kept.
    pub raised_at: Option<Timestamp>,
}

/// Makes a rule. `alert.raised` and `alert.cleared` are events, which hooks hear.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAlert {
    /// The app; the machine where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// A measure of apps, or of the machine. Of instances the one that breaks the rule by most counts.
    pub measure: String,
    /// `above` or `below`.
    pub comparison: String,
    /// The threshold, in the measure's unit. It is kept again by what is a twentieth behind it.
    pub value: f64,
    /// How long it has to be broken, seconds; a day at most. At once when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_s: Option<u32>,
}
