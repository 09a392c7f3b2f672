//! Requests of extensions to other servers: what the guest put together, and the judgement of it.

use std::fmt;
use std::time::Duration;

use berth_model::extension::HttpDenial;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Uri};
use http_body_util::{BodyExt, Full};
use tokio::time::timeout;

use super::session::Allowed;
use super::{PowerError, SecretValue};
use crate::outbound::{Allow, Granted, Outbound, OutboundError, SendLimits, Share};

/// Where no time is set, milliseconds.
const TIMEOUT_MS: u32 = 10_000;
const TIMEOUT_MS_MAX: u32 = 60_000;
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 * 1024;
const URL_BYTES_MAX: usize = 8 * 1024;
/// Longest body of an answer.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// A request that was allowed. It may hold secrets, so its address and header values are never
/// shown.
pub struct HttpRequest {
    /// GET, POST…
    pub method: Method,
    /// Absolute, `http` or `https`.
    pub uri: Uri,
    /// None of them is the host's own.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Vec<u8>,
    /// Time for the whole exchange, milliseconds.
    pub timeout_ms: u32,
    /// Whether addresses of private networks may be asked.
    pub private: bool,
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.uri.host().unwrap_or_default();
        f.debug_struct("HttpRequest").field("method", &self.method).field("host", &host).finish()
    }
}

/// A request that was judged already; the way out asks again only for private addresses.
struct Judged {
    private: bool,
}

impl Allow for Judged {
    fn allows(&self, _method: &str, _host: &str, _port: u16) -> Option<Granted> {
        Some(Granted { private: self.private })
    }
}

impl HttpRequest {
    /// Sends it by the way out; the whole exchange has the request's time.
    ///
    /// # Errors
    /// As [`OutboundError`] says.
    pub async fn exchange(
        self,
        outbound: &Outbound,
        share: &Share,
    ) -> Result<HttpResponse, OutboundError> {
        let whole = Duration::from_millis(u64::from(self.timeout_ms));
        let limits = SendLimits {
            connect: whole,
            first_byte: whole,
            between_bytes: whole,
            response_bytes_max: ANSWER_BYTES_MAX,
            ..SendLimits::default()
        };
        let allow = Judged { private: self.private };
        let mut request = http::Request::new(Full::new(Bytes::from(self.body)));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        request.headers_mut().extend(self.headers);
        let exchange = async {
            let (head, body) = outbound.send(share, &allow, request, limits).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            let header = |(name, value): (&HeaderName, &HeaderValue)| {
                (name.as_str().to_owned(), value.as_bytes().to_vec())
            };
            Ok(HttpResponse {
                status: head.status.as_u16(),
                headers: head.headers.iter().map(header).collect(),
                body: body.into(),
            })
        };
        let late = |_| OutboundError::Timeout("the exchange", whole.as_millis());
        timeout(whole, exchange).await.map_err(late)?
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// Names are lower-case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// At most 1 MiB.
    pub body: Vec<u8>,
}

/// A request that a guest puts together.
#[expect(unreachable_pub, reason = "the macro re-exports it from a module that is private too")]
pub struct Request {
    pub(super) method: String,
    pub(super) url: Vec<u8>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    pub(super) timeout_ms: Option<u32>,
}

/// Why a request is not sent.
pub(super) enum Refusal {
    Denied(HttpDenial),
    Invalid(PowerError),
}

/// Headers that belong to the connection, or that the host sets.
const OWN_HEADERS: [&str; 10] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Request {
    /// Bytes that the guest handed over.
    pub(super) fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        self.method.len() + self.url.len() + self.body.len() + headers.sum::<usize>()
    }

    pub(super) fn set_header(&mut self, name: String, value: Vec<u8>) {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
        self.headers.push((name, value));
    }

    pub(super) fn set_secret_header(&mut self, name: String, prefix: String, value: &SecretValue) {
        let mut bytes = prefix.into_bytes();
        bytes.extend_from_slice(&value.0);
        self.set_header(name, bytes);
    }

    /// Judges the request as it would be sent.
    pub(super) fn allowed(&self, allowed: &Allowed) -> Result<HttpRequest, Refusal> {
        let invalid = |what: &str| Refusal::Invalid(PowerError::failure("invalid", what, false));
        if self.url.len() > URL_BYTES_MAX {
            return Err(invalid("the address is longer than 8 KiB"));
        }
        // What is wrong with an address is not shown: it may be a secret.
        let uri =
            Uri::try_from(self.url.as_slice()).map_err(|_| invalid("the address is not a URL"))?;
        let port = match (uri.scheme_str(), uri.port_u16()) {
            (Some("http" | "https"), Some(port)) => port,
            (Some("https"), None) => 443,
            (Some("http"), None) => 80,
            _ => return Err(invalid("the address must begin with https:// or http://")),
        };
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
        if host.is_empty() || authority.contains('@') {
            return Err(invalid("the address must name a host, without user and password"));
        }
        let method = Method::from_bytes(self.method.as_bytes())
            .map_err(|_| invalid("the method is not one of HTTP"))?;
        let private = allowed.http(method.as_str(), &host, port).map_err(Refusal::Denied)?;
        if self.headers.len() > HEADERS_MAX {
            return Err(invalid("more than 64 headers"));
        }
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| invalid("a header's name is not one"))?;
            if OWN_HEADERS.contains(&name.as_str()) {
                return Err(invalid(&format!("the header {name} is set by the host")));
            }
            if value.len() > HEADER_BYTES_MAX {
                return Err(invalid(&format!("the header {name} is longer than 16 KiB")));
            }
            let mut value = HeaderValue::from_bytes(value)
                .map_err(|_| invalid(&format!("the value of the header {name} is not one")))?;
            value.set_sensitive(true);
            headers.push((name, value));
        }
        Ok(HttpRequest {
            method,
            uri,
            headers,
            body: self.body.clone(),
            timeout_ms: self.timeout_ms.unwrap_or(TIMEOUT_MS).clamp(1, TIMEOUT_MS_MAX),
            private,
        })
    }
}
