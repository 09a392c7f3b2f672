//! A router on a free port, apps that answer as a test wants, and a client that sees bytes.

mod app;
mod raw;

use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use berth_model::route::RouteState;
use berth_model::{AppId, InstanceId, Route, RouteTable, Target, TargetAddress};
use berth_route::{Config, Events, RouteError, RouterClient, RouterEvent};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use app::{App, read_head, streaming_app, text};
pub(crate) use raw::{Raw, Reply};

/// No wait of a test is longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Fails the test when something takes too long.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("this takes too long")
}

/// Looks again and again until something holds.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A router in this process.
pub(crate) struct Router {
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) control: PathBuf,
    pub(crate) client: RouterClient,
    pub(crate) events: tokio::sync::Mutex<Events>,
    generation: AtomicU64,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), RouteError>>,
}

/// The descriptors that a router inherits, and where they lead.
pub(crate) async fn listeners(folder: &TempDir) -> (OwnedFd, OwnedFd, SocketAddr, PathBuf) {
    let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = http.local_addr().unwrap();
    let path = folder.path().join("route.sock");
    let control = UnixListener::bind(&path).unwrap();
    (control.into_std().unwrap().into(), http.into_std().unwrap().into(), address, path)
}

impl Router {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config =
            Config::new(folder.path().join("route"), folder.path().join("wasm.sock"), "test");
        config.deadlines.access_log = Duration::from_millis(5);
        config.deadlines.linger = Duration::from_millis(500);
        change(&mut config);
        let (control_fd, http_fd, address, control) = listeners(&folder).await;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let serving = tokio::spawn(async move {
            berth_route::serve(config, control_fd, http_fd, stopped.cancelled()).await
        });
        let client = soon(RouterClient::connect(&control)).await.unwrap();
        let events = tokio::sync::Mutex::new(client.events());
        let generation = AtomicU64::new(0);
        Self { folder, address, control, client, events, generation, stop, serving }
    }

    /// Publishes a table of these routes.
    pub(crate) async fn publish(&self, routes: Vec<Route>) {
        let generation = self.generation.fetch_add(1, SeqCst) + 1;
        soon(self.client.publish(&RouteTable { generation, routes })).await.unwrap();
    }

    /// A router whose `app.localhost` goes to one app.
    pub(crate) async fn to(app: &App) -> Self {
        let router = Self::start().await;
        router.publish(vec![route(&[app.target()])]).await;
        router
    }

    pub(crate) async fn connect(&self) -> Raw {
        Raw::connect(self.address).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, request: &str) -> Reply {
        let mut raw = self.connect().await;
        raw.send(request.as_bytes()).await;
        raw.reply().await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: app.localhost\r\n\r\n")).await
    }

    /// The next event that `wanted` takes.
    pub(crate) async fn event<T>(&self, wanted: impl Fn(RouterEvent) -> Option<T>) -> T {
        let mut events = self.events.lock().await;
        soon(async {
            loop {
                if let Some(found) = wanted(events.next().await.expect("the router is there")) {
                    return found;
                }
            }
        })
        .await
    }

    pub(crate) async fn drained(&self, target: &Target) {
        let instance = target.instance;
        self.event(|e| matches!(e, RouterEvent::Drained(i) if i == instance).then_some(())).await;
    }

    /// The lines of the access log so far.
    pub(crate) fn log(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.folder.path().join("route/access.log"));
        let text = text.unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for a line of the access log.
    pub(crate) async fn logged(
        &self,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let mut found = None;
        until(|| {
            found = self.log().into_iter().find(&wanted);
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Tells the router to end, and waits until it has.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        soon(self.serving).await.unwrap().unwrap();
    }

    pub(crate) fn begin_end(&self) {
        self.stop.cancel();
    }
}

/// `app.localhost`, serving from these targets.
pub(crate) fn route(targets: &[Target]) -> Route {
    route_of(1, "app.localhost", targets)
}

pub(crate) fn route_of(n: u8, host: &str, targets: &[Target]) -> Route {
    Route {
        app: AppId::new(1, [n; 10]),
        name: format!("app-{n}").parse().unwrap(),
        release: Some(3),
        hosts: vec![host.to_owned()],
        state: RouteState::Serving,
        targets: targets.to_vec(),
        middleware: Vec::new(),
    }
}

/// A new instance at an address.
pub(crate) fn target(address: SocketAddr) -> Target {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let instance = InstanceId::new(NEXT.fetch_add(1, SeqCst), [0; 10]);
    Target { instance, address: TargetAddress::Tcp(address) }
}

/// An address where nothing listens.
pub(crate) async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
