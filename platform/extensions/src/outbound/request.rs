//! From what a guest wrote to what is sent: one target, and no header that belongs to the
//! connection or says something else about the target.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};

use super::OutboundError;

/// Headers between two neighbours alone (RFC 9110, section 7.6.1), and those that change how a
/// message ends.
const CONNECTION_HEADERS: [&str; 11] = [
    "connection",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const URL_BYTES_MAX: usize = 8 << 10;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Lower case, without a dot at the end, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) secure: bool,
}

/// Takes the target out of the request, which then is in origin form with a `Host` that says the
/// same.
pub(super) fn prepare<B>(mut request: Request<B>) -> Result<(Target, Request<B>), OutboundError> {
    let invalid = |text: &str| OutboundError::Invalid(text.to_owned());
    if request.method() == Method::CONNECT {
        return Err(invalid("CONNECT makes tunnels, which guests do not have"));
    }
    let target = target(request.uri())?;
    let headers = request.headers_mut();
    strip(headers);
    let lengths: Vec<&HeaderValue> = headers.get_all(CONTENT_LENGTH).iter().collect();
    let number = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        !bytes.is_empty() && bytes.len() <= 19 && bytes.iter().all(u8::is_ascii_digit)
    };
    if lengths.len() > 1 || !lengths.iter().all(number) {
        return Err(invalid("it has no single Content-Length"));
    }
    let plain_port = if target.secure { 443 } else { 80 };
    let name =
        if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
    let authority =
        if target.port == plain_port { name } else { format!("{name}:{}", target.port) };
    headers.insert(HOST, authority.parse().map_err(|_| invalid("its host is not a name"))?);
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    *request.version_mut() = Version::HTTP_11;
    Ok((target, request))
}

fn target(uri: &Uri) -> Result<Target, OutboundError> {
    let invalid = |text: &str| Err(OutboundError::Invalid(text.to_owned()));
    let secure = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        _ => return invalid("its URL must begin with http:// or https://"),
    };
    let Some(authority) = uri.authority() else { return invalid("its URL names no host") };
    if authority.as_str().contains('@') {
        return invalid("its URL has a user or password; send them in a header");
    }
    let length = uri.path_and_query().map_or(0, |path| path.as_str().len());
    if length > URL_BYTES_MAX {
        return invalid("its URL is longer than 8 KiB");
    }
    let port = match (authority.port_u16(), authority.as_str().ends_with(':')) {
        (Some(0), _) | (None, true) => return invalid("its port is not one"),
        (Some(port), _) => port,
        (None, false) if secure => 443,
        (None, false) => 80,
    };
    let host = authority.host();
    let host = host.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')).unwrap_or(host);
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let named = (1..=253).contains(&host.len())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
    let after_name = authority.as_str().get(authority.host().len()..).unwrap_or_default();
    let only_port = after_name.is_empty() || authority.port_u16().is_some();
    if !named || !only_port {
        return invalid("its host is not a name or an address");
    }
    Ok(Target { host, port, secure })
}

/// Removes what belongs to the connection, also what `Connection` names.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in CONNECTION_HEADERS {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(url: &str, headers: &[(&str, &str)]) -> Result<(Target, Request<()>), OutboundError> {
        let mut builder = Request::builder().uri(url);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        prepare(builder.body(()).unwrap())
    }

    #[test]
    fn the_target_and_the_host_header_say_the_same() {
        for (url, host, port, header) in [
            ("https://API.example.com/x?y", "api.example.com", 443, "api.example.com"),
            ("http://api.example.com.", "api.example.com", 80, "api.example.com"),
            ("http://api.example.com:443/", "api.example.com", 443, "api.example.com:443"),
            ("https://[2001:db8::1]:8443/", "2001:db8::1", 8443, "[2001:db8::1]:8443"),
        ] {
            let (target, request) = sent(url, &[("host", "other.example.com")]).unwrap();
            assert_eq!((target.host.as_str(), target.port), (host, port), "{url}");
            assert_eq!(request.headers()[HOST], header, "{url}");
            assert_eq!(request.uri().authority(), None, "{url}");
        }
    }

    #[test]
    fn a_url_with_two_readings_is_refused() {
        for url in [
            "http://allowed.example@other.example/",
            "http://allowed.example:80@other.example/",
            "http://user:pass@allowed.example/",
            "http://allowed.example:0/",
            "http://allowed.example:/",
            "ftp://allowed.example/",
            "/path",
            "http://%61llowed.example/",
            &format!("http://allowed.example/{}", "x".repeat(9000)),
        ] {
            let Ok(uri) = url.parse::<Uri>() else { continue };
            let request = Request::builder().uri(uri).body(()).unwrap();
            let error = prepare(request).unwrap_err();
            assert_eq!(error.code(), "invalid", "{url}: {error}");
        }
        let tunnel = Request::builder().method("CONNECT").uri("allowed.example:80").body(());
        assert_eq!(prepare(tunnel.unwrap()).unwrap_err().code(), "invalid");
    }

    #[test]
    fn headers_of_the_connection_do_not_go_out_and_two_lengths_are_refused() {
        let (_, request) = sent(
            "http://a.example/",
            &[
                ("connection", "x-secret, host, content-length"),
                ("x-secret", "1"),
                ("content-length", "3"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "websocket"),
                ("x-kept", "1"),
            ],
        )
        .unwrap();
        let names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-length", "x-kept", "host"]);
        for lengths in [["3", "4"].as_slice(), &["3", "3"], &["+3"], &["3, 3"], &[""]] {
            let headers: Vec<_> =
                lengths.iter().map(|length| ("content-length", *length)).collect();
            assert_eq!(sent("http://a.example/", &headers).unwrap_err().code(), "invalid");
        }
    }
}
