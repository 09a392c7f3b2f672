//! What the router is told.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::extension::{ExtensionId, OnFailure};
use crate::{AppId, AppName, Digest, InstanceId};

/// Every route, as one value. The router refuses a generation older than the one it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct RouteTable {
    /// Rises with each change.
    pub generation: u64,
    /// Routes; a host stands in one of them only.
    pub routes: Vec<Route>,
}

/// The hosts of one app and where their requests go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The app, for logs and metrics.
    pub app: AppId,
    /// Its name, for logs.
    pub name: AppName,
    /// Number of the release that serves, for logs.
    pub release: Option<u64>,
    /// Host names in lower case without port; `*.x` is a wildcard of one label.
    pub hosts: Vec<String>,
    /// What the route does.
    pub state: RouteState,
    /// Ready targets.
    pub targets: Vec<Target>,
    /// What requests pass on their way there, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub middleware: Vec<RouteMiddleware>,
}

/// A middleware before an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteMiddleware {
    /// Names its component, configuration and secrets as a whole, which the router has beside the
    /// table.
    pub load: Digest,
    /// Whose, for logs.
    pub extension: ExtensionId,
    /// What happens to a request when it fails, or is not there.
    pub on_failure: OnFailure,
}

/// What a route does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteState {
    /// Goes to a target; 503 `no_healthy` without one.
    Serving,
    /// Nothing was deployed yet: 503 `no_release`.
    NoRelease,
    /// The owner stopped the app: 503 `stopped`.
    Stopped,
}

/// One place that answers requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// The instance; connections are pooled per instance, never per address.
    pub instance: InstanceId,
    /// Where it listens.
    pub address: TargetAddress,
}

/// How a target is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetAddress {
    /// HTTP/1.1 over TCP.
    Tcp(SocketAddr),
    /// A Wasm app in the Wasm worker: HTTP/1.1 over the worker's unix socket, with the instance's
    /// id in the `berth-instance` request header, which the router removes from what clients send.
    Wasm,
}
