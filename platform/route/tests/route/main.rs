//! The router against real sockets: real clients, real apps, its real control connection.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bodies;
mod control;
mod framing;
mod headers;
mod limits;
mod middleware;
mod pace;
mod process;
mod status;
mod support;
mod swap;
mod targets;
mod tokens;
mod upgrade;
