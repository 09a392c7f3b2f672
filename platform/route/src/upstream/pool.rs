//! Idle connections of one target or to the Wasm worker, last in first out, so that the ones that are not needed
//! grow old and are closed.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Connection, Link};
use crate::clock;
use crate::config::Config;

pub(crate) struct Pool {
    idle: Mutex<Vec<Idle>>,
    idle_ms_max: u64,
    size_max: usize,
}

struct Idle {
    link: Arc<Link>,
    connection: Connection,
    since_ms: u64,
    until_ms: u64,
}

impl Pool {
    pub(crate) fn of_target(config: &Config) -> Self {
        Self::new(config, config.limits.pool_idle_per_target_max)
    }

    pub(crate) fn of_worker(config: &Config) -> Self {
        Self::new(config, config.limits.pool_idle_worker_max)
    }

    fn new(config: &Config, size_max: usize) -> Self {
        let idle_ms_max = clock::ms(config.deadlines.pool_idle);
        Self { idle: Mutex::default(), idle_ms_max, size_max }
    }

    /// The connection that was used last, idle for `idle_ms_max` at most. Closed ones on the way
    /// are dropped; one whose driver has not come to rest yet is left for later.
    pub(super) fn take(&self, idle_ms_max: u64) -> Option<(Arc<Link>, Connection)> {
        let now_ms = clock::now_ms();
        let mut idle = self.lock();
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            let candidate = &idle[at];
            if candidate.connection.sender.is_closed() || candidate.until_ms <= now_ms {
                idle.remove(at);
            } else if now_ms.saturating_sub(candidate.since_ms) > idle_ms_max {
                return None;
            } else if candidate.connection.sender.is_ready() {
                let found = idle.remove(at);
                return Some((found.link, found.connection));
            }
        }
        None
    }

    pub(super) fn put(&self, link: Arc<Link>, connection: Connection, idle_s_hint: Option<u64>) {
        let now_ms = clock::now_ms();
        // A second before the app's own limit, so that the two never decide at the same moment.
        let hint_ms = idle_s_hint.map_or(u64::MAX, |s| s.saturating_mul(1000).saturating_sub(1000));
        let until_ms = now_ms + self.idle_ms_max.min(hint_ms);
        let mut idle = self.lock();
        if until_ms > now_ms && idle.len() < self.size_max {
            idle.push(Idle { link, connection, since_ms: now_ms, until_ms });
        }
    }

    /// Closes what is closed already or idle for too long.
    pub(crate) fn sweep(&self) {
        let now_ms = clock::now_ms();
        self.lock().retain(|idle| !idle.connection.sender.is_closed() && idle.until_ms > now_ms);
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
