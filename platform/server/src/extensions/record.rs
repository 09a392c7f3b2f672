//! What an extension did so far, and whether it may go on.

use std::collections::{BTreeMap, BTreeSet};

use berth_extensions::middleware::MiddlewareStats;
use berth_extensions::powers::{Measure, MeasureValue, Outcome, Usage};
use berth_model::extension::{Breaker, BreakerState};

/// Upper bounds of the histogram of durations, microseconds.
const BOUNDS_US: [u64; 10] =
    [10, 100, 1_000, 5_000, 10_000, 50_000, 100_000, 1_000_000, 10_000_000, 60_000_000];
/// Different refusals that are remembered, so that each is an event once.
const DENIED_MAX: usize = 100;
/// Names and combinations of labels of an extension's own measures.
const SERIES_MAX: usize = 1_000;
const NAMES_MAX: usize = 100;

/// The memory of one component's calls.
pub(super) struct Record {
    pub(super) breaker: Breaker,
    pub(super) health: Health,
    denied_before: BTreeSet<(&'static str, String)>,
    pub(super) series: BTreeMap<(String, Labels), Series>,
}

/// Names and values, sorted by name.
pub(super) type Labels = Vec<(String, String)>;

/// A measure of an extension's own.
#[derive(Clone, Copy)]
pub(super) struct Series {
    pub(super) value: f64,
    pub(super) counter: bool,
}

/// What an extension did since it is live.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// How it is treated.
    pub breaker: BreakerState,
    /// Why it is not called, where it could not be loaded.
    pub broken: Option<String>,
    /// How often it took the place of what was there before, since the platform started.
    pub loads: u64,
    /// Calls by how they ended: `ok`, `error`, `host`, or the limit that ended them.
    pub calls: BTreeMap<&'static str, u64>,
    /// Calls that were not made because it rests.
    pub refused: u64,
    /// Things that it asked for and may not have.
    pub denied: u64,
    /// Processor time, microseconds.
    pub cpu_us: u64,
    /// Time of all calls together, microseconds.
    pub wall_us: u64,
    /// Most linear memory of one call, bytes.
    pub memory_peak_bytes: u64,
    /// Calls that took at most so many microseconds, not cumulative; the last has no bound.
    pub durations: Vec<(Option<u64>, u64)>,
}

impl Default for Health {
    fn default() -> Self {
        let bounds = BOUNDS_US.into_iter().map(Some).chain([None]);
        Self {
            breaker: BreakerState::Healthy,
            broken: None,
            loads: 0,
            calls: BTreeMap::new(),
            refused: 0,
            denied: 0,
            cpu_us: 0,
            wall_us: 0,
            memory_peak_bytes: 0,
            durations: bounds.map(|bound| (bound, 0)).collect(),
        }
    }
}

impl Health {
    /// Calls that were made.
    pub fn count(&self) -> u64 {
        self.calls.values().sum()
    }

    /// The bound below which this share (0 to 1) of the calls lies, microseconds; nothing when
    /// there was none, or when it lies above the last bound.
    pub fn quantile_us(&self, share: f64) -> Option<u64> {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        self.durations.iter().find_map(|(bound, count)| {
            seen += count;
            (seen >= wanted && wanted > 0).then_some(*bound)
        })?
    }
}

impl Record {
    pub(super) fn new(breaker: Breaker, health: Health) -> Self {
        Self { breaker, health, denied_before: BTreeSet::new(), series: BTreeMap::new() }
    }

    /// Counts a call; gives the state that it led to, when it is another one.
    pub(super) fn took(
        &mut self,
        outcome: Outcome,
        usage: &Usage,
        now_ms: i64,
    ) -> Option<BreakerState> {
        let health = &mut self.health;
        *health.calls.entry(name(outcome)).or_default() += 1;
        health.cpu_us += usage.cpu_us;
        health.wall_us += usage.wall_us;
        health.memory_peak_bytes = health.memory_peak_bytes.max(usage.memory_peak_bytes);
        let bucket = health
            .durations
            .iter_mut()
            .find(|(bound, _)| bound.is_none_or(|bound| usage.wall_us <= bound));
        if let Some((_, count)) = bucket {
            *count += 1;
        }
        match outcome {
            Outcome::Fault(_) => self.breaker.fault(now_ms),
            Outcome::Ok | Outcome::Error | Outcome::Host => None,
        }
    }

    /// What the router says of a middleware, which counts for itself.
    pub(super) fn routed(&mut self, stats: &MiddlewareStats) {
        let health = &mut self.health;
        let ok = stats.calls.saturating_sub(stats.faults);
        health.calls = [("ok", ok), ("fault", stats.faults)].into();
        health.refused = stats.refused;
        health.denied = stats.denied;
        health.cpu_us = stats.cpu_us;
        health.wall_us = stats.wall_us;
        self.series = stats
            .measures
            .iter()
            .take(SERIES_MAX)
            .map(|measure| {
                let series = Series { value: measure.value, counter: measure.counter };
                ((measure.name.clone(), measure.labels.clone()), series)
            })
            .collect();
    }

    /// Counts what it may not have; true when it is the first time, and worth an event.
    pub(super) fn denied(&mut self, capability: &'static str, what: &str) -> bool {
        self.health.denied += 1;
        self.denied_before.len() < DENIED_MAX
            && self.denied_before.insert((capability, what.to_owned()))
    }

    /// A measure of its own; false when there are too many of them.
    pub(super) fn measure(&mut self, measure: Measure) -> bool {
        let known = self.series.keys().any(|(name, _)| *name == measure.name);
        let names = self.series.keys().map(|(name, _)| name).collect::<BTreeSet<_>>().len();
        let key = (measure.name, measure.labels);
        let new = !self.series.contains_key(&key);
        if new && (self.series.len() >= SERIES_MAX || (!known && names >= NAMES_MAX)) {
            return false;
        }
        let counter = matches!(measure.value, MeasureValue::Added(_));
        let series = self.series.entry(key).or_insert(Series { value: 0.0, counter });
        match measure.value {
            MeasureValue::Added(by) => series.value += by,
            MeasureValue::Set(to) => series.value = to,
        }
        true
    }
}

fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Error => "error",
        Outcome::Host => "host",
        Outcome::Fault(fault) => fault.code(),
    }
}
