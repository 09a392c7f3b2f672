//! The process that Wasm apps run in, `berthd wasm`, and the way `berthd serve` speaks to it.
//!
//! The control process checks the MAC of an app's code and passes the open descriptor; the worker
//! has no key, no compiler and no way to the database. Requests come from the router over another
//! socket and name their instance in a header. The worker keeps what it has when the control
//! process goes away, and says what it has when that comes back; after a restart of its own it
//! has nothing, and answers 503 until it is told again.

mod channel;
mod client;
mod requests;
mod server;
mod values;

use std::io;

use berth_model::{Digest, InstanceId};
use serde::{Deserialize, Serialize};

pub use client::WorkerClient;
pub use server::{WorkerOptions, serve};

use crate::app::{AppConfig, AppStats};
use crate::engine::EngineError;

/// Version of this protocol. A worker understands this one.
pub const PROTOCOL: u32 = 2;

/// A request of the control process. Each has one reply, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verb", deny_unknown_fields)]
enum Call {
    /// The first call on a connection. -> `Hello`.
    Hello {
        /// The caller's [`PROTOCOL`].
        protocol: u32,
    },
    /// Loads an instance, in place of one of the same id; its code is beside the message.
    /// -> `Done`.
    Load(Box<AppConfig>),
    /// Forgets an instance. -> `Done`, also when there is none.
    Unload {
        /// Which.
        instance: InstanceId,
    },
    /// -> `Loaded`.
    List {},
    /// -> `Stats`.
    Stats {},
    /// Turns the connection round: after `Done`, the worker asks for values of apps.
    Values {},
    /// Takes no new requests, waits for those under way, then ends the process. -> `Done`.
    Drain {
        /// Longest wait, milliseconds.
        grace_ms: u32,
    },
}

/// The reply to a [`Call`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reply", deny_unknown_fields)]
enum Reply {
    Hello { protocol: u32, build: String },
    Done {},
    Loaded { apps: Vec<LoadedApp> },
    Stats(WorkerStats),
    Failed { code: FailureCode, message: String },
}

/// An instance that the worker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedApp {
    /// Which.
    pub instance: InstanceId,
    /// What its code was compiled from.
    pub component: Digest,
}

/// What the worker uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStats {
    /// Linear memory that guests may still take, bytes.
    pub memory_left_bytes: u64,
    /// Each instance.
    pub apps: Vec<AppStats>,
}

/// Why the worker refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The call is not one of this protocol.
    Protocol,
    /// The component cannot run here; trying again does not help.
    Load,
}

/// The worker, or the way to it, failed.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// It does not answer.
    #[error("the Wasm worker does not answer on its control socket")]
    Unreachable(#[source] io::Error),
    /// The connection ended before the reply; the call may have been done.
    #[error("the Wasm worker closed the connection before it replied")]
    Gone,
    /// It did not reply in time.
    #[error("the Wasm worker did not reply within {0} s")]
    Slow(u64),
    /// It refused.
    #[error("{message}")]
    Refused {
        /// Why.
        code: FailureCode,
        /// For people.
        message: String,
    },
    /// What came is not of this protocol.
    #[error("the Wasm worker and berthd do not understand each other: {0}")]
    Protocol(String),
    /// The engine does not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A listener that was passed in cannot be used.
    #[error("the {0} socket that the Wasm worker was given cannot be used")]
    Listener(&'static str, #[source] io::Error),
}
