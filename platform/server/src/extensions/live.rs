//! An extension that can be called, and what it did so far.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_extensions::addon::Addon;
use berth_extensions::console::Console;
use berth_extensions::hook::Hook;
use berth_extensions::log_processor::LogProcessor;
use berth_extensions::middleware::MiddlewareStats;
use berth_extensions::policy::Policy;
use berth_extensions::powers::{
    Allowed, Measure, MeasureValue, Outcome, PowerHost, Session, Usage,
};
use berth_extensions::{Code, Limits};
use berth_model::extension::{Breaker, BreakerState, Kind};
use berth_store::{Extension, ExtensionState};
use serde_json::Value;

use super::{ExtensionError, Registry};

/// Upper bounds of the histogram of durations, microseconds.
const BOUNDS_US: [u64; 10] =
    [10, 100, 1_000, 5_000, 10_000, 50_000, 100_000, 1_000_000, 10_000_000, 60_000_000];
/// Different refusals that are remembered, so that each is an event once.
const DENIED_MAX: usize = 100;
/// Names and combinations of labels of an extension's own measures.
const SERIES_MAX: usize = 1_000;
const NAMES_MAX: usize = 100;

/// What is called.
pub(crate) enum Callable {
    Hook(Hook),
    Policy(Policy),
    Addon(Addon),
    Console(Console),
    LogProcessor(LogProcessor),
    /// It is called elsewhere: a middleware in the router.
    Elsewhere,
    /// It could not be loaded; every call fails, so that what fails closed stays closed.
    Broken(String),
}

/// An extension with everything that a call needs.
pub(crate) struct Live {
    pub(crate) row: Extension,
    pub(crate) callable: Callable,
    /// Nothing of what could not be loaded.
    pub(crate) code: Option<Code>,
    pub(crate) allowed: Arc<Allowed>,
    /// With the defaults of the schema.
    pub(crate) config: Arc<Value>,
    pub(crate) limits: Limits,
    /// Of this component; another configuration does not make it forget.
    record: Arc<Mutex<Record>>,
}

struct Record {
    breaker: Breaker,
    health: Health,
    denied_before: BTreeSet<(&'static str, String)>,
    series: BTreeMap<(String, Labels), Series>,
}

type Labels = Vec<(String, String)>;

#[derive(Clone, Copy)]
struct Series {
    value: f64,
    counter: bool,
}

/// What an extension did since it is live.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// How it is treated.
    pub breaker: BreakerState,
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

fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Error => "error",
        Outcome::Host => "host",
        Outcome::Fault(fault) => fault.code(),
    }
}

impl Live {
    /// Links the component with what it may use. `before` is the one that it takes the place of.
    pub(super) fn new(
        registry: &Registry,
        row: Extension,
        code: Code,
        before: Option<&Self>,
    ) -> Result<Self, ExtensionError> {
        let manifest = &row.version.manifest;
        let allowed =
            Allowed { asked: manifest.capabilities.clone(), granted: row.grant.granted.clone() };
        let engine = &registry.inner.engine;
        let callable = match manifest.kind {
            Kind::Hook => Callable::Hook(engine.hook(&code, &allowed)?),
            Kind::Policy => Callable::Policy(engine.policy(&code, &allowed)?),
            Kind::Console => Callable::Console(engine.console(&code, &allowed)?),
            Kind::LogProcessor => Callable::LogProcessor(engine.log_processor(&code, &allowed)?),
            Kind::Addon => Callable::Addon(engine.addon(&code, &allowed)?),
            Kind::Middleware => Callable::Elsewhere,
        };
        let rules = registry.inner.config.breaker;
        let same = before.filter(|old| {
            old.row.version.component == row.version.component && old.row.state == row.state
        });
        let record = match same {
            Some(old) => Arc::clone(&old.record),
            None => Arc::new(Mutex::new(Record {
                breaker: match row.state {
                    ExtensionState::Quarantined => Breaker::quarantined(rules),
                    _ => Breaker::new(rules),
                },
                health: before
                    .filter(|old| old.row.version.component == row.version.component)
                    .map(|old| old.record().health.clone())
                    .unwrap_or_default(),
                denied_before: BTreeSet::new(),
                series: BTreeMap::new(),
            })),
        };
        let config = with_defaults(&manifest.config_schema, &row.config);
        let limits = Limits::asked(manifest.kind, &manifest.limits);
        Ok(Self {
            callable,
            code: Some(code),
            allowed: Arc::new(allowed),
            config: Arc::new(config),
            limits,
            record,
            row,
        })
    }

    /// What stands for an extension that could not be loaded.
    pub(super) fn broken(registry: &Registry, row: Extension, reason: String) -> Self {
        let manifest = &row.version.manifest;
        let allowed =
            Allowed { asked: manifest.capabilities.clone(), granted: row.grant.granted.clone() };
        Self {
            callable: Callable::Broken(reason),
            code: None,
            allowed: Arc::new(allowed),
            config: Arc::new(row.config.clone()),
            limits: Limits::of_kind(manifest.kind),
            record: Arc::new(Mutex::new(Record {
                breaker: Breaker::new(registry.inner.config.breaker),
                health: Health::default(),
                denied_before: BTreeSet::new(),
                series: BTreeMap::new(),
            })),
            row,
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn session(&self, host: impl PowerHost) -> Session {
        Session {
            extension: self.row.id.clone(),
            allowed: Arc::clone(&self.allowed),
            config: Arc::clone(&self.config),
            host: Arc::new(host),
            limits: self.limits,
        }
    }

    pub(super) fn may_be_called(&self, now_ms: i64) -> bool {
        self.row.state == ExtensionState::Active && self.record().breaker.allows(now_ms)
    }

    /// When it may be called again, as far as its faults go; nothing when it may now, or when
    /// only a person can say so.
    pub(crate) fn rests_until_ms(&self, now_ms: i64) -> Option<i64> {
        match self.record().breaker.state(now_ms) {
            BreakerState::Degraded { until_ms } => Some(until_ms),
            BreakerState::Healthy | BreakerState::Quarantined => None,
        }
    }

    pub(super) fn refused(&self) {
        self.record().health.refused += 1;
    }

    /// Counts a call; gives the state that it led to, when it is another one.
    pub(super) fn took(
        &self,
        outcome: Outcome,
        usage: &Usage,
        now_ms: i64,
    ) -> Option<BreakerState> {
        let mut record = self.record();
        let health = &mut record.health;
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
            Outcome::Fault(_) => record.breaker.fault(now_ms),
            Outcome::Ok | Outcome::Error | Outcome::Host => None,
        }
    }

    /// What the router says of a middleware, which counts for itself.
    pub(super) fn routed(&self, stats: &MiddlewareStats) {
        let mut record = self.record();
        let health = &mut record.health;
        let ok = stats.calls.saturating_sub(stats.faults);
        health.calls = [("ok", ok), ("fault", stats.faults)].into();
        health.refused = stats.refused;
        health.denied = stats.denied;
        health.cpu_us = stats.cpu_us;
        health.wall_us = stats.wall_us;
        record.series = stats
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
    pub(super) fn denied(&self, capability: &'static str, what: &str) -> bool {
        let mut record = self.record();
        record.health.denied += 1;
        record.denied_before.len() < DENIED_MAX
            && record.denied_before.insert((capability, what.to_owned()))
    }

    /// A measure of its own; false when there are too many of them.
    pub(super) fn measure(&self, measure: Measure) -> bool {
        let mut record = self.record();
        let known = record.series.keys().any(|(name, _)| *name == measure.name);
        let names = record.series.keys().map(|(name, _)| name).collect::<BTreeSet<_>>().len();
        let key = (measure.name, measure.labels);
        let new = !record.series.contains_key(&key);
        if new && (record.series.len() >= SERIES_MAX || (!known && names >= NAMES_MAX)) {
            return false;
        }
        let counter = matches!(measure.value, MeasureValue::Added(_));
        let series = record.series.entry(key).or_insert(Series { value: 0.0, counter });
        match measure.value {
            MeasureValue::Added(by) => series.value += by,
            MeasureValue::Set(to) => series.value = to,
        }
        true
    }

    pub(super) fn health(&self, now_ms: i64) -> Health {
        let record = self.record();
        let breaker = match self.row.state {
            ExtensionState::Quarantined => BreakerState::Quarantined,
            _ => record.breaker.state(now_ms),
        };
        Health { breaker, ..record.health.clone() }
    }
}

/// The configuration with what the schema says of properties that are not set.
pub(super) fn with_defaults(schema: &Value, config: &Value) -> Value {
    let mut config = config.clone();
    if let (Some(properties), Some(object)) =
        (schema.get("properties").and_then(Value::as_object), config.as_object_mut())
    {
        for (name, property) in properties {
            if let Some(default) = property.get("default") {
                object.entry(name).or_insert_with(|| default.clone());
            }
        }
    }
    config
}

/// The text form of Prometheus.
pub(super) fn prometheus<'a>(all: impl Iterator<Item = &'a Live>, now_ms: i64) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let mut own = String::new();
    let mut lines = BTreeMap::<&str, (&str, String)>::new();
    for live in all {
        let health = live.health(now_ms);
        let id = live.row.id.as_str();
        let mut add = |name: &'static str, kind: &'static str, labels: &str, value: f64| {
            let (_, lines) = lines.entry(name).or_insert_with(|| (kind, String::new()));
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "{name}{{extension=\"{id}\"{labels}}} {value}");
        };
        for (outcome, count) in &health.calls {
            let labels = format!(",outcome=\"{outcome}\"");
            add("berth_extension_calls_total", "counter", &labels, *count as f64);
        }
        add("berth_extension_refused_total", "counter", "", health.refused as f64);
        add("berth_extension_denied_total", "counter", "", health.denied as f64);
        let seconds = health.cpu_us as f64 / 1e6;
        add("berth_extension_cpu_seconds_total", "counter", "", seconds);
        let peak = health.memory_peak_bytes as f64;
        add("berth_extension_memory_peak_bytes", "gauge", "", peak);
        let state = match health.breaker {
            BreakerState::Healthy => 0.0,
            BreakerState::Degraded { .. } => 1.0,
            BreakerState::Quarantined => 2.0,
        };
        add("berth_extension_breaker_state", "gauge", "", state);
        let name = "berth_extension_duration_seconds";
        let (_, histogram) = lines.entry(name).or_insert_with(|| ("histogram", String::new()));
        let mut below = 0;
        for (bound, count) in &health.durations {
            below += count;
            let bound =
                bound.map_or_else(|| "+Inf".to_owned(), |bound| (bound as f64 / 1e6).to_string());
            let _ =
                writeln!(histogram, "{name}_bucket{{extension=\"{id}\",le=\"{bound}\"}} {below}");
        }
        let sum = health.wall_us as f64 / 1e6;
        let _ = writeln!(histogram, "{name}_sum{{extension=\"{id}\"}} {sum}");
        let _ = writeln!(histogram, "{name}_count{{extension=\"{id}\"}} {below}");
        for ((name, labels), series) in &live.record().series {
            let labels: String =
                labels.iter().map(|(key, value)| format!(",{key}={value:?}")).collect();
            let end = if series.counter { "_total" } else { "" };
            let value = series.value;
            let _ = writeln!(
                own,
                "berth_extension_own_{name}{end}{{extension=\"{id}\"{labels}}} {value}"
            );
        }
    }
    for (name, (kind, lines)) in lines {
        let _ = write!(text, "# TYPE {name} {kind}\n{lines}");
    }
    text + &own
}
