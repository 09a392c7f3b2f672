//! Requests that guests send to other servers: the one way out for apps and extensions.
//!
//! Takes what the caller was granted ([`Allow`]), a request with an absolute URL and [`SendLimits`];
//! gives the response of a server that was granted, at an address that was judged. A name is
//! resolved once, every address of it is judged, and the connection goes to an address that passed.
//! Redirects are the caller's to follow, who must be granted their target as well. `Host`, lengths
//! and what belongs to the connection are set here. It never reads the environment's proxy
//! settings, keeps no connection and adds no credentials.

pub mod address;
mod body;
mod connect;
mod request;

use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub use body::ResponseBody;

use address::AddressRefusal;
use connect::Stream;

/// Connections of everybody together.
const CONNECTIONS_MAX: usize = 1024;
/// Head of a response.
const HEAD_BYTES_MAX: usize = 128 << 10;

/// What somebody may ask of which server.
pub trait Allow: Sync {
    /// Whether a request of this method may go to a host (lower case, without port) and port;
    /// nothing when it may not.
    fn allows(&self, method: &str, host: &str, port: u16) -> Option<Granted>;
}

/// A server that may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Its addresses may be of private networks.
    pub private: bool,
}

impl Allow for berth_model::extension::Capabilities {
    fn allows(&self, method: &str, host: &str, port: u16) -> Option<Granted> {
        self.http_allows(method, host, port).ok().map(|private| Granted { private })
    }
}

/// Bounds of one exchange.
#[derive(Debug, Clone, Copy)]
pub struct SendLimits {
    /// To resolve, connect and agree on TLS.
    pub connect: Duration,
    /// From there to the head of the response.
    pub first_byte: Duration,
    /// Between two pieces of the response's body.
    pub between_bytes: Duration,
    /// Bytes of the request's body.
    pub request_bytes_max: u64,
    /// Bytes of the response's body.
    pub response_bytes_max: u64,
}

impl Default for SendLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(30),
            between_bytes: Duration::from_secs(30),
            request_bytes_max: 16 << 20,
            response_bytes_max: 64 << 20,
        }
    }
}

/// The connections that one app or extension may have at once.
#[derive(Debug, Clone)]
pub struct Share(Arc<Semaphore>);

impl Share {
    /// So many.
    pub fn of(connections_max: usize) -> Self {
        Self(Arc::new(Semaphore::new(connections_max)))
    }
}

/// A request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// No grant allows it.
    #[error("{method} {host}:{port} is not among the servers that are allowed")]
    Denied {
        /// Of the request.
        method: String,
        /// Of the request.
        host: String,
        /// Of the request.
        port: u16,
    },
    /// The name leads where nobody may go.
    #[error("{host} is not reached: {refusal}")]
    Prohibited {
        /// Of the request.
        host: String,
        /// Of the last of its addresses.
        refusal: AddressRefusal,
    },
    /// The request cannot be sent.
    #[error("the request cannot be sent: {0}")]
    Invalid(String),
    /// The name has no address.
    #[error("the name {host} does not resolve: {reason}")]
    Name {
        /// Of the request.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// Nobody answers there.
    #[error("{host} does not answer: {reason}")]
    Unreachable {
        /// Of the request.
        host: String,
        /// What failed.
        reason: String,
    },
    /// The server is not who it should be, or does not speak TLS.
    #[error("no TLS with {host}: {reason}")]
    Tls {
        /// Of the request.
        host: String,
        /// What failed.
        reason: String,
    },
    /// It took too long.
    #[error("{0} took longer than {1} ms")]
    Timeout(&'static str, u128),
    /// A body is too long.
    #[error("the {0}'s body is longer than {1} bytes")]
    TooLarge(&'static str, u64),
    /// Too many connections are open.
    #[error("too many requests to other servers at once")]
    Busy,
    /// What came back is no response.
    #[error("the answer of {host} is not usable: {reason}")]
    Protocol {
        /// Of the request.
        host: String,
        /// What was wrong.
        reason: String,
    },
}

impl OutboundError {
    /// The code of the power `http-out`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Denied { .. } | Self::Prohibited { .. } => "denied",
            Self::Invalid(_) => "invalid",
            Self::Name { .. }
            | Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::Protocol { .. } => "unreachable",
            Self::Timeout(..) => "timeout",
            Self::TooLarge(..) => "too-large",
            Self::Busy => "busy",
        }
    }

    /// Whether trying again may help.
    pub fn retry(&self) -> bool {
        matches!(
            self,
            Self::Name { .. } | Self::Unreachable { .. } | Self::Timeout(..) | Self::Busy
        )
    }
}

/// The way out.
pub struct Outbound {
    /// First address of the /16 of instances, which guests never reach.
    instances: Option<Ipv4Addr>,
    places: Arc<Semaphore>,
    tls: Arc<OnceLock<Arc<rustls::ClientConfig>>>,
}

/// What a request holds until its response is read.
struct Held {
    _place: OwnedSemaphorePermit,
    _share: OwnedSemaphorePermit,
    /// Drives the connection; the response ends with it.
    connection: tokio::task::AbortHandle,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Outbound {
    /// A way out that trusts the certificates that this machine trusts. They are read when they
    /// are needed for the first time.
    pub fn new(instances: Option<Ipv4Addr>) -> Self {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { instances, places, tls: Arc::default() }
    }

    /// The same way out, beside instances that are elsewhere.
    pub fn beside(&self, instances: Option<Ipv4Addr>) -> Self {
        Self { instances, places: Arc::clone(&self.places), tls: Arc::clone(&self.tls) }
    }

    /// Sends a request with an absolute `http://` or `https://` URL over a connection of its own.
    /// Dropping the future, or the response's body before its end, ends the exchange.
    ///
    /// # Errors
    /// As [`OutboundError`] says; what goes wrong after the head of the response ends its body.
    pub async fn send<B>(
        &self,
        share: &Share,
        allow: &dyn Allow,
        request: Request<B>,
        limits: SendLimits,
    ) -> Result<Response<ResponseBody>, OutboundError>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (target, request) = request::prepare(request)?;
        let method = request.method().as_str();
        let denied = || OutboundError::Denied {
            method: method.to_owned(),
            host: target.host.clone(),
            port: target.port,
        };
        let granted = allow.allows(method, &target.host, target.port).ok_or_else(denied)?;
        let taken = |places: &Arc<Semaphore>| {
            Arc::clone(places).try_acquire_owned().map_err(|_| OutboundError::Busy)
        };
        let (share, place) = (taken(&share.0)?, taken(&self.places)?);

        let stream = timeout(limits.connect, self.connect(&target, granted))
            .await
            .map_err(|_| OutboundError::Timeout("connecting", limits.connect.as_millis()))??;
        let cut = body::Cut::default();
        let request = request.map(|inner| body::RequestBody::new(inner, limits, cut.clone()));
        let (connection, answer) = exchange(stream, request, &target.host, limits, &cut).await?;
        let held = Held { _place: place, _share: share, connection };
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let reason = "it switches to another protocol".to_owned();
            return Err(OutboundError::Protocol { host: target.host, reason });
        }
        let mut answer = answer.map(|inner| ResponseBody::new(inner, limits, held));
        request::strip(answer.headers_mut());
        Ok(answer)
    }
}

/// Sends the request and waits for the head of the response. The connection's task goes on.
async fn exchange<B>(
    stream: Stream,
    request: Request<body::RequestBody<B>>,
    host: &str,
    limits: SendLimits,
    cut: &body::Cut,
) -> Result<(tokio::task::AbortHandle, Response<hyper::body::Incoming>), OutboundError>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let failed = |error: hyper::Error| {
        if cut.happened() {
            return OutboundError::TooLarge("request", limits.request_bytes_max);
        }
        let reason = connect::reason(&error);
        OutboundError::Protocol { host: host.to_owned(), reason }
    };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    // Ended when nobody waits for the response any more.
    let connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection of a guest to another server ended");
        }
    }));
    let answer = timeout(limits.first_byte, sender.send_request(request))
        .await
        .map_err(|_| OutboundError::Timeout("the answer", limits.first_byte.as_millis()))?
        .map_err(failed)?;
    Ok((connection.detach().abort_handle(), answer))
}
