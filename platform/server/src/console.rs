//! The web console: a client of the API like any other, whose files lie in this program.
//!
//! Takes a GET that is not for the API, gives a file that `cargo xtask web` built, or its page,
//! which draws what the path names. Where the console was not built, a page says how to build it.
//! It reads nothing and knows nobody: who may see what is said by the API alone.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;

/// A file of the console.
struct File {
    /// Where it is asked for.
    path: &'static str,
    bytes: &'static [u8],
    /// The same, packed.
    gzip: Option<&'static [u8]>,
}

mod built {
    use super::File;
    include!(concat!(env!("OUT_DIR"), "/console.rs"));
}

/// What is asked for below these is for the API or git, and is not there.
const NOT_PAGES: &[&str] = &["v1", "v2", "git", "metrics", "healthz"];
/// Below it are files whose names hold their hash.
const HASHED: &str = "/_app/immutable/";
/// Files that are not pages lie here; what is not there is no page.
const FILES: &str = "/_app/";
/// What the page that stands in for the console may do: nothing.
const NOTHING: &str = "default-src 'none'; style-src 'none'; base-uri 'none'; form-action 'none'";
/// A year: what such a name holds never changes.
const FOREVER: &str = "public, max-age=31536000, immutable";

/// Said where the console was not built.
const ABSENT: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"color-scheme\" content=\"light dark\">
<title>Berth</title>
<h1>This berthd was built without its console</h1>
<p>Everything else works: the API, <code>berth</code> and <code>git push</code>.
To have the console here, run <code>cargo xtask build</code> in Berth's source, which needs
Node 20 or newer, and start the <code>berthd</code> that it builds.</p>
</html>
";

/// The answer to a request that no operation of the API takes; nothing where it is not the
/// console's either.
pub(crate) fn answer(method: &Method, path: &str, headers: &HeaderMap) -> Option<Response> {
    if method != Method::GET && method != Method::HEAD {
        return None;
    }
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    if NOT_PAGES.contains(&first) {
        return None;
    }
    let found = built::FILES.iter().find(|file| file.path == path);
    if found.is_none() && path.starts_with(FILES) {
        return None;
    }
    let page = || built::FILES.iter().find(|file| file.path == "/index.html");
    Some(match found.or_else(page) {
        Some(file) => serve(file, wants_gzip(headers)),
        None => respond(Bytes::from_static(ABSENT.as_bytes()), "text/html; charset=utf-8", NOTHING),
    })
}

fn serve(file: &File, gzip: bool) -> Response {
    let packed = file.gzip.filter(|_| gzip);
    let body = Bytes::from_static(packed.unwrap_or(file.bytes));
    let mut response = respond(body, content_type(file.path), built::POLICY);
    let headers = response.headers_mut();
    let kept = if file.path.starts_with(HASHED) { FOREVER } else { "no-cache" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
    if file.gzip.is_some() {
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    if packed.is_some() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// With the headers that every answer of the console has; `nosniff` is said of all answers.
fn respond(body: Bytes, content_type: &'static str, policy: &str) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    // Only a header can say who may put the page into a frame (CSP level 3, section 3.3).
    let policy = format!("{policy}; frame-ancestors 'none'");
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    }
}

fn wants_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    accepted.unwrap_or_default().split(',').any(|one| {
        let mut parts = one.split(';').map(str::trim);
        let refused = |parameter: &str| parameter.trim_start_matches("q=").parse() == Ok(0.0_f32);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip")) && !parts.any(refused)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Option<Response> {
        answer(&Method::GET, path, &HeaderMap::new())
    }

    #[test]
    fn what_is_for_the_api_or_git_is_no_page() {
        for path in ["/v1/nothing", "/v1", "/git/app.git", "/v2/", "/metrics/x", "/_app/gone.js"] {
            assert!(get(path).is_none(), "{path}");
        }
        assert!(answer(&Method::POST, "/apps", &HeaderMap::new()).is_none());
    }

    #[test]
    fn every_other_path_is_the_page_and_says_what_it_may_do() {
        for path in ["/", "/apps/shop/logs", "/sign-in"] {
            let response = get(path).unwrap();
            let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
            let policy = header("content-security-policy");
            assert!(policy.starts_with("default-src 'none'"), "{policy}");
            assert!(policy.ends_with("frame-ancestors 'none'"), "{policy}");
            assert!(!policy.contains("unsafe-inline") && !policy.contains("unsafe-eval"));
            assert_eq!(header("referrer-policy"), "no-referrer");
            assert_eq!(header("cross-origin-opener-policy"), "same-origin");
            assert_eq!(header("content-type"), "text/html; charset=utf-8");
        }
    }

    #[test]
    fn a_file_is_packed_for_those_who_take_it_so() {
        let file = File { path: "/_app/immutable/a.js", bytes: b"long", gzip: Some(b"short") };
        let packed = serve(&file, true);
        assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
        assert_eq!(packed.headers()[header::CACHE_CONTROL], FOREVER);
        let plain = serve(&file, false);
        assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
        let page = File { path: "/index.html", bytes: b"", gzip: None };
        assert_eq!(serve(&page, true).headers()[header::CACHE_CONTROL], "no-cache");
    }

    #[test]
    fn what_a_client_accepts_is_read_as_it_is_written() {
        let wants = |text: &'static str| {
            let value = HeaderValue::from_static(text);
            wants_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)]))
        };
        assert!(wants("br, gzip") && wants("GZIP;q=0.5"));
        assert!(!wants("br") && !wants("gzip;q=0") && !wants("gzipped"));
    }
}
