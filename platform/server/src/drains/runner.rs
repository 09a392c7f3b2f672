//! One drain: reads, has processed, writes, and remembers how far it is.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_model::drain::SinkKind;
use berth_store::{Drain, DrainCounts, Store};
use tokio_util::sync::CancellationToken;

use super::follow::{Follow, Read};
use super::process::{Processors, Way};
use super::resolve::Judge;
use super::sink::{Sink, SinkError, Target};
use super::state::Shared;
use super::window::{Batch, Window};
use crate::clock::now_ms;
use crate::logs::Logs;

/// How often growing logs are looked at.
const PERIOD: Duration = Duration::from_millis(200);
/// New instances are looked for at least so often.
const LEARN_PERIOD: Duration = Duration::from_secs(5);
/// The first pause after a failure, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);

pub(super) struct Runner {
    drain: Drain,
    store: Store,
    processors: Arc<dyn Processors>,
    host: String,
    instances: Option<Ipv4Addr>,
    state: Shared,
    follow: Follow,
    window: Window,
    failures: u32,
    /// Nothing is written before.
    retry_at: Option<Instant>,
}

impl Runner {
    pub(super) fn new(
        drain: Drain,
        store: Store,
        logs: Logs,
        processors: Arc<dyn Processors>,
        (host, instances): (String, Option<Ipv4Addr>),
        state: Shared,
    ) -> Self {
        let follow = Follow::new(logs, store.clone());
        let window = Window::default();
        Self {
            drain,
            store,
            processors,
            host,
            instances,
            state,
            follow,
            window,
            failures: 0,
            retry_at: None,
        }
    }

    /// Until `end`, and then until the receiver has what is in memory, or does not want it.
    pub(super) async fn run(mut self, end: CancellationToken) {
        let Some(mut sink) = self.sink().await else { return };
        let mut events = self.store.watch_events();
        let mut learnt: Option<Instant> = None;
        while !end.is_cancelled() {
            let due = learnt.is_none_or(|at| at.elapsed() >= LEARN_PERIOD);
            if due || events.has_changed().unwrap_or(false) {
                events.mark_unchanged();
                match self.follow.learn(&self.drain).await {
                    Ok(()) => learnt = Some(Instant::now()),
                    Err(error) => tracing::warn!("drain {}: {error}", self.drain.id),
                }
            }
            if !self.step(&mut sink, &end).await {
                tokio::select! {
                    () = tokio::time::sleep(PERIOD) => {}
                    () = end.cancelled() => {}
                }
            }
        }
        self.finish(&mut sink).await;
    }

    async fn sink(&self) -> Option<Sink> {
        loop {
            match self.store.drain_url(self.drain.id).await {
                Ok(Some(url)) => {
                    let (ca, reach) = (self.drain.ca.clone(), self.drain.reach);
                    let judge = Judge { reach, instances: self.instances };
                    return Some(Sink::new(Target { url, ca, judge }));
                }
                Ok(None) => return None,
                Err(error) => self.state.failed(error.to_string(), now_ms()),
            }
            tokio::time::sleep(LEARN_PERIOD).await;
        }
    }

    /// Whether there was something to do.
    async fn step(&mut self, sink: &mut Sink, end: &CancellationToken) -> bool {
        let read = self.window.has_room() && self.take(sink.kind()).await;
        if let Some(error) = sink.broke() {
            self.failed(&error);
        }
        let written = tokio::select! {
            written = self.write(sink) => Some(written),
            () = end.cancelled() => None,
        };
        let Some(written) = written else {
            // A connection in the middle of a message is closed.
            self.window.broke();
            return false;
        };
        self.settle(sink).await;
        let (waiting, oldest) = self.window.waiting();
        self.state.waiting(waiting, oldest);
        read || written
    }

    /// Reads a batch into the window.
    async fn take(&mut self, kind: SinkKind) -> bool {
        let read = self.follow.read(self.drain.created_at_ms, now_ms()).await;
        if read.cursors.is_empty() {
            return false;
        }
        let Read { entries, cursors, lost } = read;
        let oldest_ns = entries.first().map(|entry| entry.at_ns);
        let way = Way {
            processors: &*self.processors,
            app: self.drain.app,
            chain: &self.drain.processors,
            kind,
            host: &self.host,
        };
        let made = way.messages(entries).await;
        if let Some(error) = made.error {
            self.state.failed(error, now_ms());
        }
        let counts = DrainCounts {
            sent: made.frames.len() as u64,
            dropped: made.dropped + lost,
            unprocessed: made.unprocessed,
        };
        self.window.push(Batch {
            frames: made.frames,
            cursors,
            counts,
            oldest_ns,
            ..Batch::default()
        });
        true
    }

    /// Writes the oldest batch that is to be written.
    async fn write(&mut self, sink: &mut Sink) -> bool {
        let now = Instant::now();
        if self.retry_at.is_some_and(|at| now < at) {
            return false;
        }
        let Some(batch) = self.window.unwritten() else { return false };
        let written =
            if batch.frames.is_empty() { Ok(()) } else { sink.write(&batch.frames).await };
        match written {
            Ok(()) => self.window.written(Instant::now()),
            Err(error) if error.is_refusal() => {
                self.state.failed(error.to_string(), now_ms());
                self.window.refused(Instant::now());
            }
            Err(error) => {
                self.failed(&error);
                return false;
            }
        }
        true
    }

    fn failed(&mut self, error: &SinkError) {
        self.window.broke();
        if self.failures == 0 {
            tracing::warn!("drain {}: {error}", self.drain.id);
        }
        self.state.failed(error.to_string(), now_ms());
        self.retry_at = Some(Instant::now() + pause(self.failures).max(error.retry_after()));
        self.failures = self.failures.saturating_add(1);
    }

    /// Remembers what the sink has taken.
    async fn settle(&mut self, sink: &Sink) {
        let Some((now, after)) = sink.settled(Instant::now()) else { return };
        self.remember(now, after).await;
    }

    async fn remember(&mut self, now: Instant, after: Duration) {
        let Some((cursors, counts)) = self.window.settled(now, after) else { return };
        if counts.sent > 0 {
            (self.failures, self.retry_at) = (0, None);
            if counts.dropped == 0 && counts.unprocessed == 0 {
                self.state.well();
            }
        }
        if let Err(error) = self.store.advance_drain(self.drain.id, &cursors, counts).await {
            // They are sent once more after a restart.
            tracing::warn!("drain {}: {error}", self.drain.id);
        }
    }

    async fn finish(&mut self, sink: &mut Sink) {
        // What an app wrote when it ended may not have been read.
        self.take(sink.kind()).await;
        self.retry_at = None;
        while self.window.unwritten().is_some() {
            if !self.write(sink).await {
                return;
            }
        }
        if sink.finish().await {
            self.remember(Instant::now(), Duration::ZERO).await;
        }
    }
}

/// Doubles from failure to failure, with jitter so that drains of one receiver do not come together.
fn pause(failures: u32) -> Duration {
    let longest = PAUSE.saturating_mul(1 << failures.min(10)).min(PAUSE_MAX);
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_minute_and_are_never_the_same_for_all() {
        for (failures, least, most) in [(0, 250, 500), (1, 500, 1000), (3, 2000, 4000)] {
            let pause = pause(failures).as_millis();
            assert!((least..=most).contains(&pause), "{failures}: {pause}");
        }
        assert!(pause(u32::MAX) >= PAUSE_MAX / 2 && pause(u32::MAX) <= PAUSE_MAX);
    }
}
