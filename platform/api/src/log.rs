//! An app's log.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::Time;

/// Most lines of history that one request gives.
pub const LOG_LINES_MAX: u32 = 10_000;

/// One line of an app's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// Name of the app.
    pub app: String,
    /// The process type, or `run`, `release`.
    pub process: String,
    /// The instance's id.
    pub instance: String,
    /// Which start of the instance.
    pub attempt: u32,
    /// `stdout`, `stderr` or `system`.
    pub stream: String,
    /// When it was written.
    pub at: Time,
    /// Position within the instance. `<instance>:<seq>` is the id of the server-sent event.
    pub seq: u64,
    /// The text without its line end.
    pub line: String,
    /// Cut at the length limit; the next line goes on.
    pub partial: bool,
}

/// Lines of an app's log, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLines {
    /// The lines.
    pub items: Vec<LogLine>,
}

/// Which lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// How many of the last lines; 100 when absent, 10,000 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(maximum = 10_000)]
    pub lines: Option<u32>,
    /// Only this process type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
}
