//! What whoever pushes gets to read, line by line.
//!
//! [`PushOutput`] takes text from anywhere, never blocks and never fails; [`PushLines`] gives the
//! lines to whoever carries them to the client. Between them lies a bounded queue: a client that
//! reads slower than the build writes loses lines and is told how many.
//! Control characters never pass: a build must not move the cursor of somebody's terminal.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Bytes that wait for a slow client.
const QUEUE_BYTES_MAX: usize = 1 << 20;
/// Longer lines are cut.
const LINE_BYTES_MAX: usize = 4096;

/// Where lines go. Cheap to clone; clones write to the same client.
#[derive(Clone, Debug)]
pub struct PushOutput {
    queue: Arc<Queue>,
}

/// Where lines come from.
#[derive(Debug)]
pub struct PushLines {
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<String>,
    bytes: usize,
    lost: u64,
    closed: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        // A line is pushed or popped whole: a panic elsewhere leaves a usable queue.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PushOutput {
    /// An output and its other end.
    pub fn new() -> (Self, PushLines) {
        let queue = Arc::new(Queue::default());
        (Self { queue: Arc::clone(&queue) }, PushLines { queue })
    }

    /// `-----> text`: a step begins.
    pub fn heading(&self, text: &str) {
        self.put("-----> ", "       ", text);
    }

    /// `       text`: what a step says.
    pub fn body(&self, text: &str) {
        self.put("       ", "       ", text);
    }

    /// ` !     text`: something is wrong.
    pub fn error(&self, text: &str) {
        self.put(" !     ", " !     ", text);
    }

    /// `=====> text`: the push reached its goal.
    pub fn goal(&self, text: &str) {
        self.put("=====> ", "       ", text);
    }

    /// A line that has its mark already.
    pub fn marked(&self, line: &str) {
        self.put("", "       ", line);
    }

    /// No line is taken from here on; those that wait are still delivered.
    pub fn close(&self) {
        self.queue.state().closed = true;
        self.queue.changed.notify_one();
    }

    fn put(&self, first: &str, next: &str, text: &str) {
        let mut state = self.queue.state();
        for (at, line) in text.lines().enumerate() {
            if state.closed {
                return;
            }
            let line = format!("{}{}", if at == 0 { first } else { next }, printable(line));
            if state.bytes + line.len() > QUEUE_BYTES_MAX {
                state.lost += 1;
                continue;
            }
            state.bytes += line.len();
            state.lines.push_back(line);
        }
        drop(state);
        self.queue.changed.notify_one();
    }
}

impl PushLines {
    /// The next line, without an end of line; `None` after the output was closed.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            let changed = self.queue.changed.notified();
            {
                let mut state = self.queue.state();
                if let Some(line) = state.lines.pop_front() {
                    state.bytes -= line.len();
                    return Some(line);
                }
                if state.lost > 0 {
                    let lost = std::mem::take(&mut state.lost);
                    return Some(format!("       ... {lost} lines not shown: they came too fast"));
                }
                if state.closed {
                    return None;
                }
            }
            changed.await;
        }
    }
}

impl Drop for PushLines {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.closed = true;
        state.lines.clear();
        state.bytes = 0;
    }
}

/// One line of text that is safe on a terminal: of a line that a carriage return overwrites, the
/// last version; other control characters and those that reorder text as escapes.
pub(crate) fn printable(line: &str) -> String {
    let shown = line.trim_end_matches('\r');
    let shown = shown.rsplit('\r').next().unwrap_or_default();
    let mut text = String::with_capacity(shown.len());
    for c in shown.chars() {
        if text.len() >= LINE_BYTES_MAX {
            text.push('…');
            break;
        }
        match c {
            '\t' => text.push(c),
            c if c.is_control() || reorders(c) => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
    text
}

/// Characters that change the direction of the text after them (Unicode UAX #9).
fn reorders(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_have_their_marks_and_end_with_the_output() {
        let (output, mut lines) = PushOutput::new();
        output.heading("Building hello\nagain");
        output.body("one");
        output.error("wrong\nvery wrong");
        output.goal("Application deployed:");
        output.close();
        output.body("too late");
        let mut all = Vec::new();
        while let Some(line) = lines.next().await {
            all.push(line);
        }
        assert_eq!(
            all,
            [
                "-----> Building hello",
                "       again",
                "       one",
                " !     wrong",
                " !     very wrong",
                "=====> Application deployed:"
            ]
        );
    }

    #[test]
    fn control_characters_are_escaped_and_overwritten_text_is_dropped() {
        assert_eq!(printable("a\u{1b}[2Jb\u{7}"), "a\\u{1b}[2Jb\\u{7}");
        assert_eq!(printable("10%\r20%\r100%\r"), "100%");
        assert_eq!(printable("\tä\u{9b}1m\u{202e}"), "\tä\\u{9b}1m\\u{202e}");
    }

    #[tokio::test]
    async fn a_slow_reader_loses_lines_and_is_told_so() {
        let (output, mut lines) = PushOutput::new();
        let line = "x".repeat(1000);
        for _ in 0..2000 {
            output.body(&line);
        }
        output.close();
        let mut all = Vec::new();
        while let Some(line) = lines.next().await {
            all.push(line);
        }
        assert!(all.len() < 1100, "{}", all.len());
        assert!(all.last().is_some_and(|l| l.contains("lines not shown")), "{:?}", all.last());
    }
}
