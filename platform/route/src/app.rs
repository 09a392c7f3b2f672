//! What the router keeps per app across tables: slots for requests, a budget for retries, and
//! counters. Nothing here decides where a request goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use berth_model::AppId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Config;
use crate::control::wire::AppMetrics;
use crate::fault::Fault;
use crate::measures::Counters;
pub(crate) use crate::measures::Finished;

/// A retry costs this much of the budget; each request gives `BUDGET_PER_REQUEST` back: a fifth.
const RETRY_COST: i64 = 10;
const BUDGET_PER_REQUEST: i64 = 2;
const BUDGET_MAX: i64 = 100 * RETRY_COST;

pub(crate) struct App {
    pub(crate) id: AppId,
    slots: Arc<Semaphore>,
    queued: AtomicUsize,
    queue_max: usize,
    queue_wait: Duration,
    retry_budget: AtomicI64,
    counters: Counters,
}

impl App {
    pub(crate) fn new(id: AppId, config: &Config) -> Self {
        Self {
            id,
            slots: Arc::new(Semaphore::new(config.limits.app_in_flight_max)),
            queued: AtomicUsize::new(0),
            queue_max: config.limits.app_queue_max,
            queue_wait: config.deadlines.queue,
            retry_budget: AtomicI64::new(BUDGET_MAX),
            counters: Counters::default(),
        }
    }

    /// Waits for a slot, as long as the queue has room and the wait is not too long.
    pub(crate) async fn slot(&self) -> Result<OwnedSemaphorePermit, Fault> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(slot);
        }
        let place = Place::take(&self.queued, self.queue_max).ok_or(Fault::Overload)?;
        let slot =
            tokio::time::timeout(self.queue_wait, Arc::clone(&self.slots).acquire_owned()).await;
        drop(place);
        match slot {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) | Err(_) => Err(Fault::Overload),
        }
    }

    /// Takes one retry from the budget.
    pub(crate) fn may_retry(&self) -> bool {
        let taken = self
            .retry_budget
            .fetch_update(Relaxed, Relaxed, |left| (left >= RETRY_COST).then(|| left - RETRY_COST));
        taken.is_ok()
    }

    pub(crate) fn count(&self, request: &Finished) {
        self.counters.count(request);
        if self.retry_budget.load(Relaxed) < BUDGET_MAX {
            self.retry_budget.fetch_add(BUDGET_PER_REQUEST, Relaxed);
        }
    }

    /// What was counted, when there were requests.
    pub(crate) fn sums(&self) -> Option<AppMetrics> {
        self.counters.sums(self.id)
    }
}

/// A place in a queue, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(queued: &'a AtomicUsize, max: usize) -> Option<Self> {
        queued
            .fetch_update(Relaxed, Relaxed, |n| (n < max).then_some(n + 1))
            .is_ok()
            .then_some(Self(queued))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
