//! The body of an app's response.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::AppError;

/// How a guest failed, once it did. Set before its store is dropped, so before its streams close.
pub(super) type Failure = Arc<OnceLock<AppError>>;

/// A body ended before its end.
#[derive(Debug, thiserror::Error)]
#[error("the app's response ended early: {0}")]
pub struct BodyCut(String);

/// Streams what the guest writes. Dropped before its end, it ends the guest.
pub struct AppBody {
    inner: HyperOutgoingBody,
    failure: Failure,
    guest: Guest,
}

/// Ends a guest when nobody waits for it any more.
pub(super) struct Guest {
    /// None when it may go on by itself: its response is out, or nobody reads the body of it; or
    /// when it has ended.
    task: Option<AbortHandle>,
}

impl Guest {
    pub(super) fn new(task: AbortHandle, released: bool) -> Self {
        Self { task: (!released).then_some(task) }
    }

    pub(super) fn ended() -> Self {
        Self { task: None }
    }

    fn release(&mut self) {
        self.task = None;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl AppBody {
    pub(super) fn new(inner: HyperOutgoingBody, failure: Failure, guest: Guest) -> Self {
        Self { inner, failure, guest }
    }
}

impl Body for AppBody {
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyCut(error.to_string())))),
            // A guest that was ended closes its streams like one that is done.
            Poll::Ready(None) => match self.failure.get() {
                Some(failure) => Poll::Ready(Some(Err(BodyCut(failure.to_string())))),
                None => {
                    self.guest.release();
                    Poll::Ready(None)
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
