//! An extension that can be called.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_extensions::addon::Addon;
use berth_extensions::console::Console;
use berth_extensions::hook::Hook;
use berth_extensions::log_processor::LogProcessor;
use berth_extensions::middleware::MiddlewareStats;
use berth_extensions::policy::Policy;
use berth_extensions::powers::{Allowed, Measure, Outcome, PowerHost, Session, Usage};
use berth_extensions::{Code, Extensions, Limits};
use berth_model::extension::{Breaker, BreakerRules, BreakerState, Kind};
use berth_store::{Extension, ExtensionState};
use serde_json::Value;

use super::ExtensionError;
use super::record::{Health, Labels, Record, Series};

/// What is called.
pub(crate) enum Callable {
    Hook(Hook),
    Policy(Policy),
    Addon(Addon),
    LogProcessor(LogProcessor),
    Console(Console),
    /// It is called elsewhere: a middleware in the router.
    Elsewhere,
    /// It could not be loaded; every call fails, so that what fails closed stays closed.
    Broken(String),
}

/// An extension with everything that a call needs.
pub(crate) struct Live {
    pub(crate) row: Extension,
    pub(crate) callable: Arc<Callable>,
    /// Nothing of what could not be loaded.
    pub(crate) code: Option<Arc<Code>>,
    pub(crate) allowed: Arc<Allowed>,
    /// With the defaults of the schema.
    pub(crate) config: Arc<Value>,
    pub(crate) limits: Limits,
    /// Of this component; another configuration does not make it forget.
    record: Arc<Mutex<Record>>,
    /// How often one of this name was swapped in before.
    loads: u64,
}

impl Live {
    /// Links the component with what it may use. `before` is the one that it takes the place of.
    pub(super) fn new(
        engine: &Extensions,
        rules: BreakerRules,
        row: Extension,
        code: Arc<Code>,
        before: Option<&Self>,
    ) -> Result<Self, ExtensionError> {
        let manifest = &row.version.manifest;
        let allowed = allowed(&row);
        let callable = match manifest.kind {
            Kind::Hook => Callable::Hook(engine.hook(&code, &allowed)?),
            Kind::Policy => Callable::Policy(engine.policy(&code, &allowed)?),
            Kind::LogProcessor => Callable::LogProcessor(engine.log_processor(&code, &allowed)?),
            Kind::Addon => Callable::Addon(engine.addon(&code, &allowed)?),
            Kind::Middleware => Callable::Elsewhere,
            Kind::Console => Callable::Console(engine.console(&code, &allowed)?),
        };
        let config = with_defaults(&manifest.config_schema, &row.config);
        let limits = Limits::asked(manifest.kind, &manifest.limits);
        Ok(Self {
            callable: Arc::new(callable),
            code: Some(code),
            allowed: Arc::new(allowed),
            config: Arc::new(config),
            limits,
            record: record(rules, &row, before),
            loads: loads(before),
            row,
        })
    }

    /// What stands for an extension that could not be loaded.
    pub(super) fn broken(
        rules: BreakerRules,
        row: Extension,
        reason: String,
        before: Option<&Self>,
    ) -> Self {
        Self {
            callable: Arc::new(Callable::Broken(reason)),
            code: None,
            allowed: Arc::new(allowed(&row)),
            config: Arc::new(row.config.clone()),
            limits: Limits::of_kind(row.version.manifest.kind),
            record: record(rules, &row, before),
            loads: loads(before),
            row,
        }
    }

    /// The same component in another state: nothing is compiled or linked for it.
    pub(super) fn in_state(&self, rules: BreakerRules, row: Extension) -> Self {
        Self {
            callable: Arc::clone(&self.callable),
            code: self.code.clone(),
            allowed: Arc::clone(&self.allowed),
            config: Arc::clone(&self.config),
            limits: self.limits,
            record: record(rules, &row, Some(self)),
            loads: self.loads,
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

    pub(super) fn forget_faults(&self) {
        self.record().breaker.resume();
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
        self.record().took(outcome, usage, now_ms)
    }

    /// What the router says of a middleware, which counts for itself.
    pub(super) fn routed(&self, stats: &MiddlewareStats) {
        self.record().routed(stats);
    }

    /// Counts what it may not have; true when it is the first time, and worth an event.
    pub(super) fn denied(&self, capability: &'static str, what: &str) -> bool {
        self.record().denied(capability, what)
    }

    /// A measure of its own; false when there are too many of them.
    pub(super) fn measure(&self, measure: Measure) -> bool {
        self.record().measure(measure)
    }

    pub(super) fn health(&self, now_ms: i64) -> Health {
        let record = self.record();
        let breaker = match self.row.state {
            ExtensionState::Quarantined => BreakerState::Quarantined,
            _ => record.breaker.state(now_ms),
        };
        let broken = match &*self.callable {
            Callable::Broken(reason) => Some(reason.clone()),
            _ => None,
        };
        Health { breaker, broken, loads: self.loads, ..record.health.clone() }
    }

    /// Its own measures.
    pub(super) fn series(&self) -> Vec<((String, Labels), Series)> {
        self.record().series.iter().map(|(key, series)| (key.clone(), *series)).collect()
    }
}

fn allowed(row: &Extension) -> Allowed {
    Allowed { asked: row.version.manifest.capabilities.clone(), granted: row.grant.granted.clone() }
}

fn loads(before: Option<&Live>) -> u64 {
    before.map_or(1, |old| old.loads + 1)
}

/// The record goes on with the component, so that neither a configuration nor a reload hides what
/// it did; its faults are forgotten with another state.
fn record(rules: BreakerRules, row: &Extension, before: Option<&Live>) -> Arc<Mutex<Record>> {
    let same = before.filter(|old| old.row.version.component == row.version.component);
    match same {
        Some(old) if old.row.state == row.state => Arc::clone(&old.record),
        old => {
            let breaker = match row.state {
                ExtensionState::Quarantined => Breaker::quarantined(rules),
                _ => Breaker::new(rules),
            };
            let health = old.map(|old| old.record().health.clone()).unwrap_or_default();
            Arc::new(Mutex::new(Record::new(breaker, health)))
        }
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
