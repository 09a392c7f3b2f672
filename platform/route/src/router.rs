//! The process: start, serve, drain, end.
//!
//! Start: the folder, the snapshot (so that the first connection is already routed), the access
//! log, the two inherited listeners. End, after SIGTERM or an order: no new connection is
//! accepted (another router may already accept on the same socket), what is in flight finishes
//! with `Connection: close`, what does not is cut at the drain deadline.

mod routes;

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1::Builder as ServerBuilder;
use rustix::process::Resource;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

pub(crate) use routes::Routes;

use crate::config::Config;
use crate::control::{self, wire};
use crate::log::AccessLog;
use crate::middleware::Middlewares;
use crate::names::{self, NameSockets};
use crate::upstream::{self, Connector, Pool};
use crate::{RouteError, clock, front, snapshot};

/// Threads that serve. One router's traffic rarely needs more, and each costs memory.
const WORKERS: usize = 2;
/// Events that a slow control connection may be behind by before it is dropped.
const EVENTS_MAX: usize = 1024;
const CONNECTIONS_MAX: usize = 65_536;
/// How long what was cut may take to end.
const CUT_WAIT: Duration = Duration::from_secs(1);
const SWEEP_PERIOD: Duration = Duration::from_secs(5);

/// What every part of the router shares.
pub(crate) struct Router {
    pub(crate) config: Config,
    pub(crate) routes: Routes,
    pub(crate) middlewares: Middlewares,
    pub(crate) events: broadcast::Sender<wire::Up>,
    pub(crate) log: AccessLog,
    pub(crate) connector: Connector,
    pub(crate) server: ServerBuilder,
    /// One place per client connection.
    pub(crate) places: Arc<Semaphore>,
    /// The HTTP listener, for whoever takes over; gone once this router has ended, so that a task
    /// that ends late cannot keep the socket open.
    http: Mutex<Option<OwnedFd>>,
    /// The router ends: finish what is in flight.
    pub(crate) draining: CancellationToken,
    /// The drain is over.
    pub(crate) cut: CancellationToken,
    places_max: u32,
    started_at_ms: u64,
}

/// The body of `berthd route`: serves until SIGTERM or a drain order, then drains and returns.
///
/// `control` is a listening unix stream socket, `http` a listening TCP socket, `names` what the
/// name service of instances answers on; all are inherited and outlive this process where the
/// caller kept duplicates.
///
/// # Errors
/// `Start` and `Folder`, before anything is served.
pub fn run(
    config: Config,
    control: OwnedFd,
    http: OwnedFd,
    names: Option<NameSockets>,
) -> Result<(), RouteError> {
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(4)
        .thread_name("route")
        .enable_all()
        .build()
        .map_err(start("start its threads"))?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(start("listen for SIGTERM"))?;
        let stop = async move {
            terminate.recv().await;
        };
        serve_all(config, control, http, names, stop).await
    });
    runtime.shutdown_timeout(CUT_WAIT);
    result
}

/// What [`run`] does but for names, on the caller's runtime: serves until `stop` ends or a drain is
/// ordered.
///
/// # Errors
/// `Start` and `Folder`, before anything is served.
pub async fn serve(
    config: Config,
    control: OwnedFd,
    http: OwnedFd,
    stop: impl Future<Output = ()>,
) -> Result<(), RouteError> {
    serve_all(config, control, http, None, stop).await
}

async fn serve_all(
    config: Config,
    control: OwnedFd,
    http: OwnedFd,
    names: Option<NameSockets>,
    stop: impl Future<Output = ()>,
) -> Result<(), RouteError> {
    let kept = http.try_clone().map_err(start("keep its HTTP listener"))?;
    let listener = http_listener(http).map_err(start("use its HTTP listener"))?;
    let control = control_listener(control).map_err(start("use its control listener"))?;
    let router = Arc::new(Router::new(config, kept)?);
    tokio::spawn(control::listen(Arc::clone(&router), control));
    let accepting = tokio::spawn(front::accept(Arc::clone(&router), listener));
    let keeping = tokio::spawn(keep_house(Arc::clone(&router)));
    let naming = names.map(|names| tokio::spawn(answer_names(Arc::clone(&router), names)));
    tokio::select! {
        () = stop => {}
        () = router.draining.cancelled() => {}
    }
    router.drain(accepting).await;
    if let Some(naming) = naming {
        // Ends by itself: every query has its deadline.
        let _ = naming.await;
    }
    drop(router.kept_listener().take());
    keeping.abort();
    let router_log = Arc::clone(&router);
    let _ = tokio::task::spawn_blocking(move || router_log.log.close()).await;
    Ok(())
}

impl Router {
    fn new(config: Config, http: OwnedFd) -> Result<Self, RouteError> {
        let folder = |source| RouteError::Folder { path: config.folder.clone(), source };
        snapshot::prepare(&config.folder).map_err(folder)?;
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let middlewares = Middlewares::new(events.clone());
        let routes = Routes::load_from(&config, &events, &middlewares);
        let places_max = config.limits.connections_max.unwrap_or_else(default_places);
        let places_max = places_max.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Ok(Self {
            log: AccessLog::start(&config).map_err(start("start its access log"))?,
            connector: Connector::new(&config),
            server: front::builder(&config),
            places: Arc::new(Semaphore::new(places_max)),
            places_max: places_max as u32,
            started_at_ms: clock::unix_ms(),
            draining: CancellationToken::new(),
            cut: CancellationToken::new(),
            routes,
            middlewares,
            events,
            http: Mutex::new(Some(http)),
            config,
        })
    }

    /// The HTTP listener, until this router has ended.
    pub(crate) fn kept_listener(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.http.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a control process needs to go on.
    pub(crate) fn hello(&self) -> wire::RouterHello {
        wire::RouterHello {
            protocol: wire::PROTOCOL,
            generation: self.routes.load().generation,
            build: self.config.build.clone(),
            started_at_ms: self.started_at_ms,
            draining: self.routes.leaving(),
            middleware: self.middlewares.loaded(),
            quarantined: self.middlewares.quarantined(),
        }
    }

    /// What was counted so far.
    pub(crate) fn metrics(&self) -> wire::Up {
        let table = self.routes.load();
        let apps = table.apps.values().filter_map(|app| app.sums()).collect();
        wire::Up::Metrics { apps, log_dropped: self.log.dropped() }
    }

    async fn drain(&self, accepting: tokio::task::JoinHandle<()>) {
        self.draining.cancel();
        let _ = accepting.await;
        let all_gone = self.places.acquire_many(self.places_max);
        let drained = tokio::time::timeout(self.config.deadlines.drain, all_gone).await;
        self.cut.cancel();
        if drained.is_err() {
            let left = self.places_max as usize - self.places.available_permits();
            tracing::warn!(connections = left, "cut what was in flight at the end of the drain");
            let all_gone = self.places.acquire_many(self.places_max);
            let _ = tokio::time::timeout(CUT_WAIT, all_gone).await;
        }
    }
}

/// The name service, until this router ends. Traffic goes on without it.
async fn answer_names(router: Arc<Router>, sockets: NameSockets) {
    let settings = router.config.names.clone();
    let table = Arc::clone(&router);
    let addons = move |name: &str| table.routes.load().addon(name);
    if let Err(error) = names::serve(settings, sockets, addons, router.draining.clone()).await {
        tracing::error!(%error, "instances have no name service: its sockets cannot be used");
    }
}

/// Closes old idle connections and reports on middlewares, now and then.
async fn keep_house(router: Arc<Router>) {
    let mut sweep = tokio::time::interval(SWEEP_PERIOD);
    let mut report = tokio::time::interval(router.config.deadlines.metrics);
    loop {
        tokio::select! {
            _ = sweep.tick() => {
                router.routes.each_pool(Pool::sweep);
                router.middlewares.sweep();
            }
            _ = report.tick() => {
                if router.events.receiver_count() == 0 {
                    continue;
                }
                let stats = router.middlewares.report_changes();
                if !stats.is_empty() {
                    let _ = router.events.send(wire::Up::Middleware { stats });
                }
            }
        }
    }
}

fn http_listener(http: OwnedFd) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(http);
    listener.set_nonblocking(true)?;
    // Accepted connections inherit these on Linux, which saves six calls on each.
    upstream::keep_alive(listener.as_fd())?;
    rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
    TcpListener::from_std(listener)
}

fn control_listener(control: OwnedFd) -> io::Result<UnixListener> {
    let listener = StdUnixListener::from(control);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

fn start(step: &'static str) -> impl Fn(io::Error) -> RouteError {
    move |source| RouteError::Start { step, source }
}

/// Two descriptors per connection, a fifth of all kept for the rest.
fn default_places() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / 5 * 2).unwrap_or(CONNECTIONS_MAX).min(CONNECTIONS_MAX)
}

fn raise_descriptor_limit() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open descriptors");
    }
}
