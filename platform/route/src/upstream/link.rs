//! The socket to a target, and the deadlines on it.
//!
//! Deadlines live here, where bytes move, rather than around each request: the task that drives
//! the connection notices by itself that an app neither takes nor gives a byte. Time in which the
//! router waits for the client, or the client for nothing, is never held against the app.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::clock;
use crate::timer::LazyTimer;

/// What the request and the driver of its connection tell each other.
#[derive(Default)]
pub(crate) struct Link {
    /// A request is on the connection.
    busy: AtomicBool,
    /// The client is the one who keeps the request waiting.
    client_wait: AtomicBool,
    /// A byte of the response has arrived.
    answered: AtomicBool,
    timed_out: AtomicBool,
    gap_ms: AtomicU64,
    progress_ms: AtomicU64,
}

impl Link {
    /// A request begins: the app may be silent for `gap` at most.
    pub(crate) fn begin(&self, gap: Duration) {
        self.answered.store(false, Relaxed);
        self.client_wait.store(false, Relaxed);
        self.set_gap(gap);
        self.busy.store(true, Relaxed);
    }

    /// From now on the app may be silent for `gap` at most.
    pub(crate) fn set_gap(&self, gap: Duration) {
        self.gap_ms.store(clock::ms(gap), Relaxed);
        self.touch();
    }

    /// No request is on the connection, or it is none of HTTP's any more.
    pub(crate) fn rest(&self) {
        self.busy.store(false, Relaxed);
    }

    pub(crate) fn wait_for_client(&self, waiting: bool) {
        if self.client_wait.load(Relaxed) != waiting {
            self.client_wait.store(waiting, Relaxed);
            self.touch();
        }
    }

    /// Whether a byte of the response has arrived.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered.load(Relaxed)
    }

    /// Whether the app was silent for too long.
    pub(crate) fn is_timed_out(&self) -> bool {
        self.timed_out.load(Relaxed)
    }

    fn touch(&self) {
        self.progress_ms.store(clock::now_ms(), Relaxed);
    }

    fn deadline_ms(&self) -> Option<u64> {
        (self.busy.load(Relaxed) && !self.client_wait.load(Relaxed))
            .then(|| self.progress_ms.load(Relaxed) + self.gap_ms.load(Relaxed))
    }
}

pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

pub(crate) struct UpstreamIo {
    stream: Stream,
    link: Arc<Link>,
    timer: LazyTimer,
    reading: bool,
    /// The app takes no more; what is written goes nowhere.
    deaf: bool,
}

impl UpstreamIo {
    pub(crate) fn new(stream: Stream, link: Arc<Link>) -> Self {
        Self { stream, link, timer: LazyTimer::default(), reading: false, deaf: false }
    }

    /// Ready with an error once the app was silent for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(deadline_ms) = self.link.deadline_ms() else {
            return Poll::Pending;
        };
        ready!(self.timer.poll_until(deadline_ms, cx));
        self.link.timed_out.store(true, Relaxed);
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    /// An app may answer and close before it has read the request: a failed write is not told,
    /// so that the answer is still read. Without one, reading fails in its turn.
    fn wrote(
        &mut self,
        written: Poll<io::Result<usize>>,
        bytes: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(written)) => {
                self.link.touch();
                Poll::Ready(Ok(written))
            }
            Poll::Ready(Err(error)) if is_closed(&error) => {
                self.deaf = true;
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_silence(cx).map(Err),
        }
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

macro_rules! delegate {
    ($me:ident, $method:ident($($argument:expr),*)) => {
        match &mut $me.stream {
            Stream::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for UpstreamIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if !me.reading {
            // Nobody wanted to read until now: a slow client is not the app's silence.
            me.reading = true;
            me.link.touch();
        }
        let before = buf.filled().len();
        match delegate!(me, poll_read(cx, buf)) {
            Poll::Ready(result) => {
                me.reading = false;
                if buf.filled().len() > before {
                    me.link.answered.store(true, Relaxed);
                    me.link.touch();
                }
                Poll::Ready(result)
            }
            Poll::Pending => me.poll_silence(cx).map(Err),
        }
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let bytes = bufs.iter().map(|buf| buf.len()).sum();
        if me.deaf {
            return Poll::Ready(Ok(bytes));
        }
        let written = delegate!(me, poll_write_vectored(cx, bufs));
        me.wrote(written, bytes, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        // The end of a request's body is flushed, not read: the wait for the answer begins here.
        // Only reading can tell silence from a client that takes its time, so this arms the timer
        // and decides nothing.
        if let Some(deadline_ms) = me.link.deadline_ms() {
            let _armed = me.timer.poll_until(deadline_ms, cx);
        }
        delegate!(me, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        delegate!(me, poll_shutdown(cx))
    }
}
