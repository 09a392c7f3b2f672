//! How a drain does, for those who ask.

use std::sync::{Arc, Mutex, PoisonError};

/// How a drain does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrainState {
    /// What failed last, without credentials; nothing since lines arrived again.
    pub error: Option<String>,
    /// Unix milliseconds of that.
    pub error_at_ms: Option<i64>,
    /// Lines in memory that the sink has not taken.
    pub waiting: u64,
    /// Unix nanoseconds of the oldest of them.
    pub oldest_ns: Option<u64>,
}

/// A state that a drain writes and the API reads.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared(Arc<Mutex<DrainState>>);

impl Shared {
    pub(super) fn read(&self) -> DrainState {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn failed(&self, error: String, at_ms: i64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.error = Some(error);
        state.error_at_ms = Some(at_ms);
    }

    pub(super) fn well(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.error = None;
        state.error_at_ms = None;
    }

    pub(super) fn waiting(&self, lines: u64, oldest_ns: Option<u64>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting = lines;
        state.oldest_ns = oldest_ns;
    }
}
