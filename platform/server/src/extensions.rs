//! The extensions of the platform: which are installed, how they are called, and what became of it.
//!
//! Takes components and the operator's decisions, gives extensions that can be called. What is
//! installed is in the store; what is here is the compiled and linked form of it, which is swapped
//! as a whole: a call under way ends on the version that it began with. Nothing that an operator
//! needs to recover (disabling, removing, rolling back) ever waits for an extension.

mod addons;
mod error;
mod folder;
pub(crate) mod hooks;
mod install;
mod journal;
mod judge;
mod live;
mod operate;
pub(crate) mod page_view;
mod pages;
mod powers;
pub(crate) mod prometheus;
mod record;
mod routed;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use berth_extensions::outbound::Outbound;
use berth_extensions::powers::{CallError, Called, Session, Usage};
use berth_extensions::{Code, EngineError, EngineKind, Extensions};
use berth_model::extension::{BreakerRules, BreakerState, DeliveryRules, ExtensionId, Kind};
use berth_model::{AppId, Digest};
use berth_store::{By, Extension, ExtensionState, Store, StoreError};
use serde::Deserialize;
use tokio::sync::watch;

use crate::clock::now_ms;
use crate::compiler::Compiler;

pub use error::ExtensionError;
pub use folder::FolderRules;
pub use install::{Choice, Review};
pub use judge::Denial;
pub(crate) use live::{Callable, Live};
pub use pages::PanelOf;
pub use record::Health;

/// Section `extensions` of the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExtensionsConfig {
    /// Components in this folder are installed and reloaded as they change; none where it is not
    /// set.
    pub folder: Option<PathBuf>,
    /// How it is watched.
    pub reload: FolderRules,
    /// When an extension that fails is called no longer.
    pub breaker: BreakerRules,
    /// When an event that a hook did not take is offered again.
    pub delivery: DeliveryRules,
}

/// The extensions. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    compiler: Compiler,
    engine: Extensions,
    outbound: Arc<Outbound>,
    config: ExtensionsConfig,
    live: RwLock<BTreeMap<ExtensionId, Arc<Live>>>,
    /// Counts changes of what is live.
    changes: watch::Sender<u64>,
    /// Installations come one after the other.
    installing: tokio::sync::Mutex<()>,
    journal: journal::Journal,
}

/// A call was not made, or did not give a value.
#[derive(Debug, thiserror::Error)]
pub enum NotCalled {
    /// It failed too often and rests, or is quarantined.
    #[error("the extension {0} failed too often and is not called now; see `berth ext show {0}`")]
    Resting(ExtensionId),
    /// It was called.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Registry {
    /// The registry of a platform, empty until [`Registry::load`].
    ///
    /// # Errors
    /// When this machine cannot run the engine.
    pub fn new(
        store: Store,
        compiler: Compiler,
        outbound: Arc<Outbound>,
        config: ExtensionsConfig,
    ) -> Result<Self, EngineError> {
        let journal = journal::Journal::start(store.clone());
        let inner = Inner {
            store,
            compiler,
            engine: Extensions::new()?,
            outbound,
            config,
            live: RwLock::default(),
            changes: watch::Sender::new(0),
            installing: tokio::sync::Mutex::default(),
            journal,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Brings what is installed to life. An extension that cannot be is told of in its log, and its
    /// kind's failure rule holds.
    ///
    /// # Errors
    /// What the database says.
    pub async fn load(&self) -> Result<(), StoreError> {
        for row in self.inner.store.extensions().await? {
            if row.state == ExtensionState::Waiting {
                continue;
            }
            let id = row.id.clone();
            let linked = match self.code(row.version.component).await {
                Ok(code) => self.link(row.clone(), code),
                Err(error) => Err(error),
            };
            let live = linked.unwrap_or_else(|error| {
                tracing::error!(extension = %id, "not loaded: {error}");
                self.inner.journal.line(&id, "error", &format!("not loaded: {error}"));
                let before = self.live(&id);
                Live::broken(self.inner.config.breaker, row, error.to_string(), before.as_deref())
            });
            self.swap(Arc::new(live));
        }
        Ok(())
    }

    /// The compiled form of a component that was kept. It may take as long as a compilation, so
    /// nothing that an operator needs to recover waits for it.
    async fn code(&self, component: Digest) -> Result<Arc<Code>, ExtensionError> {
        let code = self.inner.compiler.code(EngineKind::Extensions, component).await?;
        Ok(Arc::new(code))
    }

    /// Links what a row says. The one before it serves until it is swapped in.
    fn link(&self, row: Extension, code: Arc<Code>) -> Result<Live, ExtensionError> {
        let before = self.live(&row.id);
        Live::new(&self.inner.engine, self.inner.config.breaker, row, code, before.as_deref())
    }

    fn swap(&self, live: Arc<Live>) {
        let mut all = self.inner.live.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(live.row.id.clone(), live);
        drop(all);
        self.changed();
    }

    fn changed(&self) {
        self.inner.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Changes whenever another set of extensions is live.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// One extension, whether it is called or not.
    pub(crate) fn live(&self, id: &ExtensionId) -> Option<Arc<Live>> {
        self.inner.live.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// The extensions of a kind that an operator granted and did not switch off, by name.
    pub(crate) fn of_kind(&self, kind: Kind) -> Vec<Arc<Live>> {
        let live = self.inner.live.read().unwrap_or_else(PoisonError::into_inner);
        live.values()
            .filter(|one| {
                let called = match one.row.state {
                    ExtensionState::Active | ExtensionState::Quarantined => true,
                    ExtensionState::Disabled | ExtensionState::Waiting => false,
                };
                called && one.row.version.manifest.kind == kind
            })
            .cloned()
            .collect()
    }

    /// Whether plans have to be judged at all.
    pub(crate) fn has_policies(&self) -> bool {
        !self.of_kind(Kind::Policy).is_empty()
    }

    /// What an extension did since it is live; nothing when it is not.
    pub fn health(&self, id: &ExtensionId) -> Option<Health> {
        self.live(id).map(|live| live.health(now_ms()))
    }

    /// Calls an extension for an app or none, counts what came of it, and lets it rest when it
    /// fails too often. With [`CallError::Host`] the platform failed, which is none of its faults.
    pub(crate) async fn call<T>(
        &self,
        live: &Arc<Live>,
        app: Option<AppId>,
        call: impl AsyncFnOnce(&Callable, Session) -> Called<T>,
    ) -> Result<T, NotCalled> {
        if !live.may_be_called(now_ms()) {
            live.refused();
            return Err(NotCalled::Resting(live.row.id.clone()));
        }
        let session = live.session(powers::Powers::of(self, live, app));
        let called = match &*live.callable {
            Callable::Broken(reason) => Called {
                result: Err(CallError::Host(format!("the extension is not loaded: {reason}"))),
                usage: Usage::default(),
            },
            callable => call(callable, session).await,
        };
        let outcome = called.outcome();
        tracing::debug!(
            ext.id = %live.row.id,
            ext.version = live.row.version.manifest.version,
            ext.digest = %live.row.version.component.short(),
            ext.kind = %live.row.version.manifest.kind,
            ?outcome,
            cpu_us = called.usage.cpu_us,
            wall_us = called.usage.wall_us,
            memory_peak_bytes = called.usage.memory_peak_bytes,
            host_calls = called.usage.host_calls,
            "called an extension"
        );
        if let Some(state) = live.took(outcome, &called.usage, now_ms()) {
            self.broke(live, state).await;
        }
        if let Err(error) = &called.result {
            self.inner.journal.line(&live.row.id, "error", &error.to_string());
        }
        Ok(called.result?)
    }

    /// Tells that an extension is called no longer for a while, or until somebody says so.
    async fn broke(&self, live: &Arc<Live>, state: BreakerState) {
        let id = &live.row.id;
        let kind = match state {
            BreakerState::Healthy => return,
            BreakerState::Degraded { until_ms } => {
                let rest_ms = until_ms - now_ms();
                let text = format!("failed too often; it is not called for {rest_ms} ms");
                self.inner.journal.line(id, "error", &text);
                "extension.degraded"
            }
            BreakerState::Quarantined => {
                let text = "failed too often; it is not called until `berth ext resume`";
                self.inner.journal.line(id, "error", text);
                "extension.quarantined"
            }
        };
        tracing::warn!(extension = %id, kind, "an extension failed too often");
        let by = By::system(now_ms());
        let told = self
            .inner
            .store
            .extension_event(kind, id, serde_json::json!({ "breaker": state }), &by)
            .await;
        if let Err(error) = told {
            tracing::error!(extension = %id, "a state was not written: {error}");
        }
        if state == BreakerState::Quarantined
            && let Err(error) = self.quarantine(live, by).await
        {
            tracing::error!(extension = %id, "a quarantine was not written: {error}");
        }
    }

    /// Everything that extensions measure, in the text form of Prometheus (version 0.0.4).
    pub fn prometheus(&self) -> String {
        let all: Vec<Arc<Live>> = {
            let live = self.inner.live.read().unwrap_or_else(PoisonError::into_inner);
            live.values().cloned().collect()
        };
        let mut families = prometheus::Families::default();
        for live in all {
            families.extension(&live, now_ms());
        }
        families.text()
    }
}
