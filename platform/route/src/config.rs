//! What the starter of the router decides. The defaults are the platform's; tests set small
//! deadlines. Nothing here is unlimited.

use std::path::PathBuf;
use std::time::Duration;

use crate::names::NameSettings;

/// The router's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The router's own folder (`DATA/route`): the table snapshot and the access log. Made with
    /// mode 0700 when it is missing.
    pub folder: PathBuf,
    /// The Wasm worker's request socket (`/run/berth/<data-id>/ctl/wasm-requests.sock`).
    pub wasm_socket: PathBuf,
    /// Which build of the platform this is, for the hello.
    pub build: String,
    /// The control process's user id. Peers of the control socket that are neither root, nor this
    /// id, nor the router's own id are refused.
    pub control_uid: Option<u32>,
    /// How long things may take.
    pub deadlines: Deadlines,
    /// How much of anything there may be.
    pub limits: Limits,
    /// How names are looked up for instances.
    pub names: NameSettings,
}

impl Config {
    /// Settings with the platform's defaults.
    pub fn new(
        folder: impl Into<PathBuf>,
        wasm_socket: impl Into<PathBuf>,
        build: impl Into<String>,
    ) -> Self {
        Self {
            folder: folder.into(),
            wasm_socket: wasm_socket.into(),
            build: build.into(),
            control_uid: None,
            deadlines: Deadlines::default(),
            limits: Limits::default(),
            names: NameSettings::default(),
        }
    }
}

/// How long things may take.
#[derive(Debug, Clone)]
pub struct Deadlines {
    /// From a request's first byte to the end of its head: 408. 10 s. Also from accepting a
    /// connection to its first byte, after which it is closed without an answer.
    pub request_head: Duration,
    /// A client connection without a request. 75 s.
    pub keep_alive_idle: Duration,
    /// Between two reads of a request body: 408. 30 s.
    pub request_body_gap: Duration,
    /// How long a request body may be slower than the least rate, in time spent waiting for the
    /// client: 408. 10 s.
    pub request_body_rate_after: Duration,
    /// A client that takes no response bytes. 60 s.
    pub client_write_stall: Duration,
    /// How long what a client still sends is read and dropped after a final answer. 2 s.
    pub linger: Duration,
    /// Connecting to a target: 504 `connect_timeout`. 3 s.
    pub connect: Duration,
    /// From the end of a request to the head of its response: 504 `header_timeout`. 60 s.
    pub response_head: Duration,
    /// Between two reads of a response body. 60 s.
    pub response_gap: Duration,
    /// Between two reads of a `text/event-stream`. 1 h.
    pub stream_gap: Duration,
    /// An upgraded connection without a byte in either direction. 1 h.
    pub tunnel_idle: Duration,
    /// A pooled connection to a target without a request; an app's `Keep-Alive: timeout=n`
    /// shortens it. 55 s.
    pub pool_idle: Duration,
    /// The same for a request that must not be sent twice: it never rides a connection that the
    /// app may just be closing. 1 s.
    pub pool_idle_unsafe: Duration,
    /// Waiting for a free slot of an app: 503 `overload`. 10 s.
    pub queue: Duration,
    /// A target's first ejection; the n-th lasts n times as long, at most ten times. 30 s.
    pub ejection: Duration,
    /// From a target's removal, or from the router's own end, to cutting what is still in
    /// flight. 30 s.
    pub drain: Duration,
    /// How long a router that ends waits for the next request on an idle client connection. 2 s.
    pub drain_idle: Duration,
    /// Between two reports of measures. 5 s.
    pub metrics: Duration,
    /// How long access log lines are gathered before they are written. 100 ms.
    pub access_log: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            request_head: s(10),
            keep_alive_idle: s(75),
            request_body_gap: s(30),
            request_body_rate_after: s(10),
            client_write_stall: s(60),
            linger: s(2),
            connect: s(3),
            response_head: s(60),
            response_gap: s(60),
            stream_gap: s(3600),
            tunnel_idle: s(3600),
            pool_idle: s(55),
            pool_idle_unsafe: s(1),
            queue: s(10),
            ejection: s(30),
            drain: s(30),
            drain_idle: s(2),
            metrics: s(5),
            access_log: Duration::from_millis(100),
        }
    }
}

/// How much of anything there may be.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A request's line and headers: 431. 64 KiB.
    pub request_head_bytes_max: usize,
    /// Header fields of a request: 431. 128.
    pub request_headers_max: usize,
    /// A request's target: 414. 16 KiB.
    pub uri_bytes_max: usize,
    /// A request body: 413. 1 GiB.
    pub request_body_bytes_max: u64,
    /// The least average rate of a request body. 500 bytes a second.
    pub request_body_bytes_per_s_min: u64,
    /// A response's status line and headers: 502. 64 KiB.
    pub response_head_bytes_max: usize,
    /// Header fields of a response: 502. 128.
    pub response_headers_max: usize,
    /// Client connections. Two fifths of the process's descriptors, 65,536 at most, when `None`.
    pub connections_max: Option<usize>,
    /// Client connections of one address (an IPv6 /64 counts as one); loopback is exempt. 256.
    pub connections_per_ip_max: usize,
    /// Requests of one app at its targets. 1024.
    pub app_in_flight_max: usize,
    /// Requests of one app that wait for a slot: 503 `overload` beyond. 1024.
    pub app_queue_max: usize,
    /// Idle connections kept per target. 64.
    pub pool_idle_per_target_max: usize,
    /// Idle connections kept to the Wasm worker, for all its apps. 256.
    pub pool_idle_worker_max: usize,
    /// Further attempts after a failed one. 2.
    pub retries_max: u32,
    /// Consecutive gateway errors that eject a target. 5.
    pub ejection_errors: u32,
    /// One access log file. 10 MiB.
    pub access_log_bytes_max: u64,
    /// Access log files, with the one being written. 3.
    pub access_log_files_max: u32,
    /// Access log lines waiting to be written; more are dropped and counted. 8192.
    pub access_log_queue_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_head_bytes_max: 64 * 1024,
            request_headers_max: 128,
            uri_bytes_max: 16 * 1024,
            request_body_bytes_max: 1024 * 1024 * 1024,
            request_body_bytes_per_s_min: 500,
            response_head_bytes_max: 64 * 1024,
            response_headers_max: 128,
            connections_max: None,
            connections_per_ip_max: 256,
            app_in_flight_max: 1024,
            app_queue_max: 1024,
            pool_idle_per_target_max: 64,
            pool_idle_worker_max: 256,
            retries_max: 2,
            ejection_errors: 5,
            access_log_bytes_max: 10 * 1024 * 1024,
            access_log_files_max: 3,
            access_log_queue_max: 8192,
        }
    }
}
