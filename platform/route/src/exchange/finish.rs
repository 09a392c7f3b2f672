//! From an app's answer to the client's.

use http::header;
use http::{Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::Exchange;
use super::attempt::Answer;
use crate::body::{Download, ReplyBody};
use crate::headers;
use crate::tunnel;

/// An app's answer whose head may still be changed. Dropped, it ends the connection to the app.
pub(super) struct Finishing {
    pub(super) exchange: Box<Exchange>,
    pub(super) parts: http::response::Parts,
    incoming: Incoming,
    answer: Answer<()>,
    reusable: bool,
    idle_s_hint: Option<u64>,
}

impl Finishing {
    /// Removes what is not for the client.
    pub(super) fn begin(mut exchange: Box<Exchange>, answer: Answer) -> Self {
        let (response, answer) = answer.split();
        exchange.answered(response.status());
        let idle_s_hint = headers::keep_alive_timeout_s(response.headers());
        let reusable = response.version() == Version::HTTP_11
            && !headers::has_token(response.headers(), &header::CONNECTION, "close");
        let (mut parts, incoming) = response.into_parts();
        parts.version = Version::HTTP_11;
        let upgrade = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        headers::strip_response(&mut parts.headers, upgrade);
        Self { exchange, parts, incoming, answer, reusable, idle_s_hint }
    }

    /// Passes the answer on.
    pub(super) fn end(self, switched: OnUpgrade) -> Response<ReplyBody> {
        let Self { mut exchange, mut parts, incoming, answer, reusable, idle_s_hint } = self;
        let Answer { lease, entered, slot, .. } = answer;
        let deadlines = &exchange.client.router.config.deadlines;
        let is_stream = parts
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let gap = if is_stream { deadlines.stream_gap } else { deadlines.response_gap };
        lease.link.set_gap(gap);
        parts.headers.insert(headers::X_REQUEST_ID, exchange.books.id.clone());
        let upgrade = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        if upgrade || is_stream {
            exchange.settle();
        }
        if upgrade {
            exchange.client.watch.tunnel();
            let far = hyper::upgrade::on(Response::from_parts(parts.clone(), incoming));
            lease.into_tunnel();
            tokio::spawn(tunnel::carry(switched, far, entered, exchange));
            parts.extensions.clear();
            return Response::from_parts(parts, ReplyBody::switched());
        }
        let download = Download {
            incoming,
            lease,
            entered,
            _slot: slot.filter(|_| !is_stream),
            reusable,
            idle_s_hint,
        };
        Response::from_parts(parts, ReplyBody::app(download, exchange))
    }
}
