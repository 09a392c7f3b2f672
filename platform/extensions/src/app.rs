//! Hosts apps: components of `wasi:http/proxy` 0.2.
//!
//! Takes compiled components that the control process verified, and requests; gives responses.
//! Each request has a fresh instance. Bodies stream both ways. An app that nobody calls is a
//! descriptor and its settings: its code is mapped when a request comes, and unmapped when it was
//! idle for a while. Apps have no files and no sockets; `powers` says what else they have.
//! Environment values are secret and must never be shown.

mod body;
mod powers;
mod request;
mod values;

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use berth_model::extension::HostPattern;
use berth_model::log::LogStream;
use berth_model::manifest::HttpTarget;
use berth_model::{AppId, Digest, InstanceId};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Linker;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

pub use body::{AppBody, BodyCut};
pub(crate) use request::ERROR_HEADER;
pub use values::{AppValues, NoValues, ValueAnswer, ValueCall};

use crate::aot::{Code, LoadError};
use crate::engine::{EngineError, Pool, Running, Ticking};
use crate::limits::{Fault, GuestError, Limits, MemoryBudget};
use crate::outbound::Outbound;
use crate::powers::Session;
use powers::AppPowers;
use request::State;

/// Takes the lines that apps write. Called from the threads that run guests: it must not block.
pub trait LogSink: Send + Sync + 'static {
    /// One line of an instance; `partial` when the next one goes on. `System` lines are Berth's.
    fn line(&self, instance: InstanceId, stream: LogStream, line: &str, partial: bool);
}

/// The environment of an app. Its values are never shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Env(pub Vec<(String, String)>);

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// What an instance of an app is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppConfig {
    /// Its id, which requests name.
    pub instance: InstanceId,
    /// Whose it is.
    pub app: AppId,
    /// What its code was compiled from.
    pub component: Digest,
    /// What it finds in its environment.
    pub env: Env,
    /// What it has as handles.
    pub secrets: Env,
    /// Servers that it may ask.
    pub http: Vec<HttpTarget>,
    /// Hosts whose addresses may be of private networks, where it may ask them.
    pub private_hosts: Vec<HostPattern>,
    /// First address of the /16 of instances, which it never asks.
    pub instances: Option<Ipv4Addr>,
    /// Its requests at once; more of them wait.
    pub requests_max: u32,
    /// What each of its requests may use.
    pub limits: Limits,
}

impl AppConfig {
    /// An app that has no environment and asks nobody for anything.
    pub fn alone(instance: InstanceId, app: AppId, component: Digest, limits: Limits) -> Self {
        Self {
            instance,
            app,
            component,
            env: Env::default(),
            secrets: Env::default(),
            http: Vec::new(),
            private_hosts: Vec::new(),
            instances: None,
            requests_max: u32::MAX,
            limits,
        }
    }
}

/// How an [`AppHost`] shares the machine among apps.
#[derive(Debug, Clone, Copy)]
pub struct AppHostOptions {
    /// Guests at once.
    pub pool: Pool,
    /// Linear memory of all guests together, bytes; beyond it requests are refused.
    pub memory_bytes_max: u64,
    /// Requests of one app at once, whatever it asks for; more of them wait.
    pub requests_per_app_max: usize,
    /// Requests of one app that wait; more of them are refused.
    pub queue_per_app_max: usize,
    /// Longest wait, milliseconds.
    pub queue_wait_ms_max: u32,
}

impl Default for AppHostOptions {
    fn default() -> Self {
        Self {
            pool: Pool::default(),
            memory_bytes_max: 1024 * 1024 * 1024,
            requests_per_app_max: 64,
            queue_per_app_max: 1024,
            queue_wait_ms_max: 5_000,
        }
    }
}

/// A request was not answered by its app.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// No such instance is loaded.
    #[error("the app is not loaded")]
    NotLoaded,
    /// The worker, or the share of the app, is full.
    #[error("too many requests at once; try again")]
    Overload,
    /// The request cannot be handed to an app.
    #[error("the request cannot be handed to the app: {0}")]
    BadRequest(String),
    /// The app was ended, or answered nothing.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// Its code could not be mapped.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl AppError {
    /// The code of the `berth-error` header.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotLoaded => "not_loaded",
            Self::Overload => "overload",
            Self::BadRequest(_) => "bad_request",
            Self::Guest(error) => error.fault.code(),
            Self::Load(_) => "load",
        }
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotLoaded | Self::Overload => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Guest(error) if error.fault == Fault::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Guest(_) | Self::Load(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// What an instance used since it was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStats {
    /// Which.
    pub instance: InstanceId,
    /// Requests handed to it.
    pub requests: u64,
    /// Requests that did not end well.
    pub failures: u64,
    /// Processor time, microseconds.
    pub cpu_us: u64,
    /// Most linear memory of one request, bytes.
    pub memory_peak_bytes: u64,
    /// Requests to other servers, and other powers, that it was refused.
    pub denied: u64,
    /// Requests under way.
    pub active: u32,
    /// Whether its code is mapped.
    pub mapped: bool,
}

/// The apps of one worker.
pub struct AppHost {
    running: Running,
    linker: Linker<State>,
    options: AppHostOptions,
    budget: MemoryBudget,
    slots: Arc<Semaphore>,
    apps: RwLock<HashMap<InstanceId, Arc<App>>>,
    log: Arc<dyn LogSink>,
    values: Arc<dyn AppValues>,
    outbound: Outbound,
    started: Instant,
}

/// One instance.
struct App {
    config: AppConfig,
    code: Code,
    mapped: Mutex<Option<ProxyPre<State>>>,
    /// Places in the pool that a request needs.
    places: u32,
    gate: Arc<Semaphore>,
    requests_max: usize,
    powers: Arc<AppPowers>,
    session: Session,
    waiting: Arc<Semaphore>,
    used_ms: AtomicU64,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    failures: AtomicU64,
    cpu_ns: AtomicU64,
    memory_peak_bytes: AtomicU64,
}

/// What a request holds while it runs.
struct Place {
    _ticking: Ticking,
    _slot: OwnedSemaphorePermit,
    _turn: OwnedSemaphorePermit,
}

impl AppHost {
    /// Starts the engine and reserves its pool.
    ///
    /// # Errors
    /// `Pool` when it cannot be reserved; it never goes on without.
    pub fn new(
        options: AppHostOptions,
        log: Arc<dyn LogSink>,
        values: Arc<dyn AppValues>,
    ) -> Result<Self, EngineError> {
        let running = Running::apps(options.pool)?;
        let mut linker = Linker::new(&running.engine);
        request::link(&mut linker).map_err(|error| EngineError::Settings(format!("{error:#}")))?;
        Ok(Self {
            running,
            linker,
            budget: MemoryBudget::new(options.memory_bytes_max),
            slots: Arc::new(Semaphore::new(options.pool.memories as usize)),
            options,
            apps: RwLock::default(),
            log,
            values,
            outbound: Outbound::new(None),
            started: Instant::now(),
        })
    }

    /// Loads an instance, in place of one of the same id. Requests under way end on the old one.
    ///
    /// # Errors
    /// `Map` when the code is not of this engine, `Link` when the component needs what apps do
    /// not have or is larger than its limits.
    pub fn load(&self, config: AppConfig, code: Code) -> Result<(), LoadError> {
        let pre = self.map(&code)?;
        let places = self.needs(&config.limits, &pre)?;
        let requests_max = config.requests_max.max(1) as usize;
        let requests_max = requests_max.min(self.options.requests_per_app_max);
        let (values, log) = (Arc::clone(&self.values), Arc::clone(&self.log));
        let powers = Arc::new(AppPowers::new(&config, &self.outbound, values, log));
        let session = Arc::clone(&powers).session(config.limits);
        let session = session.ok_or_else(|| LoadError::Link("it has no powers".to_owned()))?;
        let app = App {
            code,
            mapped: Mutex::new(Some(pre)),
            places,
            gate: Arc::new(Semaphore::new(requests_max)),
            requests_max,
            powers,
            session,
            waiting: Arc::new(Semaphore::new(self.options.queue_per_app_max)),
            used_ms: AtomicU64::new(self.now_ms()),
            counters: Counters::default(),
            config,
        };
        self.apps
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(app.config.instance, Arc::new(app));
        Ok(())
    }

    /// Forgets an instance; false when it was not there. Requests under way end.
    pub fn unload(&self, instance: InstanceId) -> bool {
        let removed = self.apps.write().unwrap_or_else(PoisonError::into_inner).remove(&instance);
        removed.is_some()
    }

    /// What is loaded.
    pub fn loaded(&self) -> Vec<(InstanceId, Digest)> {
        let apps = self.apps.read().unwrap_or_else(PoisonError::into_inner);
        apps.values().map(|app| (app.config.instance, app.config.component)).collect()
    }

    /// What each instance used.
    pub fn stats(&self) -> Vec<AppStats> {
        let apps = self.apps.read().unwrap_or_else(PoisonError::into_inner);
        apps.values().map(|app| app.stats()).collect()
    }

    /// Linear memory that guests may still take, bytes.
    pub fn memory_left_bytes(&self) -> u64 {
        self.budget.left_bytes()
    }

    /// Unmaps the code of apps that had no request for so long; gives their number.
    pub fn unmap_idle(&self, idle: Duration) -> usize {
        let now_ms = self.now_ms();
        let apps = self.apps.read().unwrap_or_else(PoisonError::into_inner);
        let idle_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        apps.values()
            .filter(|app| {
                app.gate.available_permits() == app.requests_max
                    && now_ms.saturating_sub(app.used_ms.load(Ordering::Relaxed)) >= idle_ms
            })
            .filter_map(|app| app.mapped.lock().unwrap_or_else(PoisonError::into_inner).take())
            .count()
    }

    /// Answers a request with a fresh instance of the app. Dropping the future, or the body of
    /// the response before its end, ends the guest.
    ///
    /// # Errors
    /// As [`AppError`] says; what a guest does wrong after the head of its response ends the body
    /// with an error instead.
    pub async fn serve<B>(
        &self,
        instance: InstanceId,
        request: Request<B>,
    ) -> Result<Response<AppBody>, AppError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        let app = {
            let apps = self.apps.read().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(apps.get(&instance).ok_or(AppError::NotLoaded)?)
        };
        let place = self.place(&app).await?;
        app.used_ms.store(self.now_ms(), Ordering::Relaxed);
        let pre = self.mapped(&app)?;
        request::answer(self, app, pre, place, request).await
    }

    /// Waits for a place, in order and not for ever.
    async fn place(&self, app: &App) -> Result<Place, AppError> {
        let waiting =
            Arc::clone(&app.waiting).try_acquire_owned().map_err(|_| AppError::Overload)?;
        let both = async {
            let turn = Arc::clone(&app.gate).acquire_owned().await.ok()?;
            let slot = Arc::clone(&self.slots).acquire_many_owned(app.places).await.ok()?;
            Some((turn, slot))
        };
        let wait_max = Duration::from_millis(u64::from(self.options.queue_wait_ms_max));
        let (turn, slot) =
            tokio::time::timeout(wait_max, both).await.ok().flatten().ok_or(AppError::Overload)?;
        drop(waiting);
        Ok(Place { _ticking: self.running.ticker.run(), _slot: slot, _turn: turn })
    }

    fn mapped(&self, app: &App) -> Result<ProxyPre<State>, LoadError> {
        let mut mapped = app.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pre) = &*mapped {
            return Ok(pre.clone());
        }
        let pre = self.map(&app.code)?;
        *mapped = Some(pre.clone());
        Ok(pre)
    }

    fn map(&self, code: &Code) -> Result<ProxyPre<State>, LoadError> {
        let component = code.map(&self.running.engine)?;
        let link = |error: wasmtime::Error| LoadError::Link(format!("{error:#}"));
        ProxyPre::new(self.linker.instantiate_pre(&component).map_err(link)?).map_err(link)
    }

    /// Checks what the component needs at least against what it may have; gives the places in the
    /// pool that each of its requests takes.
    fn needs(&self, limits: &Limits, pre: &ProxyPre<State>) -> Result<u32, LoadError> {
        let refuse = |text: String| Err(LoadError::Link(text));
        if limits.memory_bytes_max > self.options.pool.memory_bytes_max {
            return refuse(format!(
                "a memory limit of {} MiB is more than Wasm apps can have here, which is {} MiB",
                limits.memory_bytes_max >> 20,
                self.options.pool.memory_bytes_max >> 20
            ));
        }
        let Some(needs) = pre.instance_pre().component().resources_required() else {
            return refuse("the component imports modules, which apps cannot".to_owned());
        };
        if needs.num_memories > limits.memories_max || needs.num_tables > limits.tables_max {
            return refuse(format!(
                "the component has {} memories and {} tables; at most {} and {} are allowed",
                needs.num_memories, needs.num_tables, limits.memories_max, limits.tables_max
            ));
        }
        if needs.max_initial_memory_size.unwrap_or(0) > limits.memory_bytes_max {
            return refuse(format!(
                "the component starts with more than its memory limit of {} MiB",
                limits.memory_bytes_max >> 20
            ));
        }
        // The pool has four tables for each memory.
        Ok(needs.num_memories.max(needs.num_tables.div_ceil(4)).max(1))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl App {
    fn stats(&self) -> AppStats {
        let active = self.requests_max.saturating_sub(self.gate.available_permits());
        AppStats {
            instance: self.config.instance,
            requests: self.counters.requests.load(Ordering::Relaxed),
            failures: self.counters.failures.load(Ordering::Relaxed),
            cpu_us: self.counters.cpu_ns.load(Ordering::Relaxed) / 1000,
            memory_peak_bytes: self.counters.memory_peak_bytes.load(Ordering::Relaxed),
            denied: self.powers.denied.load(Ordering::Relaxed),
            active: u32::try_from(active).unwrap_or(u32::MAX),
            mapped: self.mapped.lock().unwrap_or_else(PoisonError::into_inner).is_some(),
        }
    }
}
