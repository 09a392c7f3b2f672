//! Commands in containers.
//!
//! A session is a WebSocket. Binary frames begin with one byte: 0 for standard input (client to
//! server), 1 for standard output, 2 for standard error (server to client). Text frames are a
//! JSON [`Control`]. With a terminal everything the command writes is standard output.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// First byte of a frame with standard input.
pub const FRAME_STDIN: u8 = 0;
/// First byte of a frame with standard output.
pub const FRAME_STDOUT: u8 = 1;
/// First byte of a frame with standard error.
pub const FRAME_STDERR: u8 = 2;

/// Starts a one-off command. With `detach` the answer is its instance; without it the command
/// waits for a session at `/v1/apps/{app}/runs/{id}/attach`, for ten seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRun {
    /// The command and its arguments; a process type of the release alone runs its command.
    pub command: Vec<String>,
    /// Goes on without its client.
    #[serde(default)]
    pub detach: bool,
    /// Ended after this many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u32>,
    /// A terminal of this size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Size>,
}

/// A terminal's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// A text frame of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// Client: the terminal has another size.
    Resize(Size),
    /// Client: standard input is at its end; the value is `true`.
    Eof(bool),
    /// Server: the command ended; the session is over.
    Exit(ExitView),
    /// Server: the command could not be run or was lost.
    Error(String),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExitView {
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// It used all the memory it may have.
    #[serde(default)]
    pub oom: bool,
    /// Its time was over.
    #[serde(default)]
    pub timed_out: bool,
}
