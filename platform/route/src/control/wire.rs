//! Messages between the control process and the router.
//!
//! Each is a frame of JSON on a unix stream socket. The control process speaks first, with its
//! hello; the router answers with its own, which holds everything that a control process needs
//! to go on after either of the two was away.

use berth_extensions::middleware::{MiddlewareConfig, MiddlewareStats};
use berth_model::extension::{BreakerState, ExtensionId};
use berth_model::{AppId, Digest, InstanceId, RouteTable};
use serde::{Deserialize, Serialize};

/// Version of this protocol.
pub const PROTOCOL: u32 = 3;
/// The oldest version that this router understands.
pub(crate) const PROTOCOL_OLDEST: u32 = 1;

/// Upper bounds of the buckets of [`AppMetrics::latency`], microseconds: five in each decade, the
/// preferred numbers of series R5 of ISO 3. One bucket more counts what is slower.
pub const LATENCY_BOUNDS_US: [u64; 30] = [
    100, 160, 250, 400, 630, 1_000, 1_600, 2_500, 4_000, 6_300, 10_000, 16_000, 25_000, 40_000,
    63_000, 100_000, 160_000, 250_000, 400_000, 630_000, 1_000_000, 1_600_000, 2_500_000,
    4_000_000, 6_300_000, 10_000_000, 16_000_000, 25_000_000, 40_000_000, 63_000_000,
];

/// From the control process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(crate) enum Down {
    /// First message. -> `Hello` or `Incompatible`.
    Hello {
        /// The caller's [`PROTOCOL`].
        protocol: u32,
    },
    /// Serve this table. -> `Ack` or `Refused`.
    Table { table: RouteTable },
    /// Load this middleware, whose code is the descriptor beside the message. Tables that name it
    /// follow. -> `Loaded` or `NotLoaded`.
    Load { middleware: Box<MiddlewareConfig> },
    /// Call this version of an extension again.
    Resume { extension: ExtensionId, component: Digest },
    /// End, as after SIGTERM.
    Drain,
    /// -> `Listeners`, with the HTTP listener's descriptor.
    Listeners,
    /// -> `Metrics`. Since protocol 3.
    Metrics,
}

/// From the router.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(crate) enum Up {
    /// Who and what is here.
    Hello(RouterHello),
    /// The router does not speak the caller's protocol.
    Incompatible {
        /// The router's own.
        protocol: u32,
    },
    /// The table is served, and on disk unless `saved` says otherwise.
    Ack { generation: u64, saved: bool },
    /// The table is not served.
    Refused { generation: u64, current: u64, reason: String },
    /// The last request has left a removed target.
    Drained { instance: InstanceId },
    /// Requests are kept away from a target, or no longer.
    Health { instance: InstanceId, ejected: bool },
    /// Counters of apps that had requests.
    Metrics { apps: Vec<AppMetrics>, log_dropped: u64 },
    /// The descriptor beside this message is the HTTP listener.
    Listeners,
    /// The middleware is there.
    Loaded { load: Digest },
    /// The middleware cannot be used.
    NotLoaded { load: Digest, reason: String },
    /// What middlewares said; so many lines were dropped since the router started.
    Lines { lines: Vec<MiddlewareLine>, dropped: u64 },
    /// An extension is called no longer for a while, or until somebody says so.
    Breaker { extension: ExtensionId, component: Digest, state: BreakerState },
    /// What each middleware that had calls since the last report used.
    Middleware { stats: Vec<MiddlewareStats> },
}

/// A line of a middleware's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MiddlewareLine {
    /// Whose.
    pub extension: ExtensionId,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// `info`, `warning`, `error` or `debug`.
    pub level: String,
    /// Without control characters.
    pub text: String,
}

/// What the router says when a control process connects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterHello {
    /// The router's [`PROTOCOL`].
    pub protocol: u32,
    /// The generation that is served; 0 without a table.
    pub generation: u64,
    /// The build that the router is of.
    pub build: String,
    /// When the router started, Unix milliseconds; its counters began then.
    pub started_at_ms: u64,
    /// Targets that are in no table any more and still have requests. Whatever is neither here
    /// nor in the table is drained.
    pub draining: Vec<Draining>,
    /// Middlewares that are loaded; tables may name them.
    #[serde(default)]
    pub middleware: Vec<Digest>,
    /// Components that are called no longer until the control process says so.
    #[serde(default)]
    pub quarantined: Vec<(ExtensionId, Digest)>,
}

/// A removed target with requests in flight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    /// Which.
    pub instance: InstanceId,
    /// How many, tunnels among them.
    pub in_flight: usize,
}

/// Counters of one app since the router began to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppMetrics {
    /// Whose.
    pub app: AppId,
    /// Finished requests.
    pub requests: u64,
    /// By status: 1xx, 2xx, 3xx, 4xx, 5xx, and clients that left before an answer.
    pub statuses: [u64; 6],
    /// Answers made or cut by the router, among the above.
    pub faults: u64,
    /// Attempts after a first one.
    pub retries: u64,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
    /// Total time of all of them, microseconds.
    pub total_us: u64,
    /// Requests by total time; bounds in [`LATENCY_BOUNDS_US`].
    pub latency: Vec<u64>,
}
