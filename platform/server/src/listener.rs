//! The listener of the API and of git over HTTP.
//!
//! Takes a bound socket and what answers; gives each connection a deadline for the heads of its
//! requests, and a place of a bounded number. Must never cut a request whose head has come: event
//! streams, pushes and `WebSockets` are silent for minutes, and their own rooms end them.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tower::Service;

/// Between two looks whether an HTTP/2 client is there, and how long its answer may take. It is
/// generous: a client that is busy with its own files answers late.
const PING: Duration = Duration::from_secs(30);
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What connections may do.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections that are open at once.
    pub connections_max: NonZeroU32,
    /// The head of the first request must have come this long after the connection, and with
    /// HTTP/1 the head of each later one this long after the answer before: an idle connection is
    /// closed then.
    pub head_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let connections_max = crate::config::ApiConfig::default().connections_max;
        Self { connections_max, head_wait: Duration::from_secs(10) }
    }
}

/// Answers connections until `end` is cancelled, then ends once all requests that have begun are
/// answered; idle connections are closed at once. Who calls bounds that wait.
///
/// When all places are taken, new connections wait in the kernel's bounded queue: places come free
/// within `head_wait` if nobody works on them, and a git client or a page that waited a moment is
/// served, while one whose connection was closed fails.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, end: CancellationToken) {
    let router = router.with_state(());
    let places = Arc::new(Semaphore::new(limits.connections_max.get() as usize));
    let (all_ended, open) = watch::channel(());
    while let Some((stream, peer, place)) = next(&listener, &places, &end).await {
        // Without it answers are only slower.
        let _ = stream.set_nodelay(true);
        let served = serve_connection(
            Placed { stream, _place: place },
            peer,
            router.clone(),
            limits,
            end.clone(),
        );
        let open = open.clone();
        tokio::spawn(async move {
            served.await;
            drop(open);
        });
    }
    drop((open, listener));
    all_ended.closed().await;
}

/// The next connection and its place; none when the end has come.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    end: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let accepted = async {
        let place = Arc::clone(places).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => return Some((stream, peer, place)),
                // That connection went before it was taken.
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    tracing::error!("the API cannot take connections, trying again: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = end.cancelled() => None,
        accepted = accepted => accepted,
    }
}

fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn serve_connection(
    stream: Placed,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    end: CancellationToken,
) {
    let asked = CancellationToken::new();
    let first = asked.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        first.cancel();
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = router.clone().call(request.map(Body::new));
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head_wait);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(PING))
        .keep_alive_timeout(PING);
    let mut connection =
        pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    // The deadline of HTTP/1 runs only once the first bytes have told which protocol this is, and
    // HTTP/2 has none.
    let mut late = pin!(async {
        if tokio::time::timeout(limits.head_wait, asked.cancelled()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    });
    let mut ending = false;
    loop {
        tokio::select! {
            // What a client did wrong is no news.
            _ended = connection.as_mut() => return,
            () = &mut late => return,
            () = end.cancelled(), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// A connection with its place. An upgrade takes both along: a `WebSocket` counts while it is open.
struct Placed {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
