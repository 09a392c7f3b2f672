//! What every request passes: an id, and the check of its Host header.
//!
//! A page of another site can make a browser send requests to a loopback address under its own
//! name (DNS rebinding); a listener that answers only to its own names gives it nothing.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Platform;
use super::problem::ApiError;

tokio::task_local! {
    static REQUEST: String;
}

/// Id of the request that is being answered; empty outside of one.
pub(crate) fn request_id() -> String {
    REQUEST.try_with(String::clone).unwrap_or_default()
}

/// The name under which the API was called, with its port.
#[derive(Clone)]
pub(crate) struct CalledAs(pub(crate) Authority);

pub(crate) async fn check(
    State(platform): State<Arc<Platform>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = new_id();
    let shown = HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("-"));
    let mut response = REQUEST
        .scope(id, async {
            match called_as(&request).filter(|name| is_own(name, &platform.hosts)) {
                Some(name) => {
                    request.extensions_mut().insert(CalledAs(name));
                    next.run(request).await
                }
                None => misdirected(),
            }
        })
        .await;
    let headers = response.headers_mut();
    headers.insert("x-request-id", shown);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn new_id() -> String {
    let mut bytes = [0; 8];
    // Without randomness nothing else works either; an id that repeats harms nobody.
    let _ = getrandom::fill(&mut bytes);
    format!("req_{}", hex::encode(bytes))
}

/// The target's authority (HTTP/2, absolute form), or the only Host header.
fn called_as(request: &Request) -> Option<Authority> {
    let mut headers = request.headers().get_all(header::HOST).iter();
    let host = headers.next();
    if headers.next().is_some() {
        return None;
    }
    let host = host.map(|host| host.to_str().ok()?.parse::<Authority>().ok());
    match (request.uri().authority(), host) {
        (Some(target), None) => Some(target.clone()),
        (Some(target), Some(Some(host))) if *target == host => Some(host),
        (None, Some(host)) => host,
        _ => None,
    }
}

fn is_own(name: &Authority, hosts: &[String]) -> bool {
    if name.as_str().contains('@') {
        return false;
    }
    let host = name.host();
    let host = host.strip_suffix('.').unwrap_or(host);
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        || hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
}

fn misdirected() -> Response {
    ApiError::new(
        StatusCode::MISDIRECTED_REQUEST,
        "misdirected",
        "Not this server's name",
        "the Host header names another server; call the API as localhost, 127.0.0.1, [::1], or by a name in its configuration",
    )
    .into_response()
}

pub(crate) async fn no_such_path(uri: Uri) -> ApiError {
    ApiError::not_found("path", uri.path())
}

pub(crate) async fn no_such_method(method: Method) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "Not with this method",
        format!("this path does not take {method}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_configured_names_are_own() {
        let hosts = ["api.example.org".to_owned()];
        let own = |name: &str| name.parse().is_ok_and(|name| is_own(&name, &hosts));
        for good in [
            "localhost",
            "LOCALHOST:8081",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]:8081",
            "api.example.org",
            "localhost.:80",
        ] {
            assert!(own(good), "{good}");
        }
        for bad in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "0.0.0.0",
            "[::]",
            "x@localhost",
            "example.org",
            "",
        ] {
            assert!(!own(bad), "{bad}");
        }
    }
}
