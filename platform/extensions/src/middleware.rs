//! Hosts the world `berth:middleware`, in the router.
//!
//! Takes compiled components that the control process verified, with their configuration and
//! secrets, and the heads of requests and responses; gives them back changed, or a reply in the
//! app's place. Calls are for warm instances: each is used by one call at a time, for so many
//! calls. A middleware that is ended (trap, time, memory) has changed nothing, its instance is
//! gone, and after some of these it is not called for a while. Whether the request goes on then is
//! the caller's to decide. Nothing here waits longer than the limits of a call.

mod counters;
mod instance;
mod measures;
mod message;
mod shared;
mod wit;

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use berth_model::Digest;
use berth_model::extension::{BreakerRules, BreakerState, ExtensionId};
use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use wasmtime::component::{Component, ComponentExportIndex, HasSelf};

pub use measures::Measure;
pub use message::{RequestHead, ResponseHead, is_hosts};

use crate::aot::{Code, LoadError};
use crate::engine::{EngineError, Running};
use crate::limits::{Fault, GuestError, Limits, MemoryBudget};
use crate::powers::{self, Allowed, State};
use instance::{Exports, Instances};
use shared::{Registry, Shared};

/// Linear memory of all middlewares together, bytes.
const MEMORY_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Calls at once, of all middlewares.
const CALLS_MAX: usize = 64;
/// Largest body and largest headers of a reply, bytes.
const REPLY_BODY_BYTES_MAX: usize = 1024 * 1024;
const REPLY_HEADER_BYTES_MAX: usize = 64 * 1024;
const REPLY_HEADERS_MAX: usize = 128;

/// Values that the operator gave. They are never shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secrets(pub Vec<(String, Vec<u8>)>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// What a loaded middleware is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MiddlewareConfig {
    /// Names the whole of it: another component, configuration or secret is another load.
    pub load: Digest,
    /// Whose.
    pub extension: ExtensionId,
    /// What its code was compiled from.
    pub component: Digest,
    /// What it asked for and was granted.
    pub allowed: Allowed,
    /// Its configuration, an object, with the defaults of its schema.
    pub config: serde_json::Value,
    /// The secrets it was granted.
    pub secrets: Secrets,
    /// What each call may use.
    pub limits: Limits,
    /// When it is called no longer.
    pub rules: BreakerRules,
    /// It was, and nobody said otherwise.
    pub quarantined: bool,
}

/// Takes what middlewares say. Called while requests wait: it must not block.
pub trait MiddlewareSink: Send + Sync + 'static {
    /// A line for the operator; level is `info`, `warning`, `error` or `debug`.
    fn line(&self, extension: &ExtensionId, level: &str, text: &str);
    /// It is called no longer for a while, or until somebody says so.
    fn state(&self, extension: &ExtensionId, component: Digest, state: BreakerState);
}

/// An answer in the app's place.
#[derive(Debug, Clone)]
pub struct Reply {
    /// From 200 to 599.
    pub status: StatusCode,
    /// Without what belongs to the connection.
    pub headers: HeaderMap,
    /// At most 1 MiB.
    pub body: Bytes,
}

/// A middleware did not do its work; what it stood before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum MiddlewareError {
    /// It was ended, or answered what cannot be.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// It failed too often and is not called now.
    #[error("it failed too often and is not called now")]
    Resting,
    /// Too many calls are under way.
    #[error("too many calls of extensions are under way")]
    Overload,
}

/// What a middleware used since it was loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MiddlewareStats {
    /// Which load.
    pub load: Digest,
    /// Whose.
    pub extension: ExtensionId,
    /// Of which component.
    pub component: Digest,
    /// Calls that were made.
    pub calls: u64,
    /// Replies in the app's place.
    pub replies: u64,
    /// Calls that were ended, or whose reply cannot be.
    pub faults: u64,
    /// Calls that were not made: it rests, or too many are under way.
    pub refused: u64,
    /// Host calls that were not granted.
    pub denied: u64,
    /// Processor time, microseconds.
    pub cpu_us: u64,
    /// Time, microseconds.
    pub wall_us: u64,
    /// Instances that wait for calls.
    pub instances: u32,
    /// Measures of its own.
    pub measures: Vec<Measure>,
}

/// The engine of the middlewares. One per process, made when the first one is loaded.
pub struct MiddlewareHost {
    running: Arc<Running>,
    budget: MemoryBudget,
    places: Arc<Semaphore>,
    registry: Registry,
    sink: Arc<dyn MiddlewareSink>,
    started: Instant,
}

impl MiddlewareHost {
    /// Starts the engine.
    ///
    /// # Errors
    /// When this machine cannot run it.
    pub fn new(sink: Arc<dyn MiddlewareSink>) -> Result<Self, EngineError> {
        let running = Arc::new(Running::extensions()?);
        Ok(Self {
            running,
            budget: MemoryBudget::new(MEMORY_BYTES_MAX),
            places: Arc::new(Semaphore::new(CALLS_MAX)),
            registry: Registry::default(),
            sink,
            started: Instant::now(),
        })
    }

    /// Loads a middleware and makes its first instance. The descriptor is of code that the
    /// control process verified, and came from nobody else.
    ///
    /// # Errors
    /// `Map` when the code is not of this engine, `Link` when it is not of this world or does not
    /// start.
    pub async fn load(
        &self,
        config: MiddlewareConfig,
        code: OwnedFd,
    ) -> Result<Middleware, LoadError> {
        let component = Code::vouched_for(code).map(&self.running.engine)?;
        let link = |error: wasmtime::Error| LoadError::Link(format!("{error:#}"));
        let exports = Exports {
            request: export(&component, "request-filter", "on-request"),
            response: export(&component, "response-filter", "on-response"),
        };
        if exports.request.is_none() && exports.response.is_none() {
            return Err(LoadError::Link(
                "the component exports neither berth:middleware/request-filter@0.1.0 nor \
                 berth:middleware/response-filter@0.1.0"
                    .to_owned(),
            ));
        }
        let mut linker =
            powers::link(&self.running.engine, &config.allowed.interfaces()).map_err(link)?;
        wit::Middleware::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)
            .map_err(link)?;
        let instances = Instances {
            running: Arc::clone(&self.running),
            pre: linker.instantiate_pre(&component).map_err(link)?,
            exports,
            budget: self.budget.clone(),
            own_places: Semaphore::new(instance::CALLS_AT_ONCE_MAX),
            places: Arc::clone(&self.places),
            idle: Mutex::default(),
        };
        let kept = self.registry.of(&config);
        let shared = Shared::new(config, kept, Arc::clone(&self.sink), self.started);
        let shared = Arc::new(shared);
        instances.prepare(&shared).await?;
        Ok(Middleware { instances, shared })
    }

    /// Versions of extensions that are called no longer until somebody says so.
    pub fn quarantined(&self) -> Vec<(ExtensionId, Digest)> {
        self.registry.quarantined()
    }

    /// Lets an extension be called again after a quarantine; false when it is not loaded.
    pub fn resume(&self, extension: &ExtensionId, component: Digest) -> bool {
        self.registry.resume(extension, component)
    }
}

fn export(component: &Component, interface: &str, function: &str) -> Option<ComponentExportIndex> {
    let interface = format!("berth:middleware/{interface}@0.1.0");
    let interface = component.get_export_index(None, &interface)?;
    component.get_export_index(Some(&interface), function)
}

/// A loaded middleware. Its calls are independent of each other.
pub struct Middleware {
    instances: Instances,
    shared: Arc<Shared>,
}

impl fmt::Debug for Middleware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Middleware").field(&self.shared.config.extension).finish()
    }
}

impl Middleware {
    /// What it was loaded as.
    pub fn config(&self) -> &MiddlewareConfig {
        &self.shared.config
    }

    /// Whether it looks at requests.
    pub fn filters_requests(&self) -> bool {
        self.instances.exports.request.is_some()
    }

    /// Whether it looks at responses.
    pub fn filters_responses(&self) -> bool {
        self.instances.exports.response.is_some()
    }

    /// Longest body that it may see, bytes; `None` when it sees none.
    pub fn body_bytes_max(&self) -> Option<u64> {
        self.shared.body_bytes_max().filter(|_| self.filters_requests())
    }

    /// Shows it a request; gives the request back and its reply, if it has one.
    pub async fn on_request(
        &self,
        head: RequestHead,
    ) -> (RequestHead, Result<Option<Reply>, MiddlewareError>) {
        let (head, result) = self.instances.on_request(&self.shared, head).await;
        let result = match result {
            Ok(None) => Ok(None),
            Ok(Some(raw)) => checked(raw).map(Some).map_err(|reason| {
                let message = format!("its reply cannot be sent: {reason}");
                self.shared.note_fault(&message);
                MiddlewareError::Guest(GuestError { fault: Fault::Output, message })
            }),
            Err(error) => Err(error),
        };
        if matches!(result, Ok(Some(_))) {
            self.shared.note_reply();
        }
        (head, result)
    }

    /// Shows it a response; gives the response back.
    pub async fn on_response(
        &self,
        head: ResponseHead,
    ) -> (ResponseHead, Result<(), MiddlewareError>) {
        self.instances.on_response(&self.shared, head).await
    }

    /// What it used.
    pub fn stats(&self) -> MiddlewareStats {
        self.shared.stats(self.instances.waiting())
    }

    /// Drops instances that nobody needed for so long, but for one.
    pub fn sweep(&self, idle_max: Duration) {
        self.instances.sweep(idle_max);
    }
}

/// A reply as a guest gave it, held to what can be sent.
fn checked(raw: wit::berth::middleware::types::Reply) -> Result<Reply, String> {
    let status = StatusCode::from_u16(raw.status)
        .ok()
        .filter(|status| (200..600).contains(&status.as_u16()))
        .ok_or_else(|| format!("{} is no status", raw.status))?;
    if raw.body.len() > REPLY_BODY_BYTES_MAX {
        return Err(format!("its body has more than {REPLY_BODY_BYTES_MAX} bytes"));
    }
    let bytes: usize = raw.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > REPLY_HEADER_BYTES_MAX || raw.headers.len() > REPLY_HEADERS_MAX {
        return Err(format!(
            "it has more than {REPLY_HEADERS_MAX} headers or {REPLY_HEADER_BYTES_MAX} bytes of them"
        ));
    }
    let mut headers = HeaderMap::with_capacity(raw.headers.len());
    for (name, value) in raw.headers {
        if is_hosts(&name) {
            continue;
        }
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
        let value = HeaderValue::from_maybe_shared(Bytes::from(value)).ok();
        let (Some(parsed), Some(value)) = (parsed, value) else {
            return Err(format!("{} is no header", crate::lines::printable(&name, 100)));
        };
        headers.append(parsed, value);
    }
    let empty = matches!(status.as_u16(), 204 | 304);
    let body = if empty { Bytes::new() } else { Bytes::from(raw.body) };
    Ok(Reply { status, headers, body })
}

fn unix_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
