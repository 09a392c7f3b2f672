//! Garbage: whatever no row names any more, on a period. Nothing that runs or is being made is
//! touched: blobs have a grace, the agent keeps what its containers use.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use berth_blobs::BlobStore;
use berth_container::{Agent, AgentError, FailureCode, Live, Reply, Request};
use berth_model::{App, AppId, Digest};
use berth_push::Repositories;
use berth_store::{By, Store};

use crate::clock::now_ms;
use crate::git::{Lock, Locks};
use crate::pipeline::Running;

/// How often.
const PERIOD: Duration = Duration::from_secs(600);
/// Younger blobs are never removed: a build may just be making them.
const GRACE: Duration = Duration::from_secs(3600);

/// How often a destroyed app is looked at, and how many times.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS_MAX: u32 = 1200;

/// What is looked after.
pub(crate) struct Collector {
    pub(crate) store: Store,
    pub(crate) blobs: Arc<BlobStore>,
    pub(crate) agent: Agent,
    pub(crate) repositories: Repositories,
    pub(crate) running: Running,
    pub(crate) locks: Locks,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Collector {
    /// Collects again and again.
    pub(crate) async fn run(self: Arc<Self>) {
        // What a process before this one was about to forget.
        match self.store.destroyed_apps().await {
            Ok(apps) => {
                for app in apps {
                    tokio::spawn(Arc::clone(&self).forget(app));
                }
            }
            Err(error) => tracing::warn!("destroyed apps are forgotten later: {error}"),
        }
        loop {
            tokio::time::sleep(PERIOD).await;
            if let Err(error) = self.collect().await {
                tracing::warn!("garbage was not collected this time: {error}");
            }
            if let Err(error) = self.drop_volumes(None).await {
                tracing::warn!("removed volumes go later: {error}");
            }
            // Also where nothing could be collected: this is what may make room.
            self.erase_destroyed().await;
        }
    }

    async fn collect(&self) -> Result<(), Failure> {
        self.store.sweep(now_ms()).await?;
        let mut live: HashSet<_> = self.store.blobs_in_use().await?.into_iter().collect();
        let apps: Vec<AppId> = self.store.app_ids().await?;
        for app in &apps {
            // Layers that the app's next build may use again.
            if let Some(kept) = self.store.layer_metadata(*app).await? {
                digests(&kept, &mut live);
            }
        }
        let mut instances = Vec::new();
        for app in &apps {
            instances.extend(
                self.store
                    .instances(*app, false, None, u32::MAX)
                    .await?
                    .into_iter()
                    .map(|row| row.id),
            );
        }
        let kept = Live { layers: live.iter().copied().collect(), instances, apps };
        let (read, mut write) = std::io::pipe()?;
        let text = serde_json::to_vec(&kept)?;
        let writing =
            tokio::task::spawn_blocking(move || std::io::Write::write_all(&mut write, &text));
        self.agent.call(&Request::Gc, &[read.into()]).await?;
        writing.await??;
        let blobs = Arc::clone(&self.blobs);
        let swept = tokio::task::spawn_blocking(move || blobs.gc(&live, GRACE)).await??;
        tracing::info!(?swept, "collected garbage");
        Ok(())
    }

    /// Ends what is being built of a destroyed app, waits until nothing of it runs, and forgets it.
    /// What takes longer than a while goes with the next collection.
    pub(crate) async fn forget(self: Arc<Self>, app: App) {
        for _ in 0..LOOKS_MAX {
            match self.erase(&app).await {
                Ok(true) => return,
                Ok(false) => tokio::time::sleep(LOOK).await,
                Err(error) => {
                    tracing::warn!(app = %app.id, "a destroyed app is not forgotten yet: {error}");
                    return;
                }
            }
        }
    }

    /// Removes the disks of removed volumes: of all apps, or of one. Says whether none is left; one
    /// that a container still has is.
    pub(crate) async fn drop_volumes(&self, app: Option<AppId>) -> Result<bool, Failure> {
        let mut all = true;
        for volume in self.store.removed_volumes(app).await? {
            match self.agent.call(&Request::VolumeRemove { volume }, &[]).await {
                Ok(_) => self.store.erase_volume(volume).await?,
                Err(AgentError::Failed { code: FailureCode::Conflict, .. }) => all = false,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(all)
    }

    /// Each by itself: one that cannot be forgotten yet holds no other up.
    async fn erase_destroyed(&self) {
        let apps = match self.store.destroyed_apps().await {
            Ok(apps) => apps,
            Err(error) => {
                tracing::warn!("destroyed apps are not forgotten this time: {error}");
                return;
            }
        };
        for app in apps {
            if let Err(error) = self.erase(&app).await {
                tracing::warn!(app = %app.id, "a destroyed app is not forgotten yet: {error}");
            }
        }
    }

    /// Forgets a destroyed app of which nothing runs: its volumes, caches and its repository go, then its
    /// rows, and with them its blocks of user ids. Says whether it is forgotten.
    async fn erase(&self, app: &App) -> Result<bool, Failure> {
        let Some(_lock) = self.end_builds(app) else { return Ok(false) };
        if !self.store.live_instances(app.id).await?.is_empty() || self.runs(app.id).await? {
            return Ok(false);
        }
        if !self.drop_volumes(Some(app.id)).await? {
            return Ok(false);
        }
        self.agent.call(&Request::CacheDrop { app: app.id }, &[]).await?;
        let (repositories, id) = (self.repositories.clone(), app.id);
        tokio::task::spawn_blocking(move || repositories.remove(id)).await??;
        self.store.erase_app(app.id, &By::system(now_ms())).await?;
        Ok(true)
    }

    /// The app's lock is held for as long as a build of it has a container: with it nothing is
    /// built, and nothing can begin to be.
    fn end_builds(&self, app: &App) -> Option<Lock> {
        self.running.end_app(app.id);
        self.locks.take(app.id, &app.name, "its destruction").ok()
    }

    /// Whether any container works with the app's user ids.
    async fn runs(&self, app: AppId) -> Result<bool, Failure> {
        let (reply, _) = self.agent.call(&Request::List, &[]).await?;
        let Reply::Instances { instances } = reply else {
            return Err("the agent does not list its containers".into());
        };
        Ok(instances.iter().any(|status| status.app == app))
    }
}

/// Every digest that stands in a value, wherever.
fn digests(value: &serde_json::Value, found: &mut HashSet<Digest>) {
    match value {
        serde_json::Value::String(text) => found.extend(text.parse::<Digest>().ok()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| digests(item, found)),
        serde_json::Value::Object(fields) => {
            fields.values().for_each(|field| digests(field, found));
        }
        _ => {}
    }
}
