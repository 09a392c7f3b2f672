//! Batches that were read and that the sink has not taken for certain. Pure: times are passed in.
//!
//! A stream has no receipts. What was written counts as taken when the receiver's machine has
//! acknowledged it and the connection has lived on for a while; when it breaks before that,
//! everything that is still here is sent again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use berth_store::{DrainCounts, DrainCursor};

/// Most bytes of messages.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most messages.
const MESSAGES_MAX: usize = 50_000;

/// Lines that were read together, with their messages.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// As they stand in the sink's stream.
    pub(super) frames: Vec<Vec<u8>>,
    /// Where each log is when they were taken.
    pub(super) cursors: Vec<DrainCursor>,
    /// What is added to the drain's counts then.
    pub(super) counts: DrainCounts,
    /// Unix nanoseconds of the oldest line.
    pub(super) oldest_ns: Option<u64>,
    pub(super) written_at: Option<Instant>,
}

impl Batch {
    fn bytes(&self) -> usize {
        // What a frame takes beside its bytes counts too.
        self.frames.iter().map(|frame| frame.len() + 32).sum()
    }
}

/// The batches, oldest first.
#[derive(Debug, Default)]
pub(super) struct Window {
    batches: VecDeque<Batch>,
    bytes: usize,
    messages: usize,
}

impl Window {
    /// Whether another batch may be read.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < BYTES_MAX && self.messages < MESSAGES_MAX
    }

    pub(super) fn push(&mut self, batch: Batch) {
        self.bytes += batch.bytes();
        self.messages += batch.frames.len();
        self.batches.push_back(batch);
    }

    /// The oldest batch that is to be written.
    pub(super) fn unwritten(&self) -> Option<&Batch> {
        self.batches.iter().find(|batch| batch.written_at.is_none())
    }

    /// That batch was written.
    pub(super) fn written(&mut self, at: Instant) {
        if let Some(batch) = self.batches.iter_mut().find(|batch| batch.written_at.is_none()) {
            batch.written_at = Some(at);
        }
    }

    /// The sink wants nothing of that batch.
    pub(super) fn refused(&mut self, at: Instant) {
        if let Some(batch) = self.batches.iter_mut().find(|batch| batch.written_at.is_none()) {
            batch.written_at = Some(at);
            batch.counts.dropped += batch.counts.sent;
            batch.counts.sent = 0;
        }
    }

    /// The connection broke: nothing that is here counts as written.
    pub(super) fn broke(&mut self) {
        self.batches.iter_mut().for_each(|batch| batch.written_at = None);
    }

    /// Takes out the batches that were written `settle` ago, and gives their positions and counts.
    pub(super) fn settled(
        &mut self,
        now: Instant,
        settle: Duration,
    ) -> Option<(Vec<DrainCursor>, DrainCounts)> {
        let mut taken: Option<(Vec<DrainCursor>, DrainCounts)> = None;
        while let Some(batch) = self.batches.front() {
            let settled = batch.written_at.is_some_and(|at| now.duration_since(at) >= settle);
            if !settled {
                break;
            }
            let Some(batch) = self.batches.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(batch.bytes());
            self.messages = self.messages.saturating_sub(batch.frames.len());
            let (cursors, counts) = taken.get_or_insert_default();
            cursors.extend(batch.cursors);
            counts.sent += batch.counts.sent;
            counts.dropped += batch.counts.dropped;
            counts.unprocessed += batch.counts.unprocessed;
        }
        taken
    }

    /// Messages that are here, and the time of the oldest line.
    pub(super) fn waiting(&self) -> (u64, Option<u64>) {
        let oldest = self.batches.iter().filter_map(|batch| batch.oldest_ns).min();
        (self.messages as u64, oldest)
    }
}

#[cfg(test)]
mod tests {
    use berth_model::InstanceId;

    use super::*;

    const SETTLE: Duration = Duration::from_secs(1);

    fn batch(seq: u64) -> Batch {
        Batch {
            frames: vec![format!("{seq}").into_bytes()],
            cursors: vec![DrainCursor { instance: InstanceId::new(1, [1; 10]), seq, done: false }],
            counts: DrainCounts { sent: 1, ..DrainCounts::default() },
            oldest_ns: Some(seq),
            written_at: None,
        }
    }

    #[test]
    fn what_was_written_counts_as_taken_only_after_a_while() {
        let (mut window, start) = (Window::default(), Instant::now());
        window.push(batch(1));
        window.push(batch(2));
        window.written(start);
        assert_eq!(window.settled(start, SETTLE), None);
        assert_eq!(window.waiting(), (2, Some(1)));
        let (cursors, counts) = window.settled(start + SETTLE, SETTLE).unwrap();
        assert_eq!((cursors[0].seq, cursors.len(), counts.sent), (1, 1, 1));
        assert_eq!(window.settled(start + 9 * SETTLE, SETTLE), None, "the second was not written");
    }

    #[test]
    fn everything_that_did_not_settle_is_written_again_when_the_connection_breaks() {
        let (mut window, start) = (Window::default(), Instant::now());
        (1..=3).for_each(|seq| window.push(batch(seq)));
        window.written(start);
        window.written(start + SETTLE);
        assert!(window.settled(start + SETTLE, SETTLE).is_some());
        window.broke();
        assert_eq!(window.unwritten().unwrap().frames, [b"2"]);
        assert_eq!(window.settled(start + 9 * SETTLE, SETTLE), None);
    }

    #[test]
    fn what_the_sink_refused_is_counted_as_dropped() {
        let (mut window, start) = (Window::default(), Instant::now());
        window.push(batch(1));
        window.refused(start);
        let (_, counts) = window.settled(start, Duration::ZERO).unwrap();
        assert_eq!((counts.sent, counts.dropped), (0, 1));
        assert_eq!(window.waiting(), (0, None));
    }

    #[test]
    fn it_is_bounded_in_bytes_and_in_messages() {
        let mut window = Window::default();
        window.push(Batch { frames: vec![vec![0; BYTES_MAX]], ..Batch::default() });
        assert!(!window.has_room());
        let mut window = Window::default();
        window.push(Batch { frames: vec![Vec::new(); MESSAGES_MAX], ..Batch::default() });
        assert!(!window.has_room());
        window.written(Instant::now());
        window.settled(Instant::now(), Duration::ZERO).unwrap();
        assert!(window.has_room());
    }
}
