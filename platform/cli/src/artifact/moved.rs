//! How far a transfer is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that were moved, and how many there are. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moved {
    /// Counts stand for nothing but themselves, so no order is needed.
    counts: Arc<(AtomicU64, AtomicU64)>,
}

impl Moved {
    pub(crate) fn expect(&self, bytes: u64) {
        self.counts.1.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.counts.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What people are shown; nothing before the first byte.
    pub(crate) fn told(&self) -> Option<String> {
        let [done, of] =
            [&self.counts.0, &self.counts.1].map(|count| count.load(Ordering::Relaxed));
        let mib = |bytes: u64| format!("{}.{}", bytes >> 20, ((bytes % (1 << 20)) * 10) >> 20);
        match (done, of) {
            (0, _) => None,
            (_, 0) => Some(format!("{} MiB", mib(done))),
            _ => Some(format!("{} of {} MiB", mib(done), mib(of))),
        }
    }
}
