//! A router on a free port, apps that answer as a test wants, and a client that sees bytes.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use berth_model::route::RouteState;
use berth_model::{AppId, InstanceId, Route, RouteTable, Target, TargetAddress};
use berth_route::{Config, Events, RouteError, RouterClient, RouterEvent};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// No wait of a test is longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Fails the test when something takes too long.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("this takes too long")
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
    (
        control.into_std().unwrap().into(),
        http.into_std().unwrap().into(),
        address,
        path,
    )
}

impl Router {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new(
            folder.path().join("route"),
            folder.path().join("wasm.sock"),
            "test",
        );
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
        Self {
            folder,
            address,
            control,
            client,
            events,
            generation,
            stop,
            serving,
        }
    }

    /// Publishes a table of these routes.
    pub(crate) async fn publish(&self, routes: Vec<Route>) {
        let generation = self.generation.fetch_add(1, SeqCst) + 1;
        soon(self.client.publish(&RouteTable { generation, routes }))
            .await
            .unwrap();
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
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: app.localhost\r\n\r\n"
        ))
        .await
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
        self.event(|e| matches!(e, RouterEvent::Drained(i) if i == instance).then_some(()))
            .await;
    }

    /// The lines of the access log so far.
    pub(crate) fn log(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.folder.path().join("route/access.log"));
        let text = text.unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
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
    }
}

/// A new instance at an address.
pub(crate) fn target(address: SocketAddr) -> Target {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let instance = InstanceId::new(NEXT.fetch_add(1, SeqCst), [0; 10]);
    Target {
        instance,
        address: TargetAddress::Tcp(address),
    }
}

/// An address where nothing listens.
pub(crate) async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

pub(crate) type Body = BoxBody<Bytes, Infallible>;

pub(crate) fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(text.into()).boxed())
}

/// An app: an HTTP server, or a script per connection.
pub(crate) struct App {
    /// Connections that were accepted.
    pub(crate) connections: Arc<AtomicUsize>,
    target: Target,
    serving: JoinHandle<()>,
}

impl App {
    /// Answers each request by `answer`.
    pub(crate) async fn http<F, R>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let answer = Arc::new(answer);
        Self::script(move |stream, _| {
            let answer = Arc::clone(&answer);
            async move {
                let service = service_fn(move |request| {
                    let answered = answer(request);
                    async move { Ok::<_, Infallible>(answered.await) }
                });
                let mut http = hyper::server::conn::http1::Builder::new();
                http.max_headers(256);
                let _ = http
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            }
        })
        .await
    }

    /// Says the same to everyone.
    pub(crate) async fn saying(words: &'static str) -> Self {
        Self::http(move |_| async move { text(words) }).await
    }

    /// Answers with the request's body.
    pub(crate) async fn echo() -> Self {
        Self::http(|request| async move {
            let body = request.into_body().map_err(|_| ());
            let body = body
                .collect()
                .await
                .map(|body| body.to_bytes())
                .unwrap_or_default();
            text(body)
        })
        .await
    }

    /// Answers with the request's head as it arrived, lower-cased names.
    pub(crate) async fn mirror() -> Self {
        Self::http(|request| async move {
            let mut lines = format!("{} {}\n", request.method(), request.uri());
            for (name, value) in request.headers() {
                lines += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
            }
            text(lines)
        })
        .await
    }

    /// Runs `script` on each connection, with the connection's number.
    pub(crate) async fn script<F, R>(script: F) -> Self
    where
        F: Fn(TcpStream, usize) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let serving = tokio::spawn(async move {
            let mut scripts = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { return };
                        stream.set_nodelay(true).unwrap();
                        let n = counter.fetch_add(1, SeqCst);
                        scripts.spawn(script(stream, n));
                    }
                    Some(_) = scripts.join_next() => {}
                }
            }
        });
        Self {
            connections,
            target: target(address),
            serving,
        }
    }

    pub(crate) fn target(&self) -> Target {
        self.target.clone()
    }

    /// Ends the app with all its connections, as SIGKILL would.
    pub(crate) async fn kill(self) {
        self.serving.abort();
        let _ = self.serving.await;
    }
}

/// Reads a request's head from a connection.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// A client that writes and reads bytes.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer as a client sees it.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    pub(crate) fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.head.lines().skip(1).filter_map(move |line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The router's own code.
    pub(crate) fn code(&self) -> Option<&str> {
        self.header("x-router-error")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = soon(TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn connect_with(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Sends; what the router no longer takes is lost.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = soon(self.stream.write_all(bytes)).await;
    }

    /// Reads more; false at the end of the connection.
    pub(crate) async fn more(&mut self) -> bool {
        let mut bytes = vec![0; 64 * 1024];
        let read = soon(self.stream.read(&mut bytes)).await.unwrap_or(0);
        self.buffer.extend_from_slice(&bytes[..read]);
        read > 0
    }

    /// Reads up to and with `end`, and takes it out of the buffer.
    pub(crate) async fn through(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self
                .buffer
                .windows(end.len())
                .position(|window| window == end)
            {
                let rest = self.buffer.split_off(at + end.len());
                return std::mem::replace(&mut self.buffer, rest);
            }
            assert!(
                self.more().await,
                "the connection ended after {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    pub(crate) async fn take(&mut self, bytes: usize) -> Vec<u8> {
        while self.buffer.len() < bytes {
            assert!(self.more().await, "the connection ended early");
        }
        let rest = self.buffer.split_off(bytes);
        std::mem::replace(&mut self.buffer, rest)
    }

    /// The answer's head.
    pub(crate) async fn head(&mut self) -> String {
        String::from_utf8(self.through(b"\r\n\r\n").await).unwrap()
    }

    /// An answer to a request that was not HEAD.
    pub(crate) async fn reply(&mut self) -> Reply {
        let head = self.head().await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply {
            status,
            head,
            body: Vec::new(),
            trailers: String::new(),
        };
        if matches!(status, 100..=199 | 204 | 304) {
            return reply;
        }
        if let Some(length) = reply.header("content-length") {
            reply.body = self.take(length.parse().unwrap()).await;
        } else if reply.header("transfer-encoding").is_some() {
            loop {
                let size = String::from_utf8(self.through(b"\r\n").await).unwrap();
                let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
                if size == 0 {
                    break;
                }
                reply.body.extend(self.take(size).await);
                assert_eq!(self.take(2).await, b"\r\n");
            }
            loop {
                let line = String::from_utf8(self.through(b"\r\n").await).unwrap();
                if line == "\r\n" {
                    break;
                }
                reply.trailers += &line;
            }
        } else {
            while self.more().await {}
            reply.body = std::mem::take(&mut self.buffer);
        }
        reply
    }

    /// Whether the connection ends now, with nothing more to read.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.more().await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: app.localhost\r\n\r\n").as_bytes())
            .await;
        self.reply().await
    }
}
