//! Requests and responses as a middleware sees and changes them.
//!
//! What it changes is written down beside the headers and applied when it has ended well, so that
//! one that is ended half-way has changed nothing. What belongs to the connection is not its to
//! change.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use wasmtime::component::Resource;

use super::wit::berth::middleware::types;
use crate::limits::{Fault, Stopped};
use crate::powers::State;

/// Bytes of names and values that one call may set.
const EDITS_BYTES_MAX: usize = 64 * 1024;
/// Changes of one call.
const EDITS_MAX: usize = 256;

/// A request on its way to an app.
#[derive(Debug)]
pub struct RequestHead {
    /// Its method.
    pub method: Method,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host asked for, without port.
    pub host: String,
    /// Path and query as they came.
    pub path: String,
    /// Who asks.
    pub client: IpAddr,
    /// Its headers, the router's own among them.
    pub headers: HeaderMap,
    /// All of its body, where the middleware may see it.
    pub body: Option<Bytes>,
}

impl Default for RequestHead {
    fn default() -> Self {
        Self {
            method: Method::GET,
            scheme: "http",
            host: String::new(),
            path: String::new(),
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            headers: HeaderMap::new(),
            body: None,
        }
    }
}

/// A response on its way to a client.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// Its status.
    pub status: StatusCode,
    /// Path and query of the request.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
}

/// The request of a call.
#[expect(unreachable_pub, reason = "the macro re-exports it from a module that is private too")]
#[derive(Default)]
pub struct Request {
    head: RequestHead,
    body_bytes_max: u64,
    edits: Edits,
}

/// The response of a call.
#[expect(unreachable_pub, reason = "the macro re-exports it from a module that is private too")]
#[derive(Default)]
pub struct Response {
    head: ResponseHead,
    edits: Edits,
}

/// Something with headers that is lent to a middleware for one call. Its place in the table of a
/// store is made once and never given up: a guest only ever borrows it.
pub(super) trait Message: Default + Send + Sized + 'static {
    /// What the router has.
    type Head: Send;

    fn lend(head: Self::Head, body_bytes_max: u64) -> Self;
    /// Gives it back, with the changes or without.
    fn take_back(self, changed: bool) -> Self::Head;
}

impl Message for Request {
    type Head = RequestHead;

    fn lend(head: RequestHead, body_bytes_max: u64) -> Self {
        Self { head, body_bytes_max, edits: Edits::default() }
    }

    fn take_back(mut self, changed: bool) -> RequestHead {
        if changed {
            self.edits.apply(&mut self.head.headers);
        }
        self.head
    }
}

impl Message for Response {
    type Head = ResponseHead;

    fn lend(head: ResponseHead, _: u64) -> Self {
        Self { head, edits: Edits::default() }
    }

    fn take_back(mut self, changed: bool) -> ResponseHead {
        if changed {
            self.edits.apply(&mut self.head.headers);
        }
        self.head
    }
}

/// Changes of headers, in order.
#[derive(Default)]
struct Edits {
    made: Vec<(HeaderName, Option<HeaderValue>)>,
    bytes: usize,
}

impl Edits {
    /// Notes a change; false where it is the host's, not valid, or too much.
    fn note(&mut self, name: &str, value: Option<Vec<u8>>) -> bool {
        let bytes = self.bytes + name.len() + value.as_ref().map_or(0, Vec::len);
        if is_hosts(name) || self.made.len() >= EDITS_MAX || bytes > EDITS_BYTES_MAX {
            return false;
        }
        let value = value.map(|bytes| HeaderValue::from_maybe_shared(Bytes::from(bytes)));
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), value.transpose())
        else {
            return false;
        };
        self.bytes = bytes;
        self.made.push((name, value));
        true
    }

    fn first(&self, headers: &HeaderMap, name: &str) -> Option<Vec<u8>> {
        let edit = self.made.iter().rev().find(|(edited, _)| edited.as_str() == name);
        let value = match edit {
            Some((_, value)) => value.as_ref(),
            None => headers.get(name),
        };
        value.map(|value| value.as_bytes().to_vec())
    }

    fn all(&self, headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
        let text = |name: &HeaderName, value: &HeaderValue| {
            (name.as_str().to_owned(), value.as_bytes().to_vec())
        };
        if self.made.is_empty() {
            return headers.iter().map(|(name, value)| text(name, value)).collect();
        }
        let mut headers = headers.clone();
        for (name, value) in &self.made {
            edit(&mut headers, name.clone(), value.clone());
        }
        headers.iter().map(|(name, value)| text(name, value)).collect()
    }

    fn apply(&mut self, headers: &mut HeaderMap) {
        for (name, value) in self.made.drain(..) {
            edit(headers, name, value);
        }
    }
}

fn edit(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => {
            headers.insert(name, value);
        }
        None => {
            headers.remove(name);
        }
    }
}

/// Whether a header is the host's: framing, the connection's own, and what says who asks.
pub fn is_hosts(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("x-forwarded-")
        || name.starts_with("proxy-")
        || name.starts_with("berth-")
        || name.contains('_')
        || matches!(
            name.as_str(),
            "alt-svc"
                | "connection"
                | "content-length"
                | "expect"
                | "forwarded"
                | "host"
                | "http2-settings"
                | "keep-alive"
                | "proxy"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
                | "x-real-ip"
                | "x-request-id"
                | "x-request-start"
                | "x-router-error"
        )
}

/// What a call is about, counted as a call into the host.
fn lent<'a, M: 'static>(state: &'a mut State, at: &Resource<M>) -> wasmtime::Result<&'a mut M> {
    if !state.sandbox.meter.count_host_call() {
        return Err(Stopped(Fault::HostCalls).into());
    }
    Ok(state.sandbox.table.get_mut(at)?)
}

impl types::Host for State {}

impl types::HostRequest for State {
    fn method(&mut self, at: Resource<Request>) -> wasmtime::Result<String> {
        Ok(lent(self, &at)?.head.method.as_str().to_owned())
    }

    fn scheme(&mut self, at: Resource<Request>) -> wasmtime::Result<String> {
        Ok(lent(self, &at)?.head.scheme.to_owned())
    }

    fn host(&mut self, at: Resource<Request>) -> wasmtime::Result<String> {
        Ok(lent(self, &at)?.head.host.clone())
    }

    fn path(&mut self, at: Resource<Request>) -> wasmtime::Result<String> {
        Ok(lent(self, &at)?.head.path.clone())
    }

    fn client(&mut self, at: Resource<Request>) -> wasmtime::Result<String> {
        Ok(lent(self, &at)?.head.client.to_string())
    }

    fn header(&mut self, at: Resource<Request>, name: String) -> wasmtime::Result<Option<Vec<u8>>> {
        let request = lent(self, &at)?;
        Ok(request.edits.first(&request.head.headers, &name.to_ascii_lowercase()))
    }

    fn headers(&mut self, at: Resource<Request>) -> wasmtime::Result<Vec<(String, Vec<u8>)>> {
        let request = lent(self, &at)?;
        Ok(request.edits.all(&request.head.headers))
    }

    fn set_header(
        &mut self,
        at: Resource<Request>,
        name: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<bool> {
        Ok(lent(self, &at)?.edits.note(&name, Some(value)))
    }

    fn remove_header(&mut self, at: Resource<Request>, name: String) -> wasmtime::Result<bool> {
        Ok(lent(self, &at)?.edits.note(&name, None))
    }

    fn body(&mut self, at: Resource<Request>) -> wasmtime::Result<Option<Vec<u8>>> {
        let request = lent(self, &at)?;
        let body = request.head.body.as_ref();
        let shown = body.filter(|body| body.len() as u64 <= request.body_bytes_max);
        Ok(shown.map(|body| body.to_vec()))
    }

    fn drop(&mut self, _: Resource<Request>) -> wasmtime::Result<()> {
        // The guest has it for the time of a call and never owns it.
        Ok(())
    }
}

impl types::HostResponse for State {
    fn status(&mut self, at: Resource<Response>) -> wasmtime::Result<u16> {
        Ok(lent(self, &at)?.head.status.as_u16())
    }

    fn header(
        &mut self,
        at: Resource<Response>,
        name: String,
    ) -> wasmtime::Result<Option<Vec<u8>>> {
        let response = lent(self, &at)?;
        Ok(response.edits.first(&response.head.headers, &name.to_ascii_lowercase()))
    }

    fn headers(&mut self, at: Resource<Response>) -> wasmtime::Result<Vec<(String, Vec<u8>)>> {
        let response = lent(self, &at)?;
        Ok(response.edits.all(&response.head.headers))
    }

    fn set_header(
        &mut self,
        at: Resource<Response>,
        name: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<bool> {
        Ok(lent(self, &at)?.edits.note(&name, Some(value)))
    }

    fn remove_header(&mut self, at: Resource<Response>, name: String) -> wasmtime::Result<bool> {
        Ok(lent(self, &at)?.edits.note(&name, None))
    }

    fn path(&mut self, at: Resource<Response>) -> wasmtime::Result<String> {
        Ok(lent(self, &at)?.head.path.clone())
    }

    fn drop(&mut self, _: Resource<Response>) -> wasmtime::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_hosts_cannot_be_changed_in_any_spelling() {
        let mut edits = Edits::default();
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "connection",
            "X-Forwarded-For",
            "x-forwarded-anything",
            "X-Real-IP",
            "berth-instance",
            "x_forwarded_for",
            "x-request-id",
            "",
            "a b",
        ] {
            assert!(!edits.note(name, Some(b"1".to_vec())), "{name}");
            assert!(!edits.note(name, None), "{name}");
        }
        assert!(!edits.note("x-a", Some(b"1\r\nx-b: 2".to_vec())));
        assert!(edits.note("X-User", Some(b"ann".to_vec())));
    }

    #[test]
    fn changes_are_seen_at_once_and_made_at_the_end() {
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        let mut edits = Edits::default();
        assert!(edits.note("x-a", None));
        assert!(edits.note("x-b", Some(b"3".to_vec())));
        assert_eq!(edits.first(&headers, "x-a"), None);
        assert_eq!(edits.all(&headers), [("x-b".to_owned(), b"3".to_vec())]);
        assert_eq!(headers.len(), 2);
        edits.apply(&mut headers);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn one_call_cannot_set_more_than_its_share() {
        let mut edits = Edits::default();
        assert!(edits.note("x-a", Some(vec![b'a'; EDITS_BYTES_MAX - 10])));
        assert!(!edits.note("x-b", Some(vec![b'a'; 10])));
    }
}
