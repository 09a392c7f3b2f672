//! Time for deadlines and counters: milliseconds since the process first asked, never going back.
//! Small enough for an atomic, so that two tasks can share a deadline without a lock. Wall time
//! is used only where people or other processes read it.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static START: OnceLock<Instant> = OnceLock::new();

fn start() -> Instant {
    *START.get_or_init(Instant::now)
}

/// Milliseconds since the first call. Monotonic.
pub(crate) fn now_ms() -> u64 {
    start().elapsed().as_millis() as u64
}

/// The instant of a time of [`now_ms`].
pub(crate) fn instant(at_ms: u64) -> tokio::time::Instant {
    (start() + Duration::from_millis(at_ms)).into()
}

/// Unix milliseconds, of the wall clock.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// A duration in whole milliseconds.
pub(crate) fn ms(duration: Duration) -> u64 {
    duration.as_millis().min(u128::from(u64::MAX / 4)) as u64
}
