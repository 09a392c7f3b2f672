//! One request: from its head to a target and back.
//!
//! Checks the request, finds its route, holds a slot of the app and a place at a target, and
//! tries again where that cannot do harm: when no connection came about, when a pooled connection
//! was dead before the request was written, and, for requests that may be sent twice, when it
//! died before it answered. An [`Exchange`] keeps the request's books and closes them when it is
//! dropped, whatever became of the request.

mod attempt;
mod books;
mod filter;
mod finish;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use berth_model::route::RouteState;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;

pub(crate) use books::{Books, Exchange};

use crate::body::{ReplyBody, Upload};
use crate::clock;
use crate::fault::Fault;
use crate::front::Client;
use crate::headers::{self, Asked, Forwarded};
use crate::host::HostName;
use crate::table::Route;
use finish::Finishing;

/// A request, checked and ready to be sent to any target of its route.
struct Outgoing {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    host: HostName,
    asked: Asked,
    upload: Option<Arc<Upload>>,
}

/// Answers one request, by an app or by the router itself.
pub(crate) async fn answer(
    client: Arc<Client>,
    mut request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Infallible> {
    client.watch.begin(!request.body().is_end_stream());
    let mut exchange = Exchange::begin(Arc::clone(&client), &request);
    let switched = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let accept = parts.headers.get(header::ACCEPT).cloned();
    let mut response = match check(&client, &mut exchange, parts, body) {
        Ok((route, outgoing)) => {
            exchange.upload.clone_from(&outgoing.upload);
            match route.chain.clone() {
                // A future of its own, so that what has no chain is not larger for it.
                Some(chain) => {
                    let filtered = filter::pass(chain, exchange, route, outgoing, switched);
                    Box::pin(filtered).await
                }
                None => match attempt::send(&client.router, &mut exchange, route, outgoing).await {
                    Ok(answer) => Ok(Finishing::begin(exchange, answer).end(switched)),
                    Err(fault) => Err((exchange, fault)),
                },
            }
        }
        Err(fault) => Err((exchange, fault)),
    }
    .unwrap_or_else(|(exchange, fault)| refuse(exchange, fault, accept.as_ref()));
    if client.router.draining.is_cancelled() && response.status() != StatusCode::SWITCHING_PROTOCOLS
    {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Checks a request and finds its route.
fn check(
    client: &Arc<Client>,
    exchange: &mut Exchange,
    parts: http::request::Parts,
    body: Incoming,
) -> Result<(Arc<Route>, Outgoing), Fault> {
    let http::request::Parts { method, uri, mut headers, version, .. } = parts;
    if method == Method::CONNECT {
        return Err(Fault::Method);
    }
    let limits = &client.router.config.limits;
    let (host_value, host) = host_of(&uri, &headers)?;
    exchange.books.host = Some(host_value.clone());
    let uri = origin_form(&method, uri, limits.uri_bytes_max)?;
    check_framing(&headers)?;
    let table = client.router.routes.load();
    let route = table.find(host.as_str()).cloned().ok_or(if table.is_told() {
        Fault::NoRoute
    } else {
        Fault::NoTable
    })?;
    exchange.found(&route);
    match route.state {
        RouteState::NoRelease => return Err(Fault::NoRelease),
        RouteState::Stopped => return Err(Fault::Stopped),
        RouteState::Serving if route.targets.is_empty() => return Err(Fault::NoHealthy),
        RouteState::Serving => {}
    }
    let bytes_max = match limits.request_body_bytes_max {
        0 => u64::MAX,
        max => max,
    };
    if body.size_hint().lower() > bytes_max {
        return Err(Fault::BodyTooLarge);
    }
    let asked = headers::strip_request(&mut headers);
    let asked = Asked { upgrade: asked.upgrade.filter(|_| version == Version::HTTP_11), ..asked };
    let ours = Forwarded {
        client: &client.ip_value,
        host: &host_value,
        port: &client.port_value,
        request_id: &exchange.books.id,
        start_unix_ms: clock::unix_ms(),
    };
    headers::add_ours(&mut headers, &asked, &ours);
    let upload = if body.is_end_stream() {
        None
    } else {
        if !headers.contains_key(header::CONTENT_LENGTH) {
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Some(Arc::new(Upload::new(body, bytes_max, Arc::clone(&client.watch))))
    };
    Ok((route, Outgoing { method, uri, headers, host, asked, upload }))
}

/// The one valid host of a request; an absolute target's authority overrides the header
/// (RFC 9112 section 3.2.2).
fn host_of(uri: &Uri, headers: &HeaderMap) -> Result<(HeaderValue, HostName), Fault> {
    let mut values = headers.get_all(header::HOST).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Fault::BadHost);
    };
    let named = HostName::parse(value.as_bytes()).ok_or(Fault::BadHost)?;
    match uri.authority() {
        None => Ok((value.clone(), named)),
        Some(authority) => {
            let host = HostName::parse(authority.as_str().as_bytes()).ok_or(Fault::BadHost)?;
            let value = HeaderValue::from_str(authority.as_str()).map_err(|_| Fault::BadHost)?;
            Ok((value, host))
        }
    }
}

/// The target as an origin server takes it, byte for byte as the client wrote it.
fn origin_form(method: &Method, uri: Uri, bytes_max: usize) -> Result<Uri, Fault> {
    let path = uri.path_and_query().ok_or(Fault::BadUri)?;
    if path.as_str().len() > bytes_max {
        return Err(Fault::UriTooLong);
    }
    let valid =
        path.as_str().starts_with('/') || (path.as_str() == "*" && method == Method::OPTIONS);
    let scheme = uri.scheme_str().is_none_or(|scheme| matches!(scheme, "http" | "https"));
    if !valid || !scheme {
        return Err(Fault::BadUri);
    }
    if uri.authority().is_none() {
        return Ok(uri);
    }
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = uri.into_parts().path_and_query;
    Uri::from_parts(parts).map_err(|_| Fault::BadUri)
}

/// What the parser lets through but the router does not forward: transfer codings other than
/// chunked. The parser has dropped a Content-Length beside a Transfer-Encoding, and will close.
fn check_framing(headers: &HeaderMap) -> Result<(), Fault> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Fault::BadFraming),
    }
}

/// Answers by the router itself.
fn refuse(
    mut exchange: Box<Exchange>,
    fault: Fault,
    accept: Option<&HeaderValue>,
) -> Response<ReplyBody> {
    exchange.refused(fault);
    let mut response = fault.response(accept);
    response.headers_mut().insert(headers::X_REQUEST_ID, exchange.books.id.clone());
    response.map(|page: Bytes| ReplyBody::page(page, exchange))
}

/// A request's clock.
pub(crate) fn us_since(start: Instant) -> u64 {
    start.elapsed().as_micros() as u64
}
