//! The cookie of a console session, and which pages may use it.
//!
//! Browsers send cookies with whatever a page asks for, also one of another site, and cookies ignore
//! ports. So a call that is made by a cookie, and that may change something, must say that it comes
//! from a page of this very origin. A call with an access token is never looked at here: no page of
//! another site has one.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::problem::ApiError;

/// Under TLS. A browser takes it from this host only, with Secure, without Domain, for the path `/`
/// (RFC 6265bis, section 4.1.3.2): no other host of the same site can set it.
const SECURE: &str = "__Host-berth-session";
/// Without TLS, which is for loopback names alone.
const PLAIN: &str = "berth-session";
/// 32 random bytes in hex digits.
const VALUE_BYTES: usize = 64;
/// What a call that is made by a cookie may send: types that a page of another site cannot send
/// without asking first, which it is never allowed to.
const TYPES: [&str; 2] = ["application/json", "application/wasm"];

/// Whether a browser that called under this name did so without TLS: the API has none, and listens
/// on loopback addresses alone. Behind every other name stands a proxy that has.
fn is_plain(called_as: &Authority) -> bool {
    let host = called_as.host();
    let host = host.strip_suffix('.').unwrap_or(host);
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The origin of the console's pages, where the API is called under this name (RFC 6454, 6.2).
pub(super) fn origin(called_as: &Authority) -> String {
    let scheme = if is_plain(called_as) { "http" } else { "https" };
    format!("{scheme}://{}", called_as.as_str().to_ascii_lowercase())
}

fn name(called_as: &Authority) -> &'static str {
    if is_plain(called_as) { PLAIN } else { SECURE }
}

/// The session's cookie in a request; of several none, for one of them was set by somebody else.
pub(super) fn find<'a>(headers: &'a HeaderMap, called_as: &Authority) -> Option<&'a str> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(own, _)| *own == name(called_as))
        .map(|(_, value)| value);
    let value = found.next()?;
    let good = value.len() == VALUE_BYTES && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    (good && found.next().is_none()).then_some(value)
}

/// `Set-Cookie` that gives a session to a browser for so many seconds; without a value, that takes it.
pub(super) fn set(called_as: &Authority, value: Option<(&str, i64)>) -> HeaderValue {
    let secure = if is_plain(called_as) { "" } else { "; Secure" };
    let (value, age_s) = value.unwrap_or(("", 0));
    let line = format!(
        "{}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{secure}",
        name(called_as)
    );
    // A value is hex digits.
    HeaderValue::from_str(&line).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Whether a page of this origin made a call. A browser says so itself, which no page can change.
fn is_same_origin(headers: &HeaderMap, called_as: &Authority) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match text("origin") {
        Some(said) => said == origin(called_as),
        None => text("sec-fetch-site") == Some("same-origin"),
    }
}

/// Refuses what a page of another origin may have sent.
///
/// # Errors
/// 403 without the right `Origin`, 415 for a body of a type that a form may send.
pub(super) fn check(
    method: &Method,
    headers: &HeaderMap,
    called_as: &Authority,
) -> Result<(), ApiError> {
    let socket = headers.contains_key(header::UPGRADE);
    if method.is_safe() && !socket {
        return Ok(());
    }
    // A WebSocket is no request that Sec-Fetch-Site could vouch for; browsers send its Origin always.
    let same =
        is_same_origin(headers, called_as) && (!socket || headers.contains_key(header::ORIGIN));
    if !same {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "other-origin",
            "From another page",
            format!(
                "a call that is made by the console's cookie must come from a page of {}; elsewhere \
                 use an access token",
                origin(called_as)
            ),
        ));
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    let empty = headers.get(header::CONTENT_LENGTH).is_none_or(|length| length == "0")
        && !headers.contains_key(header::TRANSFER_ENCODING);
    match kind {
        None if empty => Ok(()),
        Some(kind) if TYPES.iter().any(|own| kind.eq_ignore_ascii_case(own)) => Ok(()),
        _ => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "Not JSON",
            "send a body of the type application/json",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn name_of(text: &str) -> Authority {
        text.parse().unwrap()
    }

    #[test]
    fn only_a_page_of_the_same_origin_may_change_something() {
        let local = name_of("localhost:8081");
        let secure = name_of("console.example.org");
        for (called_as, pairs, good) in [
            (&local, vec![("origin", "http://localhost:8081")], true),
            (&local, vec![("sec-fetch-site", "same-origin")], true),
            (&secure, vec![("origin", "https://console.example.org")], true),
            (&local, vec![], false),
            (&local, vec![("origin", "null")], false),
            (&local, vec![("origin", "http://localhost:8080")], false),
            (&local, vec![("origin", "http://hello.localhost:8081")], false),
            (&local, vec![("origin", "https://localhost:8081")], false),
            (&local, vec![("origin", "http://127.0.0.1:8081")], false),
            (&secure, vec![("origin", "http://console.example.org")], false),
            (&secure, vec![("origin", "https://app.example.org")], false),
            (&local, vec![("sec-fetch-site", "same-site")], false),
            // What says where it is from is believed in that, not in the other.
            (
                &local,
                vec![("origin", "http://evil.example"), ("sec-fetch-site", "same-origin")],
                false,
            ),
        ] {
            let found = check(&Method::POST, &headers(&pairs), called_as).is_ok();
            assert_eq!(found, good, "{called_as} {pairs:?}");
            let mut pairs = pairs.clone();
            assert!(check(&Method::GET, &headers(&pairs), called_as).is_ok());
            pairs.push(("upgrade", "websocket"));
            let socket = check(&Method::GET, &headers(&pairs), called_as).is_ok();
            let vouched = pairs.iter().any(|(name, _)| *name == "origin");
            assert_eq!(socket, good && vouched, "{called_as} {pairs:?}");
        }
    }

    #[test]
    fn a_body_that_a_form_may_send_is_refused() {
        let local = name_of("localhost:8081");
        for (pairs, good) in [
            (vec![], true),
            (vec![("content-length", "0")], true),
            (vec![("content-type", "application/json"), ("content-length", "2")], true),
            (vec![("content-type", "application/json; charset=utf-8")], true),
            (vec![("content-type", "application/wasm")], true),
            (vec![("content-length", "2")], false),
            (vec![("transfer-encoding", "chunked")], false),
            (vec![("content-type", "text/plain"), ("content-length", "2")], false),
            (vec![("content-type", "application/x-www-form-urlencoded")], false),
            (vec![("content-type", "multipart/form-data; boundary=x")], false),
        ] {
            let mut all = vec![("origin", "http://localhost:8081")];
            all.extend(pairs.iter().copied());
            assert_eq!(check(&Method::POST, &headers(&all), &local).is_ok(), good, "{pairs:?}");
        }
    }

    #[test]
    fn a_cookie_is_found_under_its_one_name_and_in_its_one_form() {
        let (local, secure) = (name_of("localhost:8081"), name_of("console.example.org"));
        let value = "0a".repeat(32);
        let plain = format!("a=b; berth-session={value}");
        let host = format!("__Host-berth-session={value}; a=b");
        for (called_as, lines, good) in [
            (&local, vec![&*plain], true),
            (&secure, vec![&*host], true),
            (&local, vec![&*host], false),
            // Another host of the same site may have set this one.
            (&secure, vec![&*plain], false),
            (&local, vec![&*plain, &*plain], false),
            (&local, vec!["berth-session=short"], false),
            (&local, vec![], false),
        ] {
            let pairs: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
            assert_eq!(find(&headers(&pairs), called_as).is_some(), good, "{called_as} {lines:?}");
        }
        let given = set(&secure, Some((&value, 60)));
        let given = given.to_str().unwrap();
        assert!(given.starts_with("__Host-berth-session=0a0a"), "{given}");
        for part in ["; Path=/", "; Max-Age=60", "; HttpOnly", "; SameSite=Strict", "; Secure"] {
            assert!(given.contains(part), "{given}");
        }
        assert!(!given.contains("Domain"), "{given}");
        assert!(!set(&local, None).to_str().unwrap().contains("Secure"));
    }
}
