//! Keeps a connection to the router, publishes tables, and hears what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use berth_deploy::Routing;
use berth_model::{AppId, InstanceId, RouteTable};
use berth_route::{RouteError, RouterClient, RouterEvent, RouterMetrics};
use berth_store::{Store, StoreError};
use tokio::sync::{Notify, mpsc};

use crate::middleware::{Chains, PrepareError};

/// How long a publication waits for a router that is away.
const AWAY_S_MAX: u64 = 5;
/// Drained instances that are remembered.
const DRAINED_MAX: usize = 4096;

/// A table could not be brought to the router.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The table could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The router does not take it.
    #[error(transparent)]
    Router(#[from] RouteError),
    /// The router is not there.
    #[error("the router does not answer")]
    Away,
}

/// The router. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    shared: Arc<Shared>,
}

struct Shared {
    socket: PathBuf,
    store: Store,
    state: Mutex<State>,
    connected: Notify,
    /// One publication at a time: tables reach the router in the order of their generations.
    publishing: tokio::sync::Mutex<()>,
    drained: mpsc::UnboundedSender<InstanceId>,
    /// No table goes out before it is known what stands before its apps.
    chains: OnceLock<Arc<Chains>>,
}

#[derive(Default)]
struct State {
    client: Option<RouterClient>,
    /// What the router acknowledged last; nothing before that.
    served: Option<BTreeMap<AppId, BTreeSet<InstanceId>>>,
    drained: BTreeSet<InstanceId>,
    /// After a connection was lost: what the router said still has requests. Whatever is neither
    /// here nor in the table is drained.
    still: Option<BTreeSet<InstanceId>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Router {
    /// A router that is looked for at `socket`; the second value gives instances that have no
    /// request in flight any more.
    pub fn new(socket: PathBuf, store: Store) -> (Self, mpsc::UnboundedReceiver<InstanceId>) {
        let (drained, heard) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            socket,
            store,
            state: Mutex::default(),
            connected: Notify::new(),
            publishing: tokio::sync::Mutex::default(),
            drained,
            chains: OnceLock::new(),
        });
        (Self { shared }, heard)
    }

    /// Says what stands before apps, once. Nothing is published before.
    pub fn protect(&self, chains: Arc<Chains>) {
        // Said twice, the first holds.
        let _ = self.shared.chains.set(chains);
    }

    /// Keeps the connection for as long as this process lives. A router that comes back gets the
    /// table anew.
    pub async fn keep_connected(self) {
        let mut pause = Duration::from_millis(20);
        loop {
            match RouterClient::connect(&self.shared.socket).await {
                Ok(client) => {
                    pause = Duration::from_millis(20);
                    self.converse(client).await;
                    tracing::warn!("the router closed its connection; connecting again");
                }
                Err(error) => tracing::debug!("no router yet: {error}"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    async fn converse(&self, client: RouterClient) {
        let mut events = client.events();
        let chains = self.shared.chains.get();
        let unknown = chains.map(|chains| chains.unknown(client.hello())).unwrap_or_default();
        {
            let mut state = self.shared.state();
            let draining: BTreeSet<InstanceId> =
                client.hello().draining.iter().map(|draining| draining.instance).collect();
            // Whether what left the table meanwhile has requests is known once the table is there.
            state.still = Some(draining);
            if let Some(chains) = chains {
                chains.connected(&client.hello().middleware);
            }
            state.client = Some(client);
        }
        self.shared.connected.notify_waiters();
        if let Err(error) = self.publish().await {
            tracing::warn!("the router did not take the table: {error}");
        }
        if let Some(chains) = chains {
            chains.learn(unknown).await;
        }
        while let Some(event) = events.next().await {
            match event {
                RouterEvent::Drained(instance) => {
                    self.note_drained(instance);
                }
                RouterEvent::Health { instance, ejected } => {
                    tracing::warn!(%instance, ejected, "the router judges an instance");
                }
                RouterEvent::Lagged => break,
                RouterEvent::Middleware(_)
                | RouterEvent::Lines { .. }
                | RouterEvent::Breaker { .. } => {
                    if let Some(chains) = chains {
                        chains.heard(event).await;
                    }
                }
            }
        }
        self.shared.state().client = None;
    }

    /// Publishes whenever other extensions are live, for as long as this process lives.
    pub async fn follow_extensions(self) {
        let Some(chains) = self.shared.chains.get() else { return };
        let mut changes = chains.changes();
        while changes.changed().await.is_ok() {
            // A router that is away gets it with its table.
            if let Err(error) = self.publish().await {
                tracing::warn!("the router did not take a change of extensions: {error}");
            }
        }
    }

    fn note_drained(&self, instance: InstanceId) {
        let mut state = self.shared.state();
        if state.drained.len() >= DRAINED_MAX {
            state.drained.pop_first();
        }
        state.drained.insert(instance);
        drop(state);
        // Only a process that ends does not listen.
        let _ = self.shared.drained.send(instance);
    }

    /// Brings the table as the rows have it now to the router, and returns when it serves it.
    ///
    /// # Errors
    /// The store's, the router's, and `Away` when there is none.
    pub async fn publish(&self) -> Result<(), PublishError> {
        // A router that is away is waited for by each by itself: nobody holds others up meanwhile.
        self.client().await?;
        let _one = self.shared.publishing.lock().await;
        let client = self.shared.state().client.clone().ok_or(PublishError::Away)?;
        let chains = self.shared.chains.get().ok_or(PublishError::Away)?;
        let mut table = self.shared.store.next_route_table().await?;
        chains.prepare(&client, &mut table).await.map_err(|error| match error {
            PrepareError::Store(error) => PublishError::Store(error),
            PrepareError::Router(error) => PublishError::Router(error),
        })?;
        client.publish(&table).await?;
        chains.served(&table);
        self.acknowledged(&table);
        Ok(())
    }

    async fn client(&self) -> Result<RouterClient, PublishError> {
        let wait = async {
            loop {
                let connected = self.shared.connected.notified();
                if let Some(client) = self.shared.state().client.clone() {
                    return client;
                }
                connected.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(AWAY_S_MAX), wait)
            .await
            .map_err(|_| PublishError::Away)
    }

    fn acknowledged(&self, table: &RouteTable) {
        let served: BTreeMap<AppId, BTreeSet<InstanceId>> = table
            .routes
            .iter()
            .map(|route| (route.app, route.targets.iter().map(|target| target.instance).collect()))
            .collect();
        let targets: BTreeSet<InstanceId> = served.values().flatten().copied().collect();
        let mut state = self.shared.state();
        if let (Some(still), Some(before)) = (state.still.take(), &state.served) {
            let left = before.values().flatten().copied();
            let ended: Vec<_> =
                left.filter(|id| !still.contains(id) && !targets.contains(id)).collect();
            for instance in &ended {
                // Only a process that ends does not listen.
                let _ = self.shared.drained.send(*instance);
            }
            state.drained.extend(ended);
        }
        state.drained.retain(|instance| !targets.contains(instance));
        state.served = Some(served);
    }

    /// What the router serves of an app.
    pub fn routing(&self, app: AppId) -> Routing {
        let state = self.shared.state();
        Routing {
            targets: state
                .served
                .as_ref()
                .map(|served| served.get(&app).cloned().unwrap_or_default()),
            drained: state.drained.clone(),
        }
    }

    /// What the router counted; nothing while it is away. Counters of another start are others.
    pub async fn metrics(&self) -> Option<(u64, RouterMetrics)> {
        let client = self.shared.state().client.clone()?;
        let metrics = client.metrics().await.ok()?;
        Some((client.hello().started_at_ms, metrics))
    }

    /// Whether the router is connected.
    pub fn is_connected(&self) -> bool {
        self.shared.state().client.is_some()
    }
}
