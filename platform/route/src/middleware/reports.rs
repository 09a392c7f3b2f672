//! What middlewares say, on its way to the control process.
//!
//! Lines are gathered for a moment and sent together; while nobody listens, the newest are kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use berth_extensions::middleware::MiddlewareSink;
use berth_model::Digest;
use berth_model::extension::{BreakerState, ExtensionId};
use tokio::sync::{Notify, broadcast};

use crate::clock;
use crate::control::wire::{MiddlewareLine, Up};

/// Lines that wait; the oldest are dropped and counted.
const LINES_MAX: usize = 1_000;
/// How long lines are gathered.
const GATHER: Duration = Duration::from_millis(100);

pub(super) struct Reports {
    events: broadcast::Sender<Up>,
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<MiddlewareLine>,
    dropped: u64,
}

impl Reports {
    pub(super) fn new(events: broadcast::Sender<Up>) -> Self {
        Self { events, queue: Mutex::default(), changed: Notify::new() }
    }

    /// Sends lines for as long as the router is there.
    pub(super) fn start(reports: &Arc<Self>) {
        let reports = Arc::downgrade(reports);
        tokio::spawn(send(reports));
    }

    /// Somebody listens now.
    pub(super) fn heard(&self) {
        self.changed.notify_one();
    }

    fn flush(&self) {
        if self.events.receiver_count() == 0 {
            return;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.lines.is_empty() {
            return;
        }
        let lines = queue.lines.drain(..).collect();
        // Whoever stopped listening just now misses them.
        let _ = self.events.send(Up::Lines { lines, dropped: queue.dropped });
    }
}

async fn send(reports: Weak<Reports>) {
    while let Some(reports) = reports.upgrade() {
        reports.changed.notified().await;
        tokio::time::sleep(GATHER).await;
        reports.flush();
    }
}

impl MiddlewareSink for Reports {
    fn line(&self, extension: &ExtensionId, level: &str, text: &str) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.lines.len() >= LINES_MAX {
            queue.lines.pop_front();
            queue.dropped += 1;
        }
        queue.lines.push_back(MiddlewareLine {
            extension: extension.clone(),
            at_ms: clock::unix_ms(),
            level: level.to_owned(),
            text: text.to_owned(),
        });
        drop(queue);
        self.changed.notify_one();
    }

    fn state(&self, extension: &ExtensionId, component: Digest, state: BreakerState) {
        tracing::warn!(%extension, ?state, "a middleware failed too often");
        // Nobody may be listening; the next hello says what is quarantined.
        let _ = self.events.send(Up::Breaker { extension: extension.clone(), component, state });
    }
}
