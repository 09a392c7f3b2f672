//! Header hygiene, both ways.
//!
//! Takes a message's headers and leaves what may go on: hop-by-hop fields are removed by the
//! procedure of RFC 9110 section 7.6.1 (as Caddy and Go's ReverseProxy follow it), fields that
//! only the router may set are removed from what clients send, and only then the router's own are
//! added, so that a client can neither forge them nor name them in `Connection` to have them
//! removed. Names with an underscore are dropped: servers behind CGI-like interfaces cannot tell
//! them from names with a hyphen.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::cookies;

pub(crate) const BERTH_INSTANCE: HeaderName = HeaderName::from_static("berth-instance");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_REQUEST_START: HeaderName = HeaderName::from_static("x-request-start");

/// What a request asked of this connection alone, and the router grants or not.
#[derive(Default)]
pub(crate) struct Asked {
    /// The protocol to change to.
    pub(crate) upgrade: Option<HeaderValue>,
    /// Trailers are understood.
    pub(crate) trailers: bool,
}

/// Removes from a request what may not go to an app.
pub(crate) fn strip_request(headers: &mut HeaderMap) -> Asked {
    let mut asked =
        Asked { trailers: has_token(headers, &header::TE, "trailers"), ..Asked::default() };
    if has_token(headers, &header::CONNECTION, "upgrade") {
        // h2c would open a tunnel past the router's rules; RFC 9113 took it back anyway.
        asked.upgrade = headers
            .get(header::UPGRADE)
            .filter(|value| !value.as_bytes().eq_ignore_ascii_case(b"h2c"))
            .cloned();
    }
    remove_nominated(headers);
    remove_where(headers, |name| is_hop_by_hop(name) || is_ours(name) || name.contains('_'));
    cookies::strip_request(headers);
    // The router has answered the expectation by reading the body.
    if headers
        .get(header::EXPECT)
        .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        headers.remove(header::EXPECT);
    }
    asked
}

/// What the router says about a client to an app.
pub(crate) struct Forwarded<'a> {
    pub(crate) client: &'a HeaderValue,
    pub(crate) host: &'a HeaderValue,
    pub(crate) port: &'a HeaderValue,
    pub(crate) request_id: &'a HeaderValue,
    pub(crate) start_unix_ms: u64,
}

/// Adds the router's own fields to a stripped request.
pub(crate) fn add_ours(headers: &mut HeaderMap, asked: &Asked, ours: &Forwarded<'_>) {
    headers.insert(header::HOST, ours.host.clone());
    headers.insert(X_FORWARDED_FOR, ours.client.clone());
    headers.insert(X_REAL_IP, ours.client.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    headers.insert(X_FORWARDED_HOST, ours.host.clone());
    headers.insert(X_FORWARDED_PORT, ours.port.clone());
    headers.insert(X_REQUEST_ID, ours.request_id.clone());
    let start = format!("t={}", ours.start_unix_ms);
    if let Ok(start) = HeaderValue::from_maybe_shared(bytes::Bytes::from(start)) {
        headers.insert(X_REQUEST_START, start);
    }
    if asked.trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = &asked.upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
    }
}

/// Removes from a response what may not go to a client. A 101 keeps its `Upgrade`.
pub(crate) fn strip_response(headers: &mut HeaderMap, upgrade: bool) {
    let protocol = headers.get(header::UPGRADE).cloned().filter(|_| upgrade);
    remove_nominated(headers);
    remove_where(headers, |name| {
        is_hop_by_hop(name)
            || name == "alt-svc"
            || name == "x-router-error"
            || name.starts_with("berth-")
    });
    cookies::strip_response(headers);
    if let Some(protocol) = protocol {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
}

/// Removes from trailers what a receiver that merges them could take for the message's head.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    remove_where(trailers, |name| {
        is_hop_by_hop(name)
            || is_ours(name)
            || name.contains('_')
            || name.starts_with("content-")
            || matches!(
                name,
                "host"
                    | "authorization"
                    | "cookie"
                    | "set-cookie"
                    | "cache-control"
                    | "expect"
                    | "max-forwards"
                    | "range"
                    | "location"
                    | "x-request-id"
                    | "x-router-error"
            )
    });
}

/// The client's request id where it is a harmless text, for people to follow a request by.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(X_REQUEST_ID)?;
    let text = value.as_bytes();
    let valid = (20..=200).contains(&text.len())
        && text.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    valid.then(|| value.clone())
}

/// A response's own limit on idle time, `Keep-Alive: timeout=n`, in seconds.
pub(crate) fn keep_alive_timeout_s(headers: &HeaderMap) -> Option<u64> {
    headers.get(KEEP_ALIVE)?.to_str().ok()?.split(',').find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| value.trim().parse().ok())?
    })
}

/// Whether a comma-separated field holds `token`.
pub(crate) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|text| text.split(',').any(|t| t.trim().eq_ignore_ascii_case(token)))
    })
}

/// Fields of one connection, framing among them: the next hop is framed anew.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "proxy"
    ) || name.starts_with("proxy-")
}

/// Fields of a request that only the router may set.
fn is_ours(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || name.starts_with("berth-")
        || matches!(name, "forwarded" | "x-real-ip" | "x-request-start" | "x-router-error")
}

/// Removes what `Connection` names. Framing and Host are no one's to remove.
fn remove_nominated(headers: &mut HeaderMap) {
    let plain = |token: &str| {
        token.is_empty()
            || ["close", "keep-alive", "upgrade", "te", "host", "content-length"]
                .iter()
                .any(|known| token.eq_ignore_ascii_case(known))
    };
    let nominated: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(',').map(str::trim))
        .filter(|token| !plain(token))
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .collect();
    for name in nominated {
        headers.remove(name);
    }
}

fn remove_where(headers: &mut HeaderMap, doomed: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| doomed(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn a_client_cannot_have_framing_or_host_removed_by_naming_them() {
        let mut headers = map(&[
            ("connection", "close, x-mine, Host, content-length"),
            ("host", "a"),
            ("content-length", "3"),
            ("x-mine", "1"),
        ]);
        strip_request(&mut headers);
        assert_eq!(headers.len(), 2, "{headers:?}");
        assert!(headers.contains_key("host") && headers.contains_key("content-length"));
    }

    #[test]
    fn upgrade_is_granted_only_when_connection_names_it_and_never_for_h2c() {
        let asked = |connection, protocol| {
            strip_request(&mut map(&[("connection", connection), ("upgrade", protocol)])).upgrade
        };
        assert!(asked("keep-alive, Upgrade", "websocket").is_some());
        assert!(asked("keep-alive", "websocket").is_none());
        assert!(asked("upgrade, http2-settings", "H2C").is_none());
    }

    #[test]
    fn trailers_cannot_carry_what_belongs_to_the_head() {
        let mut trailers = map(&[
            ("x-checksum", "1"),
            ("x-forwarded-for", "1.2.3.4"),
            ("content-length", "1"),
            ("host", "x"),
            ("authorization", "x"),
            ("x_under", "1"),
        ]);
        strip_trailers(&mut trailers);
        assert_eq!(trailers.len(), 1, "{trailers:?}");
    }

    #[test]
    fn only_harmless_request_ids_are_kept() {
        let kept = |id: &str| request_id(&map(&[("x-request-id", id)])).is_some();
        assert!(kept("0190a6b2-7c2d-7000-8000-000000000000"));
        assert!(!kept("short"));
        assert!(!kept(&"a".repeat(201)));
        assert!(!kept("aaaaaaaaaaaaaaaaaaaa\"}"));
    }

    #[test]
    fn the_apps_own_keep_alive_limit_is_read() {
        assert_eq!(keep_alive_timeout_s(&map(&[("keep-alive", "timeout=5, max=100")])), Some(5));
        assert_eq!(keep_alive_timeout_s(&map(&[("keep-alive", "max=100")])), None);
    }
}
