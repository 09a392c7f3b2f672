//! What the router keeps per app across tables: slots for requests, a budget for retries, and
//! counters. Nothing here decides where a request goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use berth_model::AppId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Config;
use crate::control::wire::{AppMetrics, LATENCY_BOUNDS_MS};
use crate::fault::Fault;

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

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    /// By the first digit of the status; the last is 499, log-only.
    statuses: [AtomicU64; 6],
    faults: AtomicU64,
    retries: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    latency: [AtomicU64; LATENCY_BOUNDS_MS.len() + 1],
    reported: AtomicU64,
}

/// One finished request, as it is counted.
pub(crate) struct Finished {
    pub(crate) status: u16,
    pub(crate) ours: bool,
    pub(crate) retries: u32,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) total_ms: u64,
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
        let counters = &self.counters;
        let add = |counter: &AtomicU64, n: u64| counter.fetch_add(n, Relaxed);
        add(&counters.requests, 1);
        let class = match request.status {
            499 => 5,
            status => usize::from(status / 100).clamp(1, 5) - 1,
        };
        add(&counters.statuses[class], 1);
        add(&counters.faults, u64::from(request.ours));
        add(&counters.retries, u64::from(request.retries));
        add(&counters.bytes_in, request.bytes_in);
        add(&counters.bytes_out, request.bytes_out);
        let bucket = LATENCY_BOUNDS_MS.partition_point(|bound| *bound < request.total_ms);
        add(&counters.latency[bucket], 1);
        if self.retry_budget.load(Relaxed) < BUDGET_MAX {
            self.retry_budget.fetch_add(BUDGET_PER_REQUEST, Relaxed);
        }
    }

    /// The counters, when there were requests since the last call.
    pub(crate) fn report_changes(&self) -> Option<AppMetrics> {
        let requests = self.counters.requests.load(Relaxed);
        (self.counters.reported.swap(requests, Relaxed) != requests).then(|| self.report())
    }

    /// The counters.
    pub(crate) fn report(&self) -> AppMetrics {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        let counters = &self.counters;
        AppMetrics {
            app: self.id,
            requests: read(&counters.requests),
            statuses: counters.statuses.each_ref().map(read),
            faults: read(&counters.faults),
            retries: read(&counters.retries),
            bytes_in: read(&counters.bytes_in),
            bytes_out: read(&counters.bytes_out),
            latency: counters.latency.iter().map(read).collect(),
        }
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
