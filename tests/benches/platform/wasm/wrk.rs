//! A load of `wrk`, which nobody here wrote.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::docker::output;

/// What a load did.
pub(super) struct Load {
    /// Requests that were answered.
    pub(super) requests: f64,
    /// The same per second.
    pub(super) per_second: f64,
}

/// Asks for `/` of a host on so many connections that are kept, as fast as answers come.
///
/// # Errors
/// When one request failed: what is compared is answers.
pub(super) fn run(address: SocketAddr, host: &str, connections: u32, seconds: u32) -> Result<Load> {
    let said = output(
        Command::new("wrk")
            .args(["--threads", "1", "--connections", &connections.to_string()])
            .args(["--duration", &format!("{seconds}s"), "--timeout", "10s"])
            .args(["--header", &format!("Host: {host}")])
            .arg(format!("http://{address}/")),
    )?;
    let said = String::from_utf8_lossy(&said);
    ensure!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{host}: {said}");
    let requests = said
        .lines()
        .find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())
        .with_context(|| format!("wrk said: {said}"))?;
    let per_second = said
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse().ok())
        .with_context(|| format!("wrk said: {said}"))?;
    Ok(Load { requests, per_second })
}
