//! Host powers: what an extension may do beside computing.
//!
//! Takes what was granted and a [`PowerHost`], which does it; gives the functions that guests
//! import. Every call is counted and judged here, whatever was checked when the extension was
//! installed: what was not granted is answered with the typed error `denied`, and the host is told.
//! A secret is a handle; its value is put where it belongs by the host, and is never shown.

mod calls;
mod http;
mod secrets;
mod session;
mod veil;
pub(crate) mod wit;

use std::fmt;

use async_trait::async_trait;
use berth_model::log::LogStream;

pub use http::{HttpRequest, HttpResponse};
pub use secrets::SecretValue;
pub use session::{Allowed, CallError, Called, Outcome, Session, Usage};
pub use wit::berth::counters::counters::Count;
pub use wit::berth::types::types::Error as Failure;

pub(crate) use calls::{State, link};
pub(crate) use session::{Runner, wasi};
pub(crate) use veil::veiled;

/// How a line of an extension's log is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For the operator.
    Info,
    /// Something to look at.
    Warning,
    /// Something failed.
    Error,
    /// Hidden unless asked for; also what the component wrote to its own output.
    Debug,
}

impl Level {
    /// The text form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Debug => "debug",
        }
    }

    fn of(text: &str) -> Self {
        match text {
            "warning" => Self::Warning,
            "error" => Self::Error,
            "debug" => Self::Debug,
            _ => Self::Info,
        }
    }

    fn of_stream(stream: LogStream) -> Self {
        if stream == LogStream::System { Self::Warning } else { Self::Debug }
    }
}

/// A measure of an extension's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// Lower-case letters, digits and `_`.
    pub name: String,
    /// Sorted by name.
    pub labels: Vec<(String, String)>,
    /// What happened.
    pub value: MeasureValue,
}

/// What happened to a measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MeasureValue {
    /// A counter grew.
    Added(f64),
    /// A gauge was set.
    Set(f64),
}

/// A power did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    /// The guest is told, and may go on.
    #[error("{}", .0.message)]
    Failure(Failure),
    /// The guest is ended: a limit, or the platform failed.
    #[error(transparent)]
    Ended(#[from] Box<dyn std::error::Error + Send + Sync>),
}

impl PowerError {
    /// A typed error for the guest.
    pub fn failure(code: &str, message: impl fmt::Display, retry: bool) -> Self {
        Self::Failure(Failure {
            code: code.to_owned(),
            message: message.to_string(),
            retry,
            extra: Vec::new(),
        })
    }

    /// What the power needs is away for the moment.
    pub fn unavailable(message: impl fmt::Display) -> Self {
        Self::failure("unavailable", message, true)
    }
}

/// Does what extensions ask for. The rules of each function are in the WIT; whether it was granted
/// was judged before. One host serves one extension (and app, where the call is about one).
#[async_trait]
pub trait PowerHost: Send + Sync + 'static {
    /// A line of the log, without control characters and within the limits. It must not block.
    fn log(&self, level: Level, text: &str);

    /// Something was asked for that was not granted: to be counted and recorded.
    fn denied(&self, capability: &'static str, what: &str);

    /// Unix milliseconds.
    fn now_ms(&self) -> u64;

    /// `kv.get`.
    async fn kv_get(&self, key: &str) -> Result<Option<Vec<u8>>, PowerError>;

    /// `kv.put` and `kv.put-if-absent`; false when it was there and only an absent key was meant.
    async fn kv_put(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
        absent_only: bool,
    ) -> Result<bool, PowerError>;

    /// `kv.remove`.
    async fn kv_remove(&self, key: &str) -> Result<bool, PowerError>;

    /// `kv.keys`.
    async fn kv_keys(&self, prefix: &str, count_max: u32) -> Result<Vec<String>, PowerError>;

    /// The value of a secret; nothing when the operator did not set it.
    async fn secret(&self, name: &str) -> Result<Option<SecretValue>, PowerError>;

    /// `http-out.request.send`.
    async fn http(&self, request: HttpRequest) -> Result<HttpResponse, PowerError>;

    /// `counters.add`.
    async fn counter_add(
        &self,
        key: &str,
        amount: u64,
        window_ms: u64,
    ) -> Result<Count, PowerError>;

    /// `events.emit`; the payload is JSON.
    async fn emit(&self, name: &str, payload: serde_json::Value) -> Result<(), PowerError>;

    /// `metrics.add` and `metrics.set`. It must not block.
    fn measure(&self, measure: Measure) -> Result<(), PowerError>;
}
