//! Connections to targets.
//!
//! A connection is driven by a task of its own; a request holds it as a [`Lease`] and gives it
//! back to its target's pool when the answer is complete. Connections to the Wasm worker are of
//! no app in particular: every request names its instance (decision 0027). A lease that is dropped earlier closes
//! the connection at once, so that an app sees its client leave. A connection on which the app
//! said anything unasked, or which it closed, is never used again.

mod link;
mod pool;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;

pub(crate) use link::Link;
use link::{Stream, UpstreamIo};
pub(crate) use pool::Pool;

use crate::body::RequestBody;
use crate::clock;
use crate::config::Config;
use crate::fault::Fault;
use crate::target::{Endpoint, Target};

/// A connection that one request holds.
pub(crate) struct Lease {
    pub(crate) link: Arc<Link>,
    /// Whether another request was answered on it before.
    pub(crate) reused: bool,
    connection: Option<Connection>,
    target: Arc<Target>,
}

struct Connection {
    sender: SendRequest<RequestBody>,
    driver: AbortHandle,
}

/// What became of a request that was sent.
pub(crate) enum Sent {
    Answered(http::Response<Incoming>),
    /// The connection was dead before a byte of the request was written; here it is again.
    Unsent(Request<RequestBody>),
    Failed(hyper::Error),
}

impl Lease {
    /// A pooled connection of `target`, idle for `idle_max` at most.
    pub(crate) fn pooled(target: &Arc<Target>, idle_max: Duration) -> Option<Self> {
        let (link, connection) = target.pool.take(clock::ms(idle_max))?;
        Some(Self::new(target, link, connection, true))
    }

    /// A new connection to `target`.
    pub(crate) async fn connect(
        target: &Arc<Target>,
        connector: &Connector,
    ) -> Result<Self, Fault> {
        let stream = tokio::time::timeout(connector.timeout, open(&target.endpoint))
            .await
            .map_err(|_| Fault::ConnectTimeout)?
            .map_err(|e| fault_of_connect(&e))?;
        let link = Arc::new(Link::default());
        let io = TokioIo::new(UpstreamIo::new(stream, Arc::clone(&link)));
        let (sender, connection) = connector.http.handshake(io).await.map_err(|_| Fault::Reset)?;
        // An error reaches the request over its own channel; an idle connection that ends with one
        // is only gone.
        let driver = tokio::spawn(async { drop(connection.with_upgrades().await) });
        let connection = Connection { sender, driver: driver.abort_handle() };
        Ok(Self::new(target, link, connection, false))
    }

    fn new(target: &Arc<Target>, link: Arc<Link>, connection: Connection, reused: bool) -> Self {
        target.hold(&connection.driver);
        Self { link, reused, connection: Some(connection), target: Arc::clone(target) }
    }

    /// The connection, which a cut of the target no longer ends.
    fn release(&mut self) -> Option<Connection> {
        let connection = self.connection.take()?;
        self.target.release(&connection.driver);
        Some(connection)
    }

    /// Sends a request; the response's body still has to be read through this lease.
    pub(crate) async fn send(&mut self, request: Request<RequestBody>) -> Sent {
        let Some(connection) = &mut self.connection else {
            return Sent::Unsent(request);
        };
        match connection.sender.try_send_request(request).await {
            Ok(response) => Sent::Answered(response),
            Err(mut error) => match error.take_message() {
                Some(request) => Sent::Unsent(request),
                None => Sent::Failed(error.into_error()),
            },
        }
    }

    /// The answer is complete: the connection may serve another request.
    pub(crate) fn give_back(mut self, idle_s_hint: Option<u64>) {
        self.link.rest();
        let Some(connection) = self.release() else { return };
        self.target.pool.put(Arc::clone(&self.link), connection, idle_s_hint);
        // The removal may have cleared the pool before.
        if self.target.is_removed()
            && let Some(pool) = self.target.own_pool()
        {
            pool.clear();
        }
    }

    /// The connection became a tunnel and belongs to whoever holds its upgraded half.
    pub(crate) fn into_tunnel(mut self) {
        self.link.rest();
        drop(self.release());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.release() {
            connection.driver.abort();
        }
    }
}

/// How connections to targets are made.
pub(crate) struct Connector {
    http: Builder,
    timeout: Duration,
}

impl Connector {
    pub(crate) fn new(config: &Config) -> Self {
        let mut http = Builder::new();
        http.max_headers(config.limits.response_headers_max)
            .max_header_size(config.limits.response_head_bytes_max)
            .max_buf_size(config.limits.response_head_bytes_max.max(16 * 1024));
        Self { http, timeout: config.deadlines.connect }
    }
}

async fn open(endpoint: &Endpoint) -> io::Result<Stream> {
    match endpoint {
        Endpoint::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            keep_alive(&stream)?;
            Ok(Stream::Tcp(stream))
        }
        Endpoint::Wasm(path, _) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
    }
}

/// Finds out within two minutes that a peer vanished without a word. Accepted connections inherit
/// it from their listener.
pub(crate) fn keep_alive(socket: impl std::os::fd::AsFd) -> io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(&socket, Duration::from_secs(20))?;
    sockopt::set_tcp_keepcnt(&socket, 3)?;
    sockopt::set_tcp_user_timeout(&socket, 60_000)?;
    Ok(())
}

/// A target that cannot be reached, unless it is the router that ran out of something.
fn fault_of_connect(error: &io::Error) -> Fault {
    use rustix::io::Errno;
    let own = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
        Errno::AGAIN,
    ];
    match error.raw_os_error() {
        Some(code) if own.iter().any(|errno| errno.raw_os_error() == code) => Fault::Overload,
        _ if error.kind() == io::ErrorKind::TimedOut => Fault::ConnectTimeout,
        _ => Fault::Refused,
    }
}
