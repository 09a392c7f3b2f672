//! What all instances of one loaded middleware share, and what it shares with its next version.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use async_trait::async_trait;
use berth_model::Digest;
use berth_model::extension::{Breaker, BreakerRules, BreakerState, ExtensionId};

use super::counters::Counters;
use super::measures::{Measure, Measures};
use super::{MiddlewareConfig, MiddlewareSink, MiddlewareStats, unix_ms};
use crate::powers::{
    Allowed, Count, HttpRequest, HttpResponse, Level, Measure as Measured, PowerError, PowerHost,
    SecretValue, Session,
};

/// What outlives a version of an extension.
#[derive(Default)]
pub(super) struct Kept {
    counters: Counters,
    measures: Measures,
}

/// Its present and former versions, as long as one of them is loaded.
#[derive(Default)]
pub(super) struct Registry(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    kept: HashMap<ExtensionId, Weak<Kept>>,
    gates: HashMap<(ExtensionId, Digest), Weak<Gate>>,
}

impl Registry {
    /// What an extension keeps, and the breaker of this version of it.
    pub(super) fn of(&self, config: &MiddlewareConfig) -> (Arc<Kept>, Arc<Gate>) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.kept.retain(|_, kept| kept.strong_count() > 0);
        inner.gates.retain(|_, gate| gate.strong_count() > 0);
        let kept = inner.kept.get(&config.extension).and_then(Weak::upgrade).unwrap_or_default();
        inner.kept.insert(config.extension.clone(), Arc::downgrade(&kept));
        let key = (config.extension.clone(), config.component);
        let gate = inner
            .gates
            .get(&key)
            .and_then(Weak::upgrade)
            .unwrap_or_else(|| Arc::new(Gate::new(config.rules, config.quarantined)));
        inner.gates.insert(key, Arc::downgrade(&gate));
        (kept, gate)
    }

    /// Versions of extensions that are called no longer until somebody says so.
    pub(super) fn quarantined(&self) -> Vec<(ExtensionId, Digest)> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_quarantined = |gate: &Weak<Gate>| gate.upgrade().is_some_and(|g| g.is_closed());
        inner
            .gates
            .iter()
            .filter(|(_, gate)| is_quarantined(gate))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Lets an extension be called again; false when none of this version is loaded.
    pub(super) fn resume(&self, extension: &ExtensionId, component: Digest) -> bool {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = inner.gates.get(&(extension.clone(), component)).and_then(Weak::upgrade);
        gate.as_ref().map(|gate| gate.resume()).is_some()
    }
}

/// The breaker of one version of an extension, cheap to ask.
pub(super) struct Gate {
    breaker: Mutex<Breaker>,
    /// It is not called before; 0 while it is healthy, the end of time in quarantine.
    until_ms: AtomicI64,
}

impl Gate {
    fn new(rules: BreakerRules, quarantined: bool) -> Self {
        let breaker = if quarantined { Breaker::quarantined(rules) } else { Breaker::new(rules) };
        Self {
            breaker: Mutex::new(breaker),
            until_ms: AtomicI64::new(if quarantined { i64::MAX } else { 0 }),
        }
    }

    fn allows(&self) -> bool {
        match self.until_ms.load(Relaxed) {
            0 => true,
            until_ms => unix_ms() >= until_ms,
        }
    }

    /// Until somebody says otherwise.
    fn is_closed(&self) -> bool {
        self.until_ms.load(Relaxed) == i64::MAX
    }

    fn fault(&self) -> Option<BreakerState> {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let state = breaker.fault(unix_ms())?;
        let until_ms = match state {
            BreakerState::Healthy => 0,
            BreakerState::Degraded { until_ms } => until_ms,
            BreakerState::Quarantined => i64::MAX,
        };
        self.until_ms.store(until_ms, Relaxed);
        Some(state)
    }

    fn resume(&self) {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner).resume();
        self.until_ms.store(0, Relaxed);
    }
}

/// One loaded middleware, without its instances.
pub(super) struct Shared {
    pub(super) config: MiddlewareConfig,
    allowed: Arc<Allowed>,
    document: Arc<serde_json::Value>,
    kept: Arc<Kept>,
    gate: Arc<Gate>,
    sink: Arc<dyn MiddlewareSink>,
    started: Instant,
    calls: AtomicU64,
    replies: AtomicU64,
    faults: AtomicU64,
    refused: AtomicU64,
    denied: AtomicU64,
    cpu_ns: AtomicU64,
    wall_ns: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        config: MiddlewareConfig,
        (kept, gate): (Arc<Kept>, Arc<Gate>),
        sink: Arc<dyn MiddlewareSink>,
        started: Instant,
    ) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            allowed: Arc::new(config.allowed.clone()),
            document: Arc::new(config.config.clone()),
            config,
            kept,
            gate,
            sink,
            started,
            calls: zero(),
            replies: zero(),
            faults: zero(),
            refused: zero(),
            denied: zero(),
            cpu_ns: zero(),
            wall_ns: zero(),
        }
    }

    /// Longest body that it may see, bytes.
    pub(super) fn body_bytes_max(&self) -> Option<u64> {
        let of = |set: &berth_model::extension::Capabilities| Some(set.body.as_ref()?.bytes.0);
        Some(of(&self.allowed.asked)?.min(of(&self.allowed.granted)?))
    }

    /// What the calls of a new instance run with.
    pub(super) fn session(self: &Arc<Self>) -> Session {
        Session {
            extension: self.config.extension.clone(),
            allowed: Arc::clone(&self.allowed),
            config: Arc::clone(&self.document),
            host: Arc::clone(self) as Arc<dyn PowerHost>,
            limits: self.config.limits,
        }
    }

    pub(super) fn measures(&self) -> Vec<Measure> {
        self.kept.measures.all()
    }

    pub(super) fn line(&self, level: &str, text: &str) {
        self.sink.line(&self.config.extension, level, text);
    }

    pub(super) fn allows(&self) -> bool {
        let allows = self.gate.allows();
        if !allows {
            self.note_refused();
        }
        allows
    }

    /// A call that was not made.
    pub(super) fn note_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(super) fn note_reply(&self) {
        self.replies.fetch_add(1, Relaxed);
    }

    pub(super) fn note_call(&self, cpu_ns: u64, wall_ns: u64) {
        self.calls.fetch_add(1, Relaxed);
        self.cpu_ns.fetch_add(cpu_ns, Relaxed);
        self.wall_ns.fetch_add(wall_ns, Relaxed);
    }

    /// The guest was ended, or answered what cannot be.
    pub(super) fn note_fault(&self, message: &str) {
        self.faults.fetch_add(1, Relaxed);
        self.line("error", message);
        if let Some(state) = self.gate.fault() {
            self.sink.state(&self.config.extension, self.config.component, state);
        }
    }

    pub(super) fn stats(&self, instances: usize) -> MiddlewareStats {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        MiddlewareStats {
            load: self.config.load,
            extension: self.config.extension.clone(),
            component: self.config.component,
            calls: read(&self.calls),
            replies: read(&self.replies),
            faults: read(&self.faults),
            refused: read(&self.refused),
            denied: read(&self.denied),
            cpu_us: read(&self.cpu_ns) / 1_000,
            wall_us: read(&self.wall_ns) / 1_000,
            instances: u32::try_from(instances).unwrap_or(u32::MAX),
            measures: self.measures(),
        }
    }
}

/// What the router can do for a guest. None of it waits.
#[async_trait]
impl PowerHost for Shared {
    fn log(&self, level: Level, text: &str) {
        self.line(level.as_str(), text);
    }

    fn denied(&self, capability: &'static str, what: &str) {
        self.denied.fetch_add(1, Relaxed);
        self.line("warning", &format!("denied: {capability}: {what}"));
    }

    fn now_ms(&self) -> u64 {
        unix_ms().unsigned_abs()
    }

    async fn kv_get(&self, _: &str) -> Result<Option<Vec<u8>>, PowerError> {
        Err(not_here())
    }

    async fn kv_put(
        &self,
        _: &str,
        _: Vec<u8>,
        _: Option<u64>,
        _: bool,
    ) -> Result<bool, PowerError> {
        Err(not_here())
    }

    async fn kv_remove(&self, _: &str) -> Result<bool, PowerError> {
        Err(not_here())
    }

    async fn kv_keys(&self, _: &str, _: u32) -> Result<Vec<String>, PowerError> {
        Err(not_here())
    }

    async fn secret(&self, name: &str) -> Result<Option<SecretValue>, PowerError> {
        let found = self.config.secrets.0.iter().find(|(known, _)| known == name);
        Ok(found.map(|(_, value)| SecretValue(value.clone())))
    }

    async fn http(&self, _: HttpRequest) -> Result<HttpResponse, PowerError> {
        Err(not_here())
    }

    async fn counter_add(
        &self,
        key: &str,
        amount: u64,
        window_ms: u64,
    ) -> Result<Count, PowerError> {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (value, resets_in_ms) = self.kept.counters.add(key, amount, window_ms, now_ms);
        Ok(Count { value, resets_in_ms })
    }

    async fn emit(&self, _: &str, _: serde_json::Value) -> Result<(), PowerError> {
        Err(not_here())
    }

    fn measure(&self, measure: Measured) -> Result<(), PowerError> {
        let noted = self.kept.measures.note(measure);
        noted.map_err(|reason| PowerError::failure("too-many", reason, false))
    }
}

/// Manifests of middlewares cannot name these.
fn not_here() -> PowerError {
    PowerError::failure("unavailable", "a middleware cannot use this in the router", false)
}
