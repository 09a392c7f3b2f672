//! What whoever pushes gets to read, line by line.
//!
//! [`PushOutput`] takes text from anywhere, never blocks and never fails; [`PushLines`] gives the
//! lines to whoever carries them to the client. Between them lies a bounded queue: a client that
//! reads slower than the build writes loses lines and is told how many.
//! Control characters never pass: a build must not move the cursor of somebody's terminal.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_model::text::printable;
use tokio::sync::Notify;

/// Bytes that wait for a slow client.
const QUEUE_BYTES_MAX: usize = 1 << 20;
/// Longer lines are cut.
pub(crate) const LINE_BYTES_MAX: usize = 4096;

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
            let line = format!(
                "{}{}",
                if at == 0 { first } else { next },
                printable(line, LINE_BYTES_MAX)
            );
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
