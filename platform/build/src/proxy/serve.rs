//! HTTP/1.1 on the listener: tunnels, and requests in absolute form.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderName};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};

use super::Shared;
use super::connect::{ConnectError, split};

type Body = BoxBody<Bytes, hyper::Error>;

/// Headers that are between two neighbours alone (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(shared.bounds.connections_max));
    // Dropped with this task: a proxy that ends closes its connections.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    connection(stream, shared).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the proxy of a build cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let stream = Bounded::new(stream, Arc::clone(&shared));
    let head = Duration::from_secs(shared.bounds.connect_s_max);
    // A tunnel outlives the HTTP exchange; it runs here, so that the place stays taken.
    let (tunnels, mut opened) = tokio::sync::mpsc::channel::<Tunnel>(1);
    let service = service_fn(|request| answer(request, Arc::clone(&shared), tunnels.clone()));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of a build's proxy ended");
    }
    drop(tunnels);
    if let Some(tunnel) = opened.recv().await {
        tunnel.run().await;
    }
}

/// Both ends of a tunnel.
struct Tunnel {
    upgrade: hyper::upgrade::OnUpgrade,
    server: TcpStream,
}

impl Tunnel {
    async fn run(self) {
        let Self { upgrade, mut server } = self;
        match upgrade.await {
            Ok(client) => {
                let mut client = TokioIo::new(client);
                if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
                    tracing::debug!(%error, "a tunnel of a build ended");
                }
            }
            Err(error) => tracing::debug!(%error, "a tunnel of a build did not open"),
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    tunnels: tokio::sync::mpsc::Sender<Tunnel>,
) -> Result<Response<Body>, hyper::Error> {
    let Some((host, port)) = destination(&request) else {
        return Ok(refuse(
            StatusCode::BAD_REQUEST,
            "this is a proxy: CONNECT host:port, or a whole http:// URL",
        ));
    };
    let (server, address) = match shared.connect(&host, port).await {
        Ok(connected) => connected,
        Err(error) => {
            shared.note(format!("network: {host}:{port} was not reached: {error}"));
            let status = match error {
                ConnectError::Refused(_) => StatusCode::FORBIDDEN,
                ConnectError::Late => StatusCode::GATEWAY_TIMEOUT,
                _ => StatusCode::BAD_GATEWAY,
            };
            return Ok(refuse(status, &format!("{host}:{port}: {error}")));
        }
    };
    let by = address
        .map_or_else(|| "through the operator's proxy".to_owned(), |address| address.to_string());
    shared.note(format!("network: {host}:{port} ({by})"));
    if request.method() == Method::CONNECT {
        let tunnel = Tunnel { upgrade: hyper::upgrade::on(request), server };
        // One request per connection: the channel has room for its only tunnel.
        let _sent = tunnels.try_send(tunnel);
        return Ok(Response::new(Full::default().map_err(|never| match never {}).boxed()));
    }
    forward(request, server, &host, port).await
}

/// Where a request wants to go.
fn destination(request: &Request<Incoming>) -> Option<(String, u16)> {
    let uri = request.uri();
    if request.method() == Method::CONNECT {
        return split(uri.authority()?.as_str());
    }
    if uri.scheme_str() != Some("http") {
        return None;
    }
    let authority = uri.authority()?;
    match authority.port() {
        Some(_) => split(authority.as_str()),
        None => split(&format!("{}:80", authority.as_str())),
    }
}

/// Passes a request in origin form on, over a connection of its own.
async fn forward(
    mut request: Request<Incoming>,
    server: TcpStream,
    host: &str,
    port: u16,
) -> Result<Response<Body>, hyper::Error> {
    strip(request.headers_mut());
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    *request.uri_mut() = path.parse().unwrap_or_default();
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let authority = if port == 80 { bracketed } else { format!("{bracketed}:{port}") };
    if let Ok(value) = authority.parse() {
        request.headers_mut().insert(HOST, value);
    }
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(server)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a host closed the connection of a build");
        }
    });
    let mut response = sender.send_request(request).await?;
    strip(response.headers_mut());
    Ok(response.map(BodyExt::boxed))
}

fn strip(headers: &mut hyper::HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

fn refuse(status: StatusCode, why: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{why}\n"))).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// A client's connection, counted and ended when it is idle or the proxy has passed enough.
struct Bounded {
    stream: TcpStream,
    shared: Arc<Shared>,
    idle: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl Bounded {
    fn new(stream: TcpStream, shared: Arc<Shared>) -> Self {
        let idle = Duration::from_secs(shared.bounds.idle_s_max);
        Self { stream, shared, idle, deadline: Box::pin(tokio::time::sleep(idle)) }
    }

    fn passed(&mut self, count: usize) -> io::Result<()> {
        self.deadline.as_mut().reset(Instant::now() + self.idle);
        let before = self.shared.bytes.fetch_add(count as u64, Ordering::Relaxed);
        if before + count as u64 > self.shared.bounds.bytes_max {
            self.shared.note(format!(
                "network: more than {} MiB passed; the connection is closed",
                self.shared.bounds.bytes_max >> 20
            ));
            return Err(io::Error::other("the build has used up its network bytes"));
        }
        Ok(())
    }

    fn expired(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.deadline.as_mut().poll(cx).map(|()| io::ErrorKind::TimedOut.into())
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(self.passed(buffer.filled().len() - before)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.expired(cx).map(Err),
        }
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(Ok(count)) => Poll::Ready(self.passed(count).map(|()| count)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.expired(cx).map(Err),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
