//! The middlewares of the platform on their way to the router.
//!
//! Takes the live extensions of the kind, gives each route its chain and what the router must have
//! before it. A version that the router cannot use leaves the one before it in its place; where
//! there is none, what fails closed stays closed. The name of a load covers all that it is made of,
//! so another configuration or secret is another load.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_extensions::middleware::{MiddlewareConfig, Secrets};
use berth_model::extension::{BreakerState, ExtensionId, Kind};
use berth_model::{Digest, RouteMiddleware, RouteTable};
use berth_route::{RouteError, RouterClient, RouterEvent, RouterHello};
use berth_store::{Extension, ExtensionState, Store, StoreError};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::extensions::{Live, Registry};

/// Gives routes their chains.
pub struct Chains {
    registry: Registry,
    store: Store,
    key: [u8; 32],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the router has, as far as is known.
    loaded: BTreeSet<Digest>,
    /// The last load of each extension that the router could use.
    usable: BTreeMap<ExtensionId, RouteMiddleware>,
    /// Loads that it cannot use, so that each is told of once.
    refused: BTreeSet<Digest>,
    /// What the router or the platform calls no longer.
    quarantined: BTreeSet<(ExtensionId, Digest)>,
}

/// A middleware that a table names.
struct Wanted {
    live: Arc<Live>,
    config: MiddlewareConfig,
    named: RouteMiddleware,
}

impl Chains {
    /// Chains of what the registry holds. The key is of no other use: names of loads say nothing
    /// about the secrets in them to whoever has not got it.
    pub fn new(registry: Registry, store: Store, key: [u8; 32]) -> Self {
        Self { registry, store, key, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A router was connected, and has these.
    pub(crate) fn connected(&self, loaded: &[Digest]) {
        let mut state = self.state();
        state.loaded = loaded.iter().copied().collect();
        state.refused.clear();
    }

    /// Takes over that a router quarantined these while nobody listened. One that was known and is
    /// active all the same is none of them: it was resumed, and the router hears that with its table.
    pub(crate) async fn learn(&self, unknown: Vec<(ExtensionId, Digest)>) {
        for (extension, component) in unknown {
            self.broken(extension, component, BreakerState::Quarantined).await;
        }
    }

    /// Components that a router calls no longer, as it says when it is connected, and that is news.
    pub(crate) fn unknown(&self, hello: &RouterHello) -> Vec<(ExtensionId, Digest)> {
        let state = self.state();
        let known = |key: &&(ExtensionId, Digest)| !state.quarantined.contains(*key);
        hello.quarantined.iter().filter(known).cloned().collect()
    }

    /// What the router says of middlewares.
    pub(crate) async fn heard(&self, event: RouterEvent) {
        match event {
            RouterEvent::Lines { lines, .. } => self.registry.routed_lines(&lines),
            RouterEvent::Middleware(stats) => self.registry.routed_stats(&stats),
            RouterEvent::Breaker { extension, component, state } => {
                self.broken(extension, component, state).await;
            }
            _ => {}
        }
    }

    async fn broken(&self, extension: ExtensionId, component: Digest, state: BreakerState) {
        if self.registry.routed_breaker(&extension, component, state).await {
            // Only now that the platform knows it: it is resumed when that forgets it.
            self.state().quarantined.insert((extension, component));
        }
    }

    /// Ends when another set of extensions is live.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.registry.watch()
    }

    /// Completes a table, and brings to the router what it names.
    ///
    /// # Errors
    /// The store's, and a connection that ended.
    pub(crate) async fn prepare(
        &self,
        client: &RouterClient,
        table: &mut RouteTable,
    ) -> Result<(), PrepareError> {
        let mut named = Vec::new();
        for live in self.registry.of_kind(Kind::Middleware) {
            let row = live.row.clone();
            let wanted = self.wanted(live).await?;
            named.push((self.bring(client, wanted).await?, row));
        }
        for route in &mut table.routes {
            let mine = named.iter().filter(|(_, row)| row.is_for(route.app));
            route.middleware = mine.map(|(named, _)| named.clone()).collect();
        }
        Ok(())
    }

    /// The router serves this table: what it does not name, it has forgotten.
    pub(crate) fn served(&self, table: &RouteTable) {
        let named: BTreeSet<Digest> =
            table.routes.iter().flat_map(|route| &route.middleware).map(|one| one.load).collect();
        let mut state = self.state();
        state.loaded.retain(|load| named.contains(load));
        state.refused.retain(|load| named.contains(load));
    }

    /// Brings a middleware to the router, where it has not got it; gives the load to name.
    async fn bring(
        &self,
        client: &RouterClient,
        wanted: Wanted,
    ) -> Result<RouteMiddleware, PrepareError> {
        let Wanted { live, config, named } = wanted;
        self.resume(client, &live.row).await?;
        let id = named.extension.clone();
        let (load, loaded, refused) = {
            let state = self.state();
            let load = named.load;
            (load, state.loaded.contains(&load), state.refused.contains(&load))
        };
        if !loaded && !refused {
            let result = match &live.code {
                Some(code) => client.load(config, code.as_fd()).await,
                // Said when it could not be compiled.
                None => Err(RouteError::NotLoaded("there is no code of it".to_owned())),
            };
            match result {
                Ok(()) => {
                    self.state().loaded.insert(load);
                }
                Err(RouteError::NotLoaded(reason)) => {
                    self.state().refused.insert(load);
                    let text = format!("the router cannot use it: {reason}");
                    self.registry.note(&id, "error", &text);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut state = self.state();
        if state.loaded.contains(&load) {
            state.usable.insert(id, named.clone());
            return Ok(named);
        }
        let before = state.usable.get(&id).filter(|usable| state.loaded.contains(&usable.load));
        Ok(before.cloned().unwrap_or(named))
    }

    /// Tells the router when an operator wants a version called again.
    async fn resume(&self, client: &RouterClient, row: &Extension) -> Result<(), RouteError> {
        let key = (row.id.clone(), row.version.component);
        let again = {
            let mut state = self.state();
            match row.state {
                ExtensionState::Quarantined => {
                    state.quarantined.insert(key.clone());
                    false
                }
                ExtensionState::Active | ExtensionState::Disabled | ExtensionState::Waiting => {
                    state.quarantined.remove(&key)
                }
            }
        };
        if again {
            client.resume(key.0, key.1).await?;
        }
        Ok(())
    }

    async fn wanted(&self, live: Arc<Live>) -> Result<Wanted, StoreError> {
        let row = &live.row;
        let mut secrets = Vec::new();
        let asked = &live.allowed.asked;
        for secret in asked.secrets.iter().chain(&asked.secrets_read) {
            let name = &secret.name;
            let known = secrets.iter().any(|(known, _)| known == name);
            if known || !live.allowed.granted.may_use_secret(name) {
                continue;
            }
            if let Some(value) = self.store.extension_secret(&row.id, name).await? {
                secrets.push((name.clone(), value.into_bytes()));
            }
        }
        let mut config = MiddlewareConfig {
            load: row.version.component,
            extension: row.id.clone(),
            component: row.version.component,
            allowed: (*live.allowed).clone(),
            config: (*live.config).clone(),
            secrets: Secrets(secrets),
            limits: live.limits,
            rules: self.registry.breaker_rules(),
            quarantined: false,
        };
        config.load = self.name(&config);
        config.quarantined = row.state == ExtensionState::Quarantined;
        let named = RouteMiddleware {
            load: config.load,
            extension: row.id.clone(),
            on_failure: row.version.manifest.on_failure,
        };
        Ok(Wanted { live, config, named })
    }

    /// Names everything that a load is made of.
    fn name(&self, config: &MiddlewareConfig) -> Digest {
        // All of it is text and numbers, so this cannot fail.
        let text = serde_json::to_vec(config).unwrap_or_default();
        // The key has a fixed place and is uniform: a plain hash suffices.
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update(&text);
        Digest::from_sha256(hash.finalize().into())
    }
}

/// A table could not be completed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Router(#[from] RouteError),
}
