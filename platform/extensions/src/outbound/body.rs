//! Bodies both ways, cut at their bounds.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::{Held, OutboundError, SendLimits};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Whether a request's body was cut: what the server makes of it says nothing then.
#[derive(Debug, Clone, Default)]
pub(super) struct Cut(Arc<AtomicBool>);

impl Cut {
    pub(super) fn happened(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What a guest sends.
pub(super) struct RequestBody<B> {
    inner: B,
    bytes: u64,
    bytes_max: u64,
    cut: Cut,
}

impl<B> RequestBody<B> {
    pub(super) fn new(inner: B, limits: SendLimits, cut: Cut) -> Self {
        Self { inner, bytes: 0, bytes_max: limits.request_bytes_max, cut }
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Error>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => frame,
            other => return other.map(|ended| ended.map(|frame| frame.map_err(Into::into))),
        };
        self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        if self.bytes > self.bytes_max {
            self.cut.0.store(true, Ordering::Release);
            let error = OutboundError::TooLarge("request", self.bytes_max);
            return Poll::Ready(Some(Err(error.into())));
        }
        // Trailers of a guest could smuggle what headers may not.
        match frame.into_data() {
            Ok(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Err(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What a server answered. Dropping it closes the connection.
pub struct ResponseBody {
    inner: Incoming,
    bytes: u64,
    limits: SendLimits,
    silence: Pin<Box<Sleep>>,
    _held: Held,
}

impl ResponseBody {
    pub(super) fn new(inner: Incoming, limits: SendLimits, held: Held) -> Self {
        let silence = Box::pin(tokio::time::sleep(limits.between_bytes));
        Self { inner, bytes: 0, limits, silence, _held: held }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = OutboundError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OutboundError>>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                let max = self.limits.response_bytes_max;
                if self.bytes > max {
                    return Poll::Ready(Some(Err(OutboundError::TooLarge("response", max))));
                }
                let next = Instant::now() + self.limits.between_bytes;
                self.silence.as_mut().reset(next);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let reason = super::connect::reason(&error);
                let host = "the server".to_owned();
                Poll::Ready(Some(Err(OutboundError::Protocol { host, reason })))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.silence.as_mut().poll(context).map(|()| {
                let waited = self.limits.between_bytes.as_millis();
                Some(Err(OutboundError::Timeout("the next part of the answer", waited)))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
