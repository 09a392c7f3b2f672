//! Turns what a guest writes into bounded lines that are safe to show.
//!
//! Takes bytes of standard output and standard error, gives whole lines to a sink, in order, each
//! at most [`LINE_BYTES_MAX`]. Control characters are escaped: a guest must never move a reader's
//! cursor or end a line of the platform's own.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use berth_model::log::LogStream;
use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::limits::{Fault, Meter, Stopped};

/// Longest line; a longer one goes on in the next, marked as partial.
pub(crate) const LINE_BYTES_MAX: usize = 8 * 1024;
/// Largest single write.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Takes lines. The last argument says that the line goes on in the next one.
pub(crate) type Sink = Arc<dyn Fn(LogStream, &str, bool) + Send + Sync>;

/// What happens with output over the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excess {
    /// The guest ends.
    Ends,
    /// It is dropped, with one line that says so.
    Dropped,
}

/// Standard output or standard error of a guest. Cheap to clone; all clones are one stream.
#[derive(Clone)]
pub(crate) struct Lines {
    shared: Arc<Shared>,
}

struct Shared {
    stream: LogStream,
    sink: Sink,
    meter: Arc<Meter>,
    excess: Excess,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    begun: Vec<u8>,
    over: bool,
}

impl Lines {
    pub(crate) fn new(stream: LogStream, sink: Sink, meter: Arc<Meter>, excess: Excess) -> Self {
        Self { shared: Arc::new(Shared { stream, sink, meter, excess, state: Mutex::default() }) }
    }

    fn take(&self, bytes: &[u8]) -> Result<(), Stopped> {
        let shared = &*self.shared;
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.over || !shared.meter.count_output(bytes.len()) {
            if shared.excess == Excess::Ends {
                return Err(Stopped(Fault::Output));
            }
            if !state.over {
                state.over = true;
                state.begun.clear();
                let max = shared.meter.limits().output_bytes_max;
                let text = format!("[more than {max} bytes of output; the rest is dropped]");
                (shared.sink)(LogStream::System, &text, false);
            }
            return Ok(());
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            state.begun.extend_from_slice(piece);
            shared.drain(&mut state.begun);
        }
        Ok(())
    }
}

impl Shared {
    /// Emits what is complete.
    fn drain(&self, begun: &mut Vec<u8>) {
        if begun.last() == Some(&b'\n') {
            begun.pop();
            if begun.last() == Some(&b'\r') {
                begun.pop();
            }
            while begun.len() > LINE_BYTES_MAX {
                self.emit_part(begun);
            }
            self.emit(begun, false);
            begun.clear();
        } else {
            while begun.len() > LINE_BYTES_MAX {
                self.emit_part(begun);
            }
        }
    }

    fn emit_part(&self, begun: &mut Vec<u8>) {
        // Not in the middle of a character, unless it is not UTF-8 anyway.
        let cut = (LINE_BYTES_MAX - 3..=LINE_BYTES_MAX)
            .rev()
            .find(|at| begun[*at] & 0xc0 != 0x80)
            .unwrap_or(LINE_BYTES_MAX);
        let rest = begun.split_off(cut);
        self.emit(begun, true);
        *begun = rest;
    }

    fn emit(&self, line: &[u8], partial: bool) {
        (self.sink)(self.stream, &printable(&String::from_utf8_lossy(line), usize::MAX), partial);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let begun = std::mem::take(&mut state.begun);
        if !begun.is_empty() {
            self.emit(&begun, false);
        }
    }
}

#[async_trait::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes).map_err(|stopped| StreamError::Trap(stopped.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for Lines {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(self.take(bytes).map(|()| bytes.len()).map_err(std::io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

/// The lines of a text, each made fit for a terminal; about so many bytes of it.
pub(crate) fn printable(text: &str, bytes_max: usize) -> String {
    let mut shown = String::new();
    for (at, line) in text.lines().enumerate() {
        if at > 0 {
            shown.push('\n');
        }
        let left = bytes_max.saturating_sub(shown.len());
        shown.push_str(&berth_model::text::printable(line, left));
        if left == 0 {
            break;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    /// Lines as they came, and whether each was cut.
    type Seen = Arc<Mutex<Vec<(String, bool)>>>;

    fn capture(excess: Excess, output_bytes_max: u64) -> (Lines, Seen) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink: Sink = {
            let seen = Arc::clone(&seen);
            Arc::new(move |_, line, partial| seen.lock().unwrap().push((line.to_owned(), partial)))
        };
        let meter = Arc::new(Meter::new(Limits { output_bytes_max, ..Limits::APP }));
        (Lines::new(LogStream::Stdout, sink, meter, excess), seen)
    }

    #[test]
    fn lines_are_put_together_from_pieces_and_the_last_needs_no_end() {
        let (lines, seen) = capture(Excess::Ends, 1000);
        for piece in ["one", " line\r\ntwo\n", "\nthree"] {
            lines.take(piece.as_bytes()).unwrap();
        }
        drop(lines);
        let seen: Vec<_> = seen.lock().unwrap().iter().map(|(line, _)| line.clone()).collect();
        assert_eq!(seen, ["one line", "two", "", "three"]);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let (lines, seen) = capture(Excess::Ends, 100_000);
        let text = "ä".repeat(LINE_BYTES_MAX);
        lines.take(text.as_bytes()).unwrap();
        lines.take(b"\n").unwrap();
        let seen = seen.lock().unwrap();
        assert_eq!(seen.iter().map(|(line, _)| line.as_str()).collect::<String>(), text);
        assert_eq!(seen.iter().map(|(_, partial)| *partial).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn control_characters_are_escaped() {
        let (lines, seen) = capture(Excess::Ends, 1000);
        lines.take(b"\x1b[2Jhidden\x07\n").unwrap();
        assert_eq!(seen.lock().unwrap()[0].0, "\\u{1b}[2Jhidden\\u{7}");
    }

    #[test]
    fn output_over_the_limit_ends_the_guest_or_is_dropped_with_a_word() {
        let (lines, _) = capture(Excess::Ends, 10);
        assert!(lines.take(b"0123456789").is_ok());
        assert!(lines.take(b"x").is_err());
        let (lines, seen) = capture(Excess::Dropped, 10);
        for _ in 0..3 {
            lines.take(b"0123456789\n").unwrap();
        }
        drop(lines);
        assert_eq!(seen.lock().unwrap().len(), 1);
        assert!(seen.lock().unwrap()[0].0.contains("more than 10 bytes"));
    }
}
