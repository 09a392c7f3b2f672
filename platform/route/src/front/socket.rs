//! A client's socket under the HTTP parser.
//!
//! Keeps the client's deadlines where bytes move: a head that does not end, a body that trickles,
//! an answer that nobody takes. Where the parser would answer or close by itself, this answers
//! with the router's own page, and reads on for a moment so that the client gets to see it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Client;
use super::head::HeadScan;
use super::watch::Phase;
use crate::clock;
use crate::config::Config;
use crate::fault::{Fault, contains};
use crate::timer::LazyTimer;

/// How much a client may still send after the last answer before it is cut off.
const LINGER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longer than any answer that the parser gives by itself.
const PARSER_ANSWER_BYTES_MAX: usize = 256;

pub(super) struct ClientIo {
    stream: TcpStream,
    client: Arc<Client>,
    timer: LazyTimer,
    head: HeadScan,
    head_until_ms: u64,
    waiting: Option<Waiting>,
    stalled_since_ms: Option<u64>,
    pace: Pace,
    closing: Option<Closing>,
    fresh: bool,
}

/// Since when the client is waited for, in which step of the connection.
#[derive(Clone, Copy)]
struct Waiting {
    step: u32,
    since_ms: u64,
}

/// How fast a request's body comes.
#[derive(Default)]
struct Pace {
    step: u32,
    bytes: u64,
    waited_ms: u64,
}

/// The end of a connection: a last answer, then silence, then what the client still sends.
struct Closing {
    answer: Bytes,
    shut: bool,
    until_ms: u64,
    bytes_left: usize,
}

impl ClientIo {
    pub(super) fn new(stream: TcpStream, client: Arc<Client>) -> Self {
        Self {
            stream,
            client,
            timer: LazyTimer::default(),
            head: HeadScan::default(),
            head_until_ms: 0,
            waiting: None,
            stalled_since_ms: None,
            pace: Pace::default(),
            closing: None,
            fresh: true,
        }
    }

    fn config(&self) -> &Config {
        &self.client.router.config
    }

    /// Looks at new bytes; a fault ends the connection with an answer.
    fn received(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let phase = self.client.watch.phase();
        let step = self.client.watch.step();
        if phase == Phase::Spent {
            // One wait for all that is left, however it trickles in.
            return Ok(());
        }
        let waited = self.waiting.take().filter(|waiting| waiting.step == step);
        match phase {
            Phase::Idle => {
                self.fresh = false;
                self.head = HeadScan::default();
                self.head_until_ms =
                    clock::now_ms() + clock::ms(self.config().deadlines.request_head);
                self.client.watch.enter(Phase::Head);
                self.head.feed(bytes, self.client.router.config.limits.uri_bytes_max)
            }
            Phase::Head => self.head.feed(bytes, self.client.router.config.limits.uri_bytes_max),
            Phase::Busy => {
                if self.pace.step != step {
                    self.pace = Pace { step, ..Pace::default() };
                }
                self.pace.bytes += bytes.len() as u64;
                let since_ms = waited.map(|waiting| waiting.since_ms);
                self.pace.waited_ms += since_ms.map_or(0, |since| clock::now_ms() - since);
                Ok(())
            }
            Phase::Spent | Phase::Tunnel => Ok(()),
        }
    }

    /// The client has sent nothing: says when that is too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let watch = &self.client.watch;
        let (phase, step) = (watch.phase(), watch.step());
        if phase == Phase::Tunnel || (phase == Phase::Busy && !watch.is_body_open()) {
            return Poll::Pending;
        }
        let waiting = self.waiting.filter(|waiting| waiting.step == step);
        let waiting = waiting.unwrap_or_else(|| Waiting { step, since_ms: clock::now_ms() });
        self.waiting = Some(waiting);
        let deadline_ms = self.deadline_ms(phase, waiting);
        ready!(self.timer.poll_until(deadline_ms, cx));
        match phase {
            Phase::Head => self.poll_fault(Fault::SlowClient, cx).map(Err),
            Phase::Busy => {
                // The parser passes this on as the body's error, and still writes the answer.
                self.client.watch.set_slow();
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            // As if the client had closed.
            Phase::Idle | Phase::Spent | Phase::Tunnel => Poll::Ready(Ok(())),
        }
    }

    fn deadline_ms(&self, phase: Phase, waiting: Waiting) -> u64 {
        let deadlines = &self.config().deadlines;
        match phase {
            Phase::Idle if self.fresh => waiting.since_ms + clock::ms(deadlines.request_head),
            Phase::Idle | Phase::Tunnel => waiting.since_ms + clock::ms(deadlines.keep_alive_idle),
            Phase::Head => self.head_until_ms,
            Phase::Spent => waiting.since_ms + clock::ms(deadlines.linger),
            Phase::Busy => {
                let known = self.pace.step == waiting.step;
                let (bytes, waited_ms) =
                    if known { (self.pace.bytes, self.pace.waited_ms) } else { (0, 0) };
                let rate = self.config().limits.request_body_bytes_per_s_min.max(1);
                let earned_ms = (bytes.saturating_mul(1000) / rate)
                    .max(clock::ms(deadlines.request_body_rate_after));
                let left_ms = earned_ms.saturating_sub(waited_ms);
                waiting.since_ms + left_ms.min(clock::ms(deadlines.request_body_gap))
            }
        }
    }

    /// Ends the connection with the router's own answer.
    fn poll_fault(&mut self, fault: Fault, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.close_with(fault);
        ready!(self.poll_close(cx));
        Poll::Ready(io::ErrorKind::InvalidData.into())
    }

    fn close_with(&mut self, fault: Fault) {
        self.client.router.log.connection_fault(self.client.ip, fault);
        self.start_closing(fault.raw());
    }

    fn start_closing(&mut self, answer: Bytes) {
        let linger_ms = clock::ms(self.config().deadlines.linger);
        self.closing = Some(Closing {
            answer,
            shut: false,
            until_ms: clock::now_ms() + linger_ms,
            bytes_left: LINGER_BYTES_MAX,
        });
    }

    /// Writes the last answer; ready when it is out or cannot be.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(closing) = &mut self.closing else {
            return Poll::Ready(());
        };
        while closing.answer.has_remaining() {
            if self.timer.poll_until(closing.until_ms, cx).is_ready() {
                closing.answer.clear();
                break;
            }
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &closing.answer)) {
                Ok(written) if written > 0 => closing.answer.advance(written),
                Ok(_) | Err(_) => closing.answer.clear(),
            }
        }
        Poll::Ready(())
    }

    /// Closing with unread bytes resets the connection and may take the answer with it, so what
    /// the client still sends is read and dropped for a while.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_answer(cx));
        let Some(closing) = &mut self.closing else {
            return Poll::Ready(());
        };
        if !closing.shut {
            let _ = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
            closing.shut = true;
        }
        let mut space = [0; 8 * 1024];
        loop {
            if self.timer.poll_until(closing.until_ms, cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buf = ReadBuf::new(&mut space);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf));
            let bytes = buf.filled().len();
            if read.is_err() || bytes == 0 || bytes > closing.bytes_left {
                return Poll::Ready(());
            }
            closing.bytes_left -= bytes;
        }
    }

    /// The parser's own answer to a head that it refused, if that is what it writes. Answers to
    /// requests always carry a request id.
    fn parser_answer(&self, parts: &[io::IoSlice<'_>]) -> Option<Fault> {
        if !matches!(self.client.watch.phase(), Phase::Idle | Phase::Head | Phase::Spent) {
            return None;
        }
        let head = parts.iter().find(|part| !part.is_empty())?;
        let status = head.strip_prefix(b"HTTP/1.1 4")?.get(..2)?;
        let is_answer = head.len() <= PARSER_ANSWER_BYTES_MAX
            && head.ends_with(b"\r\n\r\n")
            && !contains(head, b"\r\nx-request-id:");
        let status = 400 + std::str::from_utf8(status).ok()?.parse::<u16>().ok()?;
        is_answer.then(|| Fault::of_parser(status))
    }

    fn wrote(
        &mut self,
        written: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled_since_ms = None;
            return written;
        }
        if self.client.watch.phase() == Phase::Tunnel {
            return Poll::Pending;
        }
        let since_ms = *self.stalled_since_ms.get_or_insert_with(clock::now_ms);
        let deadline_ms = since_ms + clock::ms(self.config().deadlines.client_write_stall);
        ready!(self.timer.poll_until(deadline_ms, cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if me.closing.is_some() {
            ready!(me.poll_close(cx));
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut me.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                match me.received(&buf.filled()[before..]) {
                    Ok(()) => Poll::Ready(Ok(())),
                    Err(fault) => {
                        buf.set_filled(before);
                        me.poll_fault(fault, cx).map(Err)
                    }
                }
            }
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => me.poll_silence(cx),
        }
    }
}

impl AsyncWrite for ClientIo {
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
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        if let Some(fault) = me.parser_answer(parts) {
            let fault = if me.head.is_in_first_line(PARSER_ANSWER_BYTES_MAX) {
                Fault::UriTooLong
            } else {
                fault
            };
            me.close_with(fault);
            return Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()));
        }
        let written = Pin::new(&mut me.stream).poll_write_vectored(cx, parts);
        me.wrote(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        ready!(me.poll_answer(cx));
        // The parser does not read again once an answer is out; the wait for the next request
        // begins here, and the timer makes it look.
        if me.closing.is_none() && matches!(me.client.watch.phase(), Phase::Idle | Phase::Spent) {
            let _armed = me.poll_silence(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let unread = matches!(me.client.watch.phase(), Phase::Spent);
        if unread && me.closing.is_none() {
            me.start_closing(Bytes::new());
        }
        if me.closing.is_some() {
            return me.poll_close(cx).map(Ok);
        }
        Pin::new(&mut me.stream).poll_shutdown(cx)
    }
}
