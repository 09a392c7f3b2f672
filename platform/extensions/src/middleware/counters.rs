//! The host power `counters`: counts in windows of fixed length, shared by all instances of one
//! extension, in the memory of the router.
//!
//! They outlive a reload of the extension and end with the router. The number of keys is bounded:
//! the oldest go first, whoever makes many of them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Keys at once.
const KEYS_MAX: usize = 100_000;
/// The counts of one extension.
pub(super) struct Counters {
    keys_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    counts: HashMap<Arc<str>, Count>,
    /// Keys by the begin of their first window.
    order: VecDeque<Arc<str>>,
}

struct Count {
    value: u64,
    ends_ms: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self { keys_max: KEYS_MAX, state: Mutex::default() }
    }
}

impl Counters {
    /// Adds to the count of a key at a moment of a clock that never goes back. Gives the count
    /// with the amount, and the time until it begins at 0 again.
    pub(super) fn add(&self, key: &str, amount: u64, window_ms: u64, now_ms: u64) -> (u64, u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = state.counts.get_mut(key) {
            if count.ends_ms <= now_ms {
                *count = Count { value: 0, ends_ms: now_ms + window_ms };
            }
            count.value = count.value.saturating_add(amount);
            return (count.value, count.ends_ms - now_ms);
        }
        while state.counts.len() >= self.keys_max {
            let Some(oldest) = state.order.pop_front() else { break };
            state.counts.remove(&oldest);
        }
        let key: Arc<str> = key.into();
        state.order.push_back(Arc::clone(&key));
        state.counts.insert(key, Count { value: amount, ends_ms: now_ms + window_ms });
        (amount, window_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_begins_again_with_its_window() {
        let counters = Counters::default();
        assert_eq!(counters.add("a", 1, 1_000, 5), (1, 1_000));
        assert_eq!(counters.add("a", 2, 1_000, 505), (3, 500));
        assert_eq!(counters.add("b", 1, 1_000, 505), (1, 1_000));
        assert_eq!(counters.add("a", 1, 1_000, 1_005), (1, 1_000));
    }

    #[test]
    fn the_number_of_keys_is_bounded_and_the_oldest_go_first() {
        let counters = Counters { keys_max: 3, state: Mutex::default() };
        for key in ["a", "b", "c", "d"] {
            counters.add(key, 1, 1_000, 0);
        }
        assert_eq!(counters.add("d", 1, 1_000, 0).0, 2);
        assert_eq!(counters.add("a", 1, 1_000, 0).0, 1, "it was forgotten");
        let state = counters.state.lock().unwrap();
        assert_eq!((state.counts.len(), state.order.len()), (3, 3));
    }

    #[test]
    fn a_count_does_not_wrap() {
        let counters = Counters::default();
        counters.add("a", u64::MAX, 1_000, 0);
        assert_eq!(counters.add("a", 5, 1_000, 0).0, u64::MAX);
    }
}
