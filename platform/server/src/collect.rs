//! Garbage: whatever no row names any more, on a period. Nothing that runs or is being made is
//! touched: blobs have a grace, the agent keeps what its containers use.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use berth_blobs::BlobStore;
use berth_container::{Agent, Live, Request};
use berth_model::{App, AppId, Digest};
use berth_push::Repositories;
use berth_store::{By, Store};

use crate::clock::now_ms;

/// How often.
const PERIOD: Duration = Duration::from_secs(600);
/// Younger blobs are never removed: a build may just be making them.
const GRACE: Duration = Duration::from_secs(3600);

/// What is looked after.
pub(crate) struct Collector {
    pub(crate) store: Store,
    pub(crate) blobs: Arc<BlobStore>,
    pub(crate) agent: Agent,
    pub(crate) repositories: Repositories,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Collector {
    /// Collects again and again.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(PERIOD).await;
            if let Err(error) = self.collect().await {
                tracing::warn!("garbage was not collected this time: {error}");
            }
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
        self.erase_destroyed().await
    }

    /// Waits until the instances of a destroyed app are gone, then forgets it. What is left after
    /// a while goes with the next collection.
    pub(crate) async fn forget(&self, app: App) {
        for _ in 0..600 {
            match self.store.live_instances(app.id).await {
                Ok(live) if live.is_empty() => break,
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        if let Err(error) = self.agent.call(&Request::CacheDrop { app: app.id }, &[]).await {
            tracing::warn!(app = %app.id, "the build caches of a destroyed app are still there: {error}");
        }
        if let Err(error) = self.erase_destroyed().await {
            tracing::warn!(app = %app.id, "a destroyed app is not forgotten yet: {error}");
        }
    }

    /// Destroyed apps whose instances are gone: their repositories go, then their rows, and with
    /// them their blocks of user ids.
    pub(crate) async fn erase_destroyed(&self) -> Result<(), Failure> {
        for app in self.store.destroyed_apps().await? {
            if !self.store.live_instances(app.id).await?.is_empty() {
                continue;
            }
            let (repositories, id) = (self.repositories.clone(), app.id);
            tokio::task::spawn_blocking(move || repositories.remove(id)).await??;
            self.store.erase_app(app.id, &By::system(now_ms())).await?;
        }
        Ok(())
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
