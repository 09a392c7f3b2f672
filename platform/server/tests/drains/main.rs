//! Log drains: lines from real log files to real receivers: rsyslog, plain sockets, an HTTPS server.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod certificates;
mod gelf;
mod https;
mod rsyslog;
mod syslog;
mod world;
