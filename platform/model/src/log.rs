//! A line of an app's output.

use serde::{Deserialize, Serialize};

use crate::{AppName, InstanceId, ProcessName};

/// One line that an instance wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// The app.
    pub app: AppName,
    /// The process type, or `run`, `release`.
    pub process: ProcessName,
    /// The instance.
    pub instance: InstanceId,
    /// Which start of the instance.
    pub attempt: u32,
    /// `stdout`, `stderr` or `system`.
    pub stream: LogStream,
    /// Unix nanoseconds.
    pub at_ns: i64,
    /// Position within the instance; with the instance it is the id of the record.
    pub seq: u64,
    /// The text without its line end; invalid UTF-8 is replaced.
    pub line: String,
    /// Cut at the line length limit; the next record goes on.
    pub partial: bool,
}

/// Where a log line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// The process's standard output.
    Stdout,
    /// The process's standard error.
    Stderr,
    /// Berth itself: starts, exits, restarts.
    System,
}
