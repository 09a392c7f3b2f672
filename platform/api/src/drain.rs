//! Log drains.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// A log drain, and how it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainView {
    /// Its id.
    pub id: String,
    /// The app whose lines it sends; absent for those of every app.
    pub app: Option<String>,
    /// Where to, without what may be a credential.
    pub url: String,
    /// Extensions that change its lines, in this order.
    pub processors: Vec<String>,
    /// Whether it may reach addresses of private networks.
    pub private: bool,
    /// When it was made; older lines are not sent.
    pub created_at: Timestamp,
    /// Messages that were taken.
    pub sent: u64,
    /// Lines that will never be sent.
    pub dropped: u64,
    /// Lines that were sent without a processor, because it failed and its manifest says so.
    pub unprocessed: u64,
    /// Messages that were not taken yet; further lines wait in the apps' logs.
    pub waiting: u64,
    /// Age of the oldest of them, milliseconds; 0 where none waits.
    pub lag_ms: u64,
    /// What fails; absent when lines arrive.
    pub error: Option<String>,
    /// When it last failed.
    pub error_at: Option<Timestamp>,
}

/// Makes a log drain.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDrain {
    /// The app whose lines are sent; those of every app where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// `syslog+udp://`, `syslog+tcp://`, `syslog+tls://`, `gelf+udp://` or `gelf+tcp://` with host and
    /// port, or `https://`. It is kept encrypted.
    pub url: String,
    /// Certificates of authorities that are trusted besides the machine's, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Extensions that change the lines, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processors: Vec<String>,
}
