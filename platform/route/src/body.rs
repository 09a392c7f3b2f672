//! Bodies on their way through, a frame at a time; nothing is gathered.
//!
//! [`RequestBody`] is what a target reads: it counts, refuses what is too much, and keeps the
//! client's body for another attempt as long as nothing of it was read. [`ReplyBody`] is what the
//! client reads: it gives the connection back to the pool at its end and closes the request's
//! books when it is dropped, whatever happened.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::front::ClientWatch;
use crate::headers;
use crate::target::Entered;
use crate::upstream::{Lease, Link};

/// The client's body, as one request and its attempts share it.
pub(crate) struct Upload {
    unread: Mutex<Option<Unread>>,
    given_back: Notify,
    read: AtomicBool,
    done: AtomicBool,
    bytes: AtomicU64,
    bytes_max: u64,
    too_large: AtomicBool,
    broken: AtomicBool,
    gone: AtomicBool,
    watch: Arc<ClientWatch>,
}

/// What no attempt has read: what was gathered for middlewares, then the rest.
struct Unread {
    seen: VecDeque<Frame<Bytes>>,
    rest: Incoming,
}

impl Unread {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.seen.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.seen.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let seen: usize = self.seen.iter().filter_map(Frame::data_ref).map(Bytes::len).sum();
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + seen as u64);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + seen as u64);
        }
        hint
    }
}

impl Upload {
    pub(crate) fn new(body: Incoming, bytes_max: u64, watch: Arc<ClientWatch>) -> Self {
        Self {
            unread: Mutex::new(Some(Unread { seen: VecDeque::new(), rest: body })),
            given_back: Notify::new(),
            read: AtomicBool::new(false),
            done: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            bytes_max,
            too_large: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            watch,
        }
    }

    /// The body for one attempt; nothing when an earlier one has read of it. An attempt that has
    /// just failed gives the body back as soon as its connection is gone.
    pub(crate) async fn body(self: &Arc<Self>, link: &Arc<Link>) -> Option<RequestBody> {
        loop {
            let given_back = self.given_back.notified();
            if !self.is_unread() {
                return None;
            }
            let unread = self.slot().take();
            if unread.is_some() {
                return Some(RequestBody(Some(Reading {
                    unread,
                    upload: Arc::clone(self),
                    link: Arc::clone(link),
                })));
            }
            given_back.await;
        }
    }

    pub(crate) fn is_unread(&self) -> bool {
        !self.read.load(Relaxed)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Why the client is to blame for a failed request, if it is.
    pub(crate) fn fault(&self) -> Option<Fault> {
        let set = |flag: &AtomicBool| flag.load(Relaxed);
        match () {
            () if set(&self.too_large) => Some(Fault::BodyTooLarge),
            () if self.watch.is_slow() => Some(Fault::SlowClient),
            () if set(&self.gone) => Some(Fault::ClientGone),
            () if set(&self.broken) => Some(Fault::BadFraming),
            () => None,
        }
    }

    /// Gathers the body, before the first attempt, and keeps it for that: all of it, or nothing
    /// where it is longer than so many bytes. Where its length says so, nothing is gathered.
    pub(crate) async fn look(&self, bytes_max: u64) -> Result<Option<Bytes>, Fault> {
        let Some(mut unread) = self.slot().take() else { return Ok(None) };
        if unread.size_hint().lower() > bytes_max.min(self.bytes_max) {
            *self.slot() = Some(unread);
            return Ok(None);
        }
        let mut bytes = 0;
        let mut failed = None;
        while bytes <= bytes_max {
            match poll_fn(|cx| Pin::new(&mut unread.rest).poll_frame(cx)).await {
                Some(Ok(frame)) => {
                    bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                    unread.seen.push_back(frame);
                }
                Some(Err(error)) => {
                    failed = Some(error);
                    break;
                }
                None => break,
            }
        }
        if let Some(error) = failed {
            self.blame(&error);
            return Err(self.fault().unwrap_or(Fault::ClientGone));
        }
        if bytes > bytes_max {
            *self.slot() = Some(unread);
            return Ok(None);
        }
        self.watch.body_read();
        let whole: Vec<u8> =
            unread.seen.iter().filter_map(Frame::data_ref).flatten().copied().collect();
        *self.slot() = Some(unread);
        Ok(Some(whole.into()))
    }

    /// Notes what ended the body early.
    fn blame(&self, error: &hyper::Error) {
        use std::error::Error as _;
        let kind = error
            .source()
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .map(std::io::Error::kind);
        let invalid = [std::io::ErrorKind::InvalidInput, std::io::ErrorKind::InvalidData];
        let flag = match kind {
            Some(kind) if invalid.contains(&kind) => &self.broken,
            _ => &self.gone,
        };
        flag.store(true, Relaxed);
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Unread>> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self) {
        self.done.store(true, Relaxed);
        self.watch.body_read();
    }
}

/// The body of a request as a target reads it; empty for most.
pub(crate) struct RequestBody(Option<Reading>);

struct Reading {
    unread: Option<Unread>,
    upload: Arc<Upload>,
    link: Arc<Link>,
}

/// The client's body cannot go on; [`Upload::fault`] says why.
#[derive(Debug, thiserror::Error)]
#[error("the client's request body ended early")]
pub(crate) struct UploadError;

impl RequestBody {
    pub(crate) const EMPTY: Self = Self(None);
}

impl Reading {
    fn frame(&mut self, frame: Frame<Bytes>, ended: bool) -> Result<Frame<Bytes>, UploadError> {
        let upload = &self.upload;
        if let Some(data) = frame.data_ref() {
            let bytes = upload.bytes.fetch_add(data.len() as u64, Relaxed) + data.len() as u64;
            if bytes > upload.bytes_max {
                upload.too_large.store(true, Relaxed);
                return Err(UploadError);
            }
        }
        if ended || frame.is_trailers() {
            upload.finish();
        }
        Ok(match frame.into_trailers() {
            Ok(mut trailers) => {
                headers::strip_trailers(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(data) => data,
        })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Some(reading) = &mut self.get_mut().0 else {
            return Poll::Ready(None);
        };
        let Some(unread) = &mut reading.unread else {
            return Poll::Ready(None);
        };
        let polled = unread.poll_frame(cx);
        let ended = unread.is_end_stream();
        reading.link.wait_for_client(polled.is_pending());
        let frame = ready!(polled);
        reading.upload.read.store(true, Relaxed);
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(reading.frame(frame, ended)),
            Some(Err(error)) => {
                reading.upload.blame(&error);
                Some(Err(UploadError))
            }
            None => {
                reading.upload.finish();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().and_then(|r| r.unread.as_ref()).is_none_or(Unread::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.as_ref().and_then(|r| r.unread.as_ref()) {
            Some(unread) => unread.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if self.upload.is_unread() {
            *self.upload.slot() = self.unread.take();
        }
        self.upload.given_back.notify_one();
    }
}

/// The body of an answer as the client reads it.
pub(crate) struct ReplyBody {
    content: Content,
    exchange: Option<Box<Exchange>>,
}

enum Content {
    Page(Option<Bytes>),
    App(Download),
    Done,
}

/// An app's answer that is being read.
pub(crate) struct Download {
    pub(crate) incoming: Incoming,
    pub(crate) lease: Lease,
    pub(crate) entered: Entered,
    /// The app's slot; absent where the answer is a stream that may stay open for hours.
    pub(crate) _slot: Option<OwnedSemaphorePermit>,
    pub(crate) reusable: bool,
    pub(crate) idle_s_hint: Option<u64>,
}

impl ReplyBody {
    pub(crate) fn page(bytes: Bytes, exchange: Box<Exchange>) -> Self {
        Self {
            content: Content::Page(Some(bytes).filter(|b| !b.is_empty())),
            exchange: Some(exchange),
        }
    }

    /// The head of a tunnel, whose books are closed by the tunnel.
    pub(crate) fn switched() -> Self {
        Self { content: Content::Done, exchange: None }
    }

    pub(crate) fn app(download: Download, exchange: Box<Exchange>) -> Self {
        let mut body = Self { content: Content::App(download), exchange: Some(exchange) };
        if body.is_end_stream() {
            body.complete();
        }
        body
    }

    fn complete(&mut self) {
        if let Content::App(download) = std::mem::replace(&mut self.content, Content::Done) {
            let sent = self.exchange.as_ref().is_none_or(|exchange| exchange.is_upload_done());
            if download.reusable && sent {
                download.lease.give_back(download.idle_s_hint);
            }
        }
        if let Some(exchange) = &mut self.exchange {
            exchange.complete();
        }
    }

    fn poll_app(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Content::App(download) = &mut self.content else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut download.incoming).poll_frame(cx));
        let ended = download.incoming.is_end_stream();
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some(exchange)) = (frame.data_ref(), &mut self.exchange) {
                    exchange.sent(data.len());
                }
                if ended || frame.is_trailers() {
                    self.complete();
                }
                Some(Ok(match frame.into_trailers() {
                    Ok(mut trailers) => {
                        headers::strip_trailers(&mut trailers);
                        Frame::trailers(trailers)
                    }
                    Err(data) => data,
                }))
            }
            Some(Err(error)) => {
                let fault = match () {
                    () if download.lease.link.is_timed_out() => Fault::BodyTimeout,
                    () if download.entered.cut.is_cancelled() => Fault::DrainCut,
                    () => Fault::Reset,
                };
                if let Some(exchange) = &mut self.exchange {
                    exchange.cut(fault);
                }
                self.content = Content::Done;
                Some(Err(error))
            }
            None => {
                self.complete();
                None
            }
        })
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let me = self.get_mut();
        match &mut me.content {
            Content::Page(page) => {
                let page = page.take();
                if let (Some(page), Some(exchange)) = (&page, &mut me.exchange) {
                    exchange.sent(page.len());
                    exchange.complete();
                }
                Poll::Ready(page.map(|bytes| Ok(Frame::data(bytes))))
            }
            Content::App(_) => me.poll_app(cx),
            Content::Done => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Page(page) => page.is_none(),
            Content::App(download) => download.incoming.is_end_stream(),
            Content::Done => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Page(page) => SizeHint::with_exact(page.as_ref().map_or(0, Bytes::len) as u64),
            Content::App(download) => download.incoming.size_hint(),
            Content::Done => SizeHint::with_exact(0),
        }
    }
}
