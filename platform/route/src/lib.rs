//! The data plane: the body of `berthd route`.
//!
//! Takes connections on an inherited listener and a [`berth_model::RouteTable`] over a control
//! socket; gives every request to a target of its host, or answers with a status of its own and
//! the header `X-Router-Error`. Traffic never depends on the control process: the last table is
//! on disk and is served again after a restart. Connects only to targets that stand in its table,
//! never buffers whole bodies, and holds no key and no capability.
//!
//! Middlewares ([`middleware`]) stand between a route and its targets. The router has their code,
//! configuration and secrets in memory only: after a restart, requests to what they protect are
//! refused until the control process brings them again.
//!
//! The name service of instances ([`names`]) runs here too, for the same reason.
//!
//! [`run`] is the process; [`RouterClient`] is how the control process speaks to it.

mod app;
mod body;
mod clock;
mod config;
mod control;
mod cookies;
mod exchange;
mod fault;
mod front;
mod headers;
mod host;
mod log;
mod measures;
mod middleware;
pub mod names;
mod router;
mod router_client;
mod snapshot;
mod table;
mod target;
mod timer;
mod tunnel;
mod upstream;

use std::io;
use std::path::PathBuf;

pub use config::{Config, Deadlines, Limits};
pub use control::wire::{
    AppMetrics, Draining, LATENCY_BOUNDS_US, MiddlewareLine, PROTOCOL, RouterHello,
};
pub use router::{run, serve};
pub use router_client::{Events, RouterClient, RouterEvent, RouterMetrics};

/// The router could not start, or did not answer as it must.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// A step of the start failed.
    #[error("the router cannot {step}")]
    Start {
        /// What it was doing.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The router's folder cannot be used.
    #[error("the router cannot use its folder {path}: it must be a directory that its id owns")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The control socket does not answer.
    #[error("cannot reach the router at {path}")]
    Unreachable {
        /// The control socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection to the router ended.
    #[error("the router closed the control connection; connect again")]
    Closed,
    /// The router sent something that is not of this protocol.
    #[error("the router sent a message that is not of protocol {PROTOCOL}: {0}")]
    Protocol(String),
    /// The router keeps its table.
    #[error("the router refused table {generation} and keeps {current}: {reason}")]
    Refused {
        /// The generation that was offered.
        generation: u64,
        /// The generation that is served.
        current: u64,
        /// Why.
        reason: String,
    },
    /// The router cannot use a middleware.
    #[error("the router cannot use the middleware: {0}")]
    NotLoaded(String),
    /// The router did not answer in time.
    #[error("the router did not answer within {0} s")]
    Silent(u64),
}
