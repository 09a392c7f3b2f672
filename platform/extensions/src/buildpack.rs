//! Hosts the world `berth:buildpack`.
//!
//! Takes a compiled buildpack and a [`BuildpackHost`], which is the build room; gives what the
//! buildpack decided or built. While it detects, a buildpack sees the source, the log and the
//! inventory only. It never has files, network, a clock or randomness of its own: the clock stands
//! still and random numbers are the same each time, so that its answers are reproducible.

mod calls;
mod wit;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use berth_model::log::LogStream;
use wasmtime::Store;
use wasmtime::component::Linker;
use wasmtime_wasi::{Deterministic, HostMonotonicClock, HostWallClock, WasiCtx};

pub use wit::berth::buildpack::inventory::Entry;
pub use wit::berth::buildpack::tools::{Outcome as ToolOutcome, Step};
pub use wit::berth::buildpack::types::{Context, Failure, Plan, Require, Target};
pub use wit::exports::berth::buildpack::builder::{Output, Process};
pub use wit::exports::berth::buildpack::detector::Outcome as Verdict;

use crate::aot::{Code, LoadError};
use crate::engine::{EngineError, Running};
use crate::limits::{self, Fault, GuestError, Limits, MemoryLimiter, Meter, Sandbox};
use crate::lines::{Excess, Lines, Sink};
use calls::State;

/// What the clock of a buildpack shows: the time that files in layers have (1 January 1980).
const CLOCK: Duration = Duration::from_secs(315_532_801);

/// A host function did not do what the buildpack asked.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The buildpack is told, and may go on. Where its interface has no failure, this ends it
    /// like `Broken`.
    #[error("{}", .0.message)]
    Failure(Failure),
    /// The platform failed; the buildpack is ended.
    #[error(transparent)]
    Broken(#[from] Box<dyn std::error::Error + Send + Sync>),
}

impl From<Failure> for HostError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Who wrote a line, and how it is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// For everybody.
    Info,
    /// Something that the one who pushed should mend.
    Warning,
    /// Why the build fails.
    Error,
    /// Hidden unless asked for; also what the component wrote to its own output.
    Debug,
}

/// What the build room does for buildpacks. The rules of each function are in the WIT; paths and
/// names come from the guest as they are, and the implementation judges them. Log texts come
/// without control characters and within the limits.
#[async_trait]
pub trait BuildpackHost: Send + Sync + 'static {
    /// `source.kind`.
    async fn source_kind(&self, path: &str) -> Result<String, HostError>;
    /// `source.read`; `bytes_max` is already at most what one call may carry.
    async fn source_read(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, HostError>;
    /// `source.glob`.
    async fn source_glob(&self, patterns: &[String]) -> Result<Vec<String>, HostError>;
    /// `source.digest`.
    async fn source_digest(&self, patterns: &[String]) -> Result<String, HostError>;
    /// `log.header`.
    fn log_header(&self, text: &str);
    /// `log.line`, and what the component writes to its output, as `Debug`.
    fn log_line(&self, level: LogLevel, text: &str);
    /// `inventory.entries`.
    async fn inventory_entries(&self, role: &str, package: &str) -> Result<Vec<Entry>, HostError>;
    /// `workspace.write`.
    async fn workspace_write(
        &self,
        path: &str,
        data: Vec<u8>,
        executable: bool,
    ) -> Result<(), HostError>;
    /// `workspace.symlink`.
    async fn workspace_symlink(&self, path: &str, target: &str) -> Result<(), HostError>;
    /// `workspace.remove`.
    async fn workspace_remove(&self, patterns: &[String]) -> Result<u32, HostError>;
    /// `layers.open`. The layer is named again in each of the calls that follow.
    async fn layer_open(&self, name: &str, kinds: &[String]) -> Result<(), HostError>;
    /// `layer.path`.
    async fn layer_path(&self, layer: &str) -> Result<String, HostError>;
    /// `layer.restored`.
    async fn layer_restored(&self, layer: &str) -> Result<Option<String>, HostError>;
    /// `layer.clear`.
    async fn layer_clear(&self, layer: &str) -> Result<(), HostError>;
    /// `layer.update`.
    async fn layer_update(&self, layer: &str) -> Result<(), HostError>;
    /// `layer.set-metadata`.
    async fn layer_set_metadata(&self, layer: &str, metadata: &str) -> Result<(), HostError>;
    /// `layer.write`.
    async fn layer_write(
        &self,
        layer: &str,
        path: &str,
        data: Vec<u8>,
        executable: bool,
    ) -> Result<(), HostError>;
    /// `layer.symlink`.
    async fn layer_symlink(&self, layer: &str, path: &str, target: &str) -> Result<(), HostError>;
    /// `layer.env`.
    async fn layer_env(
        &self,
        layer: &str,
        phase: &str,
        operation: &str,
        name: &str,
        value: &str,
    ) -> Result<(), HostError>;
    /// `tools.run`. Its time does not count as the buildpack's.
    async fn tool_run(&self, step: Step) -> Result<ToolOutcome, HostError>;
    /// `tools.fetch`. Its time does not count as the buildpack's.
    async fn tool_fetch(
        &self,
        role: &str,
        package: &str,
        version: &str,
        integrity: &str,
    ) -> Result<String, HostError>;
}

/// A buildpack did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum BuildpackError {
    /// It says itself why, for the person who pushed.
    #[error("{}", .0.message)]
    Failure(Failure),
    /// It was ended.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The platform failed under it.
    #[error("the platform failed while the buildpack ran: {0}")]
    Host(String),
}

/// An error and, behind colons, what caused it: nobody can ask the text for its source.
fn with_causes(error: &HostError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The engine of the buildpacks. One per process.
pub struct Buildpacks {
    running: Arc<Running>,
    linker: Linker<State>,
}

impl Buildpacks {
    /// Starts the engine.
    ///
    /// # Errors
    /// When this machine cannot run it.
    pub fn new() -> Result<Self, EngineError> {
        let running = Arc::new(Running::extensions()?);
        let mut linker = Linker::new(&running.engine);
        calls::link(&mut linker).map_err(|error| EngineError::Settings(format!("{error:#}")))?;
        Ok(Self { running, linker })
    }

    /// Maps a buildpack, compiled for [`EngineKind::Extensions`](crate::EngineKind).
    ///
    /// # Errors
    /// `Link` when it is not a component of this world.
    pub fn load(&self, code: &Code) -> Result<Buildpack, LoadError> {
        let component = code.map(&self.running.engine)?;
        let link = |error: wasmtime::Error| LoadError::Link(format!("{error:#}"));
        let instance = self.linker.instantiate_pre(&component).map_err(link)?;
        let world = wit::BuildpackPre::new(instance).map_err(link)?;
        Ok(Buildpack { running: Arc::clone(&self.running), world })
    }
}

/// A buildpack that can be called. Each call has an instance of its own.
pub struct Buildpack {
    running: Arc<Running>,
    world: wit::BuildpackPre<State>,
}

impl Buildpack {
    /// Asks whether the buildpack fits the source.
    ///
    /// # Errors
    /// `Failure` from the buildpack, `Guest` when it was ended, `Host` when `host` failed.
    pub async fn detect(
        &self,
        context: &Context,
        host: Arc<dyn BuildpackHost>,
        limits: Limits,
    ) -> Result<Verdict, BuildpackError> {
        self.call(host, limits, false, async |world, store| {
            world.berth_buildpack_detector().call_detect(store, context).await
        })
        .await
    }

    /// Builds.
    ///
    /// # Errors
    /// As `detect`.
    pub async fn build(
        &self,
        context: &Context,
        requires: &[Require],
        host: Arc<dyn BuildpackHost>,
        limits: Limits,
    ) -> Result<Output, BuildpackError> {
        self.call(host, limits, true, async |world, store| {
            world.berth_buildpack_builder().call_build(store, context, requires).await
        })
        .await
    }

    async fn call<T>(
        &self,
        host: Arc<dyn BuildpackHost>,
        limits: Limits,
        building: bool,
        entry: impl AsyncFnOnce(
            &wit::Buildpack,
            &mut Store<State>,
        ) -> wasmtime::Result<Result<T, Failure>>,
    ) -> Result<T, BuildpackError> {
        let _ticking = self.running.ticker.run();
        let meter = Arc::new(Meter::new(limits));
        let sandbox = Sandbox::new(
            Arc::clone(&meter),
            MemoryLimiter::new(&limits, None),
            stub_wasi(&host, &meter),
        );
        let state = State { sandbox, host, building };
        let mut store = limits::armed_store(&self.running.engine, state);
        let ended = meter
            .bound(async {
                let world = self.world.instantiate_async(&mut store).await?;
                entry(&world, &mut store).await
            })
            .await;
        match ended {
            Some(Ok(Ok(value))) => Ok(value),
            Some(Ok(Err(failure))) => Err(BuildpackError::Failure(failure)),
            Some(Err(error)) => Err(match error.downcast_ref::<HostError>() {
                Some(host) => BuildpackError::Host(with_causes(host)),
                None => {
                    let refused = store.data().sandbox.memory.refused().is_some();
                    limits::explain(&error, &meter, refused).into()
                }
            }),
            None => Err(BuildpackError::Guest(GuestError {
                fault: Fault::Timeout,
                message: limits::limit_message(Fault::Timeout, &limits),
            })),
        }
    }
}

/// What ordinary guests of wasm32-wasip2 import without meaning to.
fn stub_wasi(host: &Arc<dyn BuildpackHost>, meter: &Arc<Meter>) -> WasiCtx {
    let host = Arc::clone(host);
    let sink: Sink = Arc::new(move |_, line, _| host.log_line(LogLevel::Debug, line));
    let lines = |stream| Lines::new(stream, Arc::clone(&sink), Arc::clone(meter), Excess::Ends);
    WasiCtx::builder()
        .stdout(lines(LogStream::Stdout))
        .stderr(lines(LogStream::Stderr))
        .wall_clock(StoppedClock)
        .monotonic_clock(StoppedClock)
        .secure_random(Deterministic::new(vec![4]))
        .insecure_random(Deterministic::new(vec![4]))
        .insecure_random_seed(4)
        .max_random_size(1024 * 1024)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

struct StoppedClock;

impl HostWallClock for StoppedClock {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        CLOCK
    }
}

impl HostMonotonicClock for StoppedClock {
    fn resolution(&self) -> u64 {
        1_000_000_000
    }

    fn now(&self) -> u64 {
        0
    }
}
