//! The answers that the router makes itself: a code, its status, and a small page.
//!
//! The codes are what clients see in `X-Router-Error` and operators in the access log. A page
//! never says anything about an app's inside.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};

/// Names a router's own answer on the response.
pub(crate) const X_ROUTER_ERROR: HeaderName = HeaderName::from_static("x-router-error");

macro_rules! faults {
    ($($name:ident = $status:literal $code:literal $retry_s:literal $sentence:literal;)*) => {
        /// Why the router answers instead of an app.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Fault { $($name),* }

        impl Fault {
            /// The code in `X-Router-Error` and in the access log.
            pub(crate) fn code(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// The status; 499 stands only in the log.
            pub(crate) fn status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }

            fn retry_after_s(self) -> u32 {
                match self { $(Self::$name => $retry_s),* }
            }

            fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence),* }
            }
        }
    };
}

faults! {
    BadFraming = 400 "bad_framing" 0 "The request is not valid HTTP/1.1.";
    BadHost = 400 "bad_host" 0 "The request needs exactly one valid Host.";
    BadUri = 400 "bad_uri" 0 "The request's target is not valid.";
    NoRoute = 404 "no_route" 0 "There is no app at this address.";
    Method = 405 "method" 0 "This method is not supported here.";
    SlowClient = 408 "slow_client" 0 "The request took too long to arrive.";
    BodyTooLarge = 413 "body_too_large" 0 "The request's body is too large.";
    UriTooLong = 414 "uri_too_long" 0 "The request's target is too long.";
    HeadTooLarge = 431 "head_too_large" 0 "The request's header is too large.";
    ClientGone = 499 "client_gone" 0 "The client closed the connection.";
    Refused = 502 "refused" 0 "The app does not accept connections.";
    Reset = 502 "reset" 0 "The app closed the connection before it answered.";
    BadResponse = 502 "bad_response" 0 "The app's answer is not valid HTTP.";
    NoTable = 503 "no_table" 1 "This server is starting.";
    NoRelease = 503 "no_release" 10 "Nothing has been deployed here yet.";
    NoHealthy = 503 "no_healthy" 5 "No instance of this app is ready.";
    Stopped = 503 "stopped" 60 "This app is stopped.";
    Middleware = 503 "middleware" 5 "What this app is protected by does not work at the moment.";
    Overload = 503 "overload" 5 "This app has more requests than it can take.";
    ConnectTimeout = 504 "connect_timeout" 0 "The app did not accept the connection in time.";
    HeaderTimeout = 504 "header_timeout" 0 "The app did not answer in time.";
    BodyTimeout = 504 "body_timeout" 0 "The app did not take the request in time.";
    DrainCut = 504 "drain_cut" 0 "The app was replaced before it answered.";
}

impl Fault {
    /// Whether a target failed in a way that counts towards its ejection.
    pub(crate) fn is_of_target(self) -> bool {
        matches!(
            self,
            Self::Refused
                | Self::Reset
                | Self::BadResponse
                | Self::ConnectTimeout
                | Self::HeaderTimeout
                | Self::BodyTimeout
        )
    }

    /// Whether what the client still sends cannot be trusted or is not wanted.
    fn closes(self) -> bool {
        matches!(
            self,
            Self::BadFraming
                | Self::BadHost
                | Self::BadUri
                | Self::Method
                | Self::SlowClient
                | Self::BodyTooLarge
                | Self::UriTooLong
                | Self::HeadTooLarge
        )
    }

    /// The fault of a status that the HTTP parser answers with by itself.
    pub(crate) fn of_parser(status: u16) -> Self {
        match status {
            414 => Self::UriTooLong,
            431 => Self::HeadTooLarge,
            _ => Self::BadFraming,
        }
    }

    /// The answer, in HTML where the request's `Accept` names it.
    pub(crate) fn response(self, accept: Option<&HeaderValue>) -> Response<Bytes> {
        let html = accept.is_some_and(|value| contains(value.as_bytes(), b"text/html"));
        let mut response = Response::new(self.page(html));
        *response.status_mut() =
            StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = if html { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_ROUTER_ERROR, HeaderValue::from_static(self.code()));
        if self.retry_after_s() > 0 {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after_s()));
        }
        if self == Self::Method {
            headers.insert(
                header::ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            );
        }
        if self.closes() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The answer as bytes, for a connection whose request never became one.
    pub(crate) fn raw(self) -> Bytes {
        let page = self.page(false);
        let reason = self.reason();
        let head = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\n\
             x-router-error: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.status(),
            self.code(),
            page.len(),
        );
        [head.as_bytes(), &page].concat().into()
    }

    fn page(self, html: bool) -> Bytes {
        let (status, reason, sentence) = (self.status(), self.reason(), self.sentence());
        if html {
            format!(
                "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{status} {reason}</title>\n\
                 <h1>{status} {reason}</h1>\n<p>{sentence}</p>\n</html>\n"
            )
        } else {
            format!("{status} {reason}\n{sentence}\n")
        }
        .into()
    }

    fn reason(self) -> &'static str {
        StatusCode::from_u16(self.status())
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Client Closed Request")
    }
}

/// Whether `part` stands in `text`, ignoring ASCII case.
pub(crate) fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}
