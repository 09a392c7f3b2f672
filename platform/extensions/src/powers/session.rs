//! One call of an extension: what it runs with, and what came of it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_model::extension::{Capabilities, ExtensionId, HttpDenial};
use serde::{Deserialize, Serialize};
use wasmtime::Store;
use wasmtime::component::InstancePre;
use wasmtime_wasi::{Deterministic, HostMonotonicClock, HostWallClock, WasiCtx};

use super::{Failure, Level, PowerError, PowerHost, State};
use crate::aot::{Code, LoadError};
use crate::engine::Running;
use crate::limits::{self, Fault, GuestError, Limits, MemoryLimiter, Meter, Sandbox};
use crate::lines::{Excess, Lines, Sink};

/// What an extension may do: what its manifest names and the operator granted, both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// What the manifest of this version names.
    pub asked: Capabilities,
    /// What the operator granted.
    pub granted: Capabilities,
}

impl Allowed {
    /// All that was asked for; for tests of an author.
    pub fn all(asked: Capabilities) -> Self {
        Self { granted: asked.clone(), asked }
    }

    /// Whether one of the entries that are there or not is in both.
    pub(crate) fn both(&self, has: impl Fn(&Capabilities) -> bool) -> bool {
        has(&self.asked) && has(&self.granted)
    }

    /// Whether a request may be sent, and whether private addresses count.
    pub(crate) fn http(&self, method: &str, host: &str, port: u16) -> Result<bool, HttpDenial> {
        let asked = self.asked.http_allows(method, host, port)?;
        let granted = self.granted.http_allows(method, host, port)?;
        Ok(asked && granted)
    }

    /// Interfaces that are linked: those of the manifest. What of them was not granted is answered
    /// with `denied` by each call, so that an extension goes on without what it can do without.
    pub(crate) fn interfaces(&self) -> Vec<&'static str> {
        self.asked.interfaces()
    }
}

/// What one call runs with.
#[derive(Clone)]
pub struct Session {
    /// Which extension.
    pub extension: ExtensionId,
    /// What it may do.
    pub allowed: Arc<Allowed>,
    /// Its configuration, an object.
    pub config: Arc<serde_json::Value>,
    /// Who does it.
    pub host: Arc<dyn PowerHost>,
    /// What it may use.
    pub limits: Limits,
}

/// What a call used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time, microseconds.
    pub cpu_us: u64,
    /// Time of the whole call, microseconds.
    pub wall_us: u64,
    /// Most linear memory at once, bytes.
    pub memory_peak_bytes: u64,
    /// Calls into the host.
    pub host_calls: u64,
}

/// How a call ended, for measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With a value.
    Ok,
    /// With an error that the extension returned.
    Error,
    /// With a limit or a trap.
    Fault(Fault),
    /// The platform failed under it.
    Host,
}

/// A call did not give a value.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The extension says itself why.
    #[error("{}", .0.message)]
    Failure(Failure),
    /// It was ended.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The platform failed under it.
    #[error("the platform failed while the extension ran: {0}")]
    Host(String),
}

/// A call that is over.
#[derive(Debug)]
pub struct Called<T> {
    /// What came of it.
    pub result: Result<T, CallError>,
    /// What it used.
    pub usage: Usage,
}

impl<T> Called<T> {
    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        match &self.result {
            Ok(_) => Outcome::Ok,
            Err(CallError::Failure(_)) => Outcome::Error,
            Err(CallError::Guest(error)) => Outcome::Fault(error.fault),
            Err(CallError::Host(_)) => Outcome::Host,
        }
    }

    /// Ends in an error when the value has more bytes than the call may write.
    pub(crate) fn within(mut self, limits: &Limits, bytes: impl FnOnce(&T) -> usize) -> Self {
        let over = |value| bytes(value) as u64 > limits.output_bytes_max;
        if self.result.as_ref().is_ok_and(over) {
            let message = limits::limit_message(Fault::Output, limits);
            self.result = Err(CallError::Guest(GuestError { fault: Fault::Output, message }));
        }
        self
    }

    /// What the value means. One that means nothing is the extension's fault, as a trap is.
    pub fn checked<U, E: fmt::Display>(self, read: impl FnOnce(T) -> Result<U, E>) -> Called<U> {
        let result = self.result.and_then(|value| {
            read(value).map_err(|error| {
                let message = format!("what the component gave is not valid: {error}");
                let message = crate::lines::printable(&message, 4 * 1024);
                CallError::Guest(GuestError { fault: Fault::Invalid, message })
            })
        });
        Called { result, usage: self.usage }
    }
}

/// The engine of the extensions. One per process; cheap to clone.
#[derive(Clone)]
pub(crate) struct Runner {
    pub(crate) running: Arc<Running>,
}

impl Runner {
    /// Maps a component and links it with the powers that it may use, and no others. Its world is
    /// looked at by the kind.
    pub(crate) fn load(
        &self,
        code: &Code,
        allowed: &Allowed,
    ) -> Result<InstancePre<State>, LoadError> {
        let component = code.map(&self.running.engine)?;
        let failed = |error: wasmtime::Error| LoadError::Link(format!("{error:#}"));
        let linker = super::link(&self.running.engine, &allowed.interfaces()).map_err(failed)?;
        linker.instantiate_pre(&component).map_err(failed)
    }

    /// Runs one call in a store of its own.
    pub(crate) async fn call<T>(
        &self,
        session: Session,
        entry: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<Result<T, Failure>>,
    ) -> Called<T> {
        let _ticking = self.running.ticker.run();
        let started = Instant::now();
        let limits = session.limits;
        let (session, veil) = super::veiled(session);
        let meter = Arc::new(Meter::new(limits));
        let sandbox = Sandbox::new(
            Arc::clone(&meter),
            MemoryLimiter::new(&limits, None),
            wasi(&session, &meter),
        );
        let mut store = limits::armed_store(&self.running.engine, State { sandbox, session });
        let ended = meter.bound(entry(&mut store)).await;
        let result = match ended {
            Some(Ok(Ok(value))) => Ok(value),
            Some(Ok(Err(failure))) => Err(CallError::Failure(within(veil.veiled_failure(failure)))),
            Some(Err(error)) => Err(match error.downcast_ref::<PowerError>() {
                // A function that has no error of its own was denied.
                Some(PowerError::Failure(failure)) => CallError::Failure(failure.clone()),
                Some(host) => CallError::Host(host.to_string()),
                None => {
                    let refused = store.data().sandbox.memory.refused().is_some();
                    limits::explain(&error, &meter, refused).into()
                }
            }),
            None => Err(CallError::Guest(GuestError {
                fault: Fault::Timeout,
                message: limits::limit_message(Fault::Timeout, &limits),
            })),
        };
        let usage = Usage {
            cpu_us: meter.cpu_ns() / 1000,
            wall_us: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            memory_peak_bytes: store.data().sandbox.memory.peak_bytes(),
            host_calls: meter.host_calls(),
        };
        Called { result, usage }
    }
}

/// The words of a guest, cut and made fit to be shown.
fn within(failure: Failure) -> Failure {
    const TEXT_BYTES_MAX: usize = 4 * 1024;
    let fit = |text: &str| crate::lines::printable(text, TEXT_BYTES_MAX);
    Failure {
        code: crate::lines::printable(&failure.code, 64),
        message: fit(&failure.message),
        retry: failure.retry,
        extra: failure.extra.iter().take(16).map(|(key, value)| (fit(key), fit(value))).collect(),
    }
}

/// What ordinary guests of wasm32-wasip2 import without meaning to. The time is told to those
/// that may know it; for the others it stands still. Random numbers are the same each time.
pub(crate) fn wasi(session: &Session, meter: &Arc<Meter>) -> WasiCtx {
    let host = Arc::clone(&session.host);
    let sink: Sink = Arc::new(move |stream, line, _| host.log(Level::of_stream(stream), line));
    let lines = |stream| Lines::new(stream, Arc::clone(&sink), Arc::clone(meter), Excess::Ends);
    let mut builder = WasiCtx::builder();
    builder
        .stdout(lines(berth_model::log::LogStream::Stdout))
        .stderr(lines(berth_model::log::LogStream::Stderr))
        .secure_random(Deterministic::new(vec![4]))
        .insecure_random(Deterministic::new(vec![4]))
        .insecure_random_seed(4)
        .max_random_size(1024 * 1024)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    let told = session.allowed.both(|set| set.clock.is_some());
    let clock = Clock { host: told.then(|| Arc::clone(&session.host)) };
    builder.wall_clock(clock.clone()).monotonic_clock(clock).build()
}

/// The time of the host's clock, or none.
#[derive(Clone)]
struct Clock {
    host: Option<Arc<dyn PowerHost>>,
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        self.host.as_ref().map_or(Duration::ZERO, |host| Duration::from_millis(host.now_ms()))
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        self.host.as_ref().map_or(0, |host| host.now_ms().saturating_mul(1_000_000))
    }
}
