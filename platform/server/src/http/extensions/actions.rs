//! What the handlers ask of the registry of extensions.

use std::fs::File;
use std::future::Future;
use std::pin::Pin;

use berth_api::{ExtensionPage, ViewBlock};
use berth_model::extension::ExtensionId;
use berth_model::{AppId, Digest};
use berth_store::{By, Extension};
use serde_json::Value;

use crate::extensions::{Choice, ExtensionError, Health, PanelOf, Registry, Review};

/// The future of a decision.
pub type Deciding<'a, T> = Pin<Box<dyn Future<Output = Result<T, ExtensionError>> + Send + 'a>>;

/// What an operator decides of extensions. The caller was authorised before any of these is called;
/// once called, each is carried to its end also when the client goes away.
pub trait ExtensionActions: Send + Sync {
    /// What a component is and asks for.
    fn review(&self, component: Vec<u8>) -> Deciding<'_, Review>;

    /// Installs a component; also gives whether it is what runs.
    fn install(
        &self,
        component: Vec<u8>,
        choice: Choice,
        by: By,
    ) -> Deciding<'_, (Extension, bool)>;

    /// A component that is kept, and its length in bytes.
    fn component(&self, component: Digest) -> Deciding<'_, (File, u64)>;

    /// Grants what the version that waits asks for, or takes the place of the grant.
    fn grant(&self, id: ExtensionId, choice: Choice, by: By) -> Deciding<'_, Extension>;

    /// Another configuration.
    fn configure(&self, id: ExtensionId, config: Value, by: By) -> Deciding<'_, Extension>;

    /// The apps that it is for; nothing means all of them.
    fn set_apps(
        &self,
        id: ExtensionId,
        apps: Option<Vec<AppId>>,
        by: By,
    ) -> Deciding<'_, Extension>;

    /// Sets a secret, or removes it.
    fn set_secret(
        &self,
        id: ExtensionId,
        name: String,
        value: Option<String>,
        by: By,
    ) -> Deciding<'_, ()>;

    /// Calls it no more.
    fn disable(&self, id: ExtensionId, by: By) -> Deciding<'_, Extension>;

    /// Calls none of them any more; gives those that were called until now.
    fn disable_all(&self, by: By) -> Deciding<'_, Vec<ExtensionId>>;

    /// Calls it again.
    fn resume(&self, id: ExtensionId, by: By) -> Deciding<'_, Extension>;

    /// Removes it; false when it was not there.
    fn remove(&self, id: ExtensionId, by: By) -> Deciding<'_, bool>;

    /// Offers dead letters again: one event, or all of them. Gives their number.
    fn replay(&self, id: ExtensionId, event: Option<i64>) -> Deciding<'_, u64>;

    /// The pages that it has; none where it is of another kind.
    fn pages(&self, id: ExtensionId) -> Deciding<'_, Vec<ExtensionPage>>;

    /// What a page shows, or the panel of an app.
    fn page(
        &self,
        id: ExtensionId,
        page: String,
        app: Option<PanelOf>,
    ) -> Deciding<'_, Vec<ViewBlock>>;

    /// What it did since it is live; nothing when it is not.
    fn health(&self, id: &ExtensionId) -> Option<Health>;

    /// Everything that extensions measure, in the text form of Prometheus.
    fn prometheus(&self) -> String;
}

/// A task of its own: a client that goes away must not leave a decision half made.
pub(in crate::http) fn whole<'a, T, E, F>(
    doing: F,
) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>
where
    T: Send + 'static,
    E: Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let begun = tokio::spawn(doing);
    Box::pin(async move {
        match begun.await.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(result) => result,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The process ends, and with it whoever waits for this.
            Err(Err(_)) => std::future::pending().await,
        }
    })
}

impl ExtensionActions for Registry {
    fn review(&self, component: Vec<u8>) -> Deciding<'_, Review> {
        Box::pin(Self::review(self, component))
    }

    fn install(
        &self,
        component: Vec<u8>,
        choice: Choice,
        by: By,
    ) -> Deciding<'_, (Extension, bool)> {
        let registry = self.clone();
        whole(async move { Self::install(&registry, component, choice, by).await })
    }

    fn component(&self, component: Digest) -> Deciding<'_, (File, u64)> {
        Box::pin(Self::component(self, component))
    }

    fn grant(&self, id: ExtensionId, choice: Choice, by: By) -> Deciding<'_, Extension> {
        let registry = self.clone();
        whole(async move { Self::grant(&registry, &id, choice, by).await })
    }

    fn configure(&self, id: ExtensionId, config: Value, by: By) -> Deciding<'_, Extension> {
        let registry = self.clone();
        whole(async move { Self::configure(&registry, &id, config, by).await })
    }

    fn set_apps(
        &self,
        id: ExtensionId,
        apps: Option<Vec<AppId>>,
        by: By,
    ) -> Deciding<'_, Extension> {
        let registry = self.clone();
        whole(async move { Self::set_apps(&registry, &id, apps, by).await })
    }

    fn set_secret(
        &self,
        id: ExtensionId,
        name: String,
        value: Option<String>,
        by: By,
    ) -> Deciding<'_, ()> {
        let registry = self.clone();
        whole(async move { Self::set_secret(&registry, &id, &name, value.as_deref(), by).await })
    }

    fn disable(&self, id: ExtensionId, by: By) -> Deciding<'_, Extension> {
        let registry = self.clone();
        whole(async move { Self::disable(&registry, &id, by).await })
    }

    fn disable_all(&self, by: By) -> Deciding<'_, Vec<ExtensionId>> {
        let registry = self.clone();
        whole(async move { Self::disable_all(&registry, by).await })
    }

    fn resume(&self, id: ExtensionId, by: By) -> Deciding<'_, Extension> {
        let registry = self.clone();
        whole(async move { Self::resume(&registry, &id, by).await })
    }

    fn remove(&self, id: ExtensionId, by: By) -> Deciding<'_, bool> {
        let registry = self.clone();
        whole(async move { Self::remove(&registry, &id, by).await })
    }

    fn replay(&self, id: ExtensionId, event: Option<i64>) -> Deciding<'_, u64> {
        let registry = self.clone();
        whole(async move { Self::replay(&registry, &id, event).await })
    }

    fn pages(&self, id: ExtensionId) -> Deciding<'_, Vec<ExtensionPage>> {
        Box::pin(async move { Self::pages(self, &id).await })
    }

    fn page(
        &self,
        id: ExtensionId,
        page: String,
        app: Option<PanelOf>,
    ) -> Deciding<'_, Vec<ViewBlock>> {
        Box::pin(async move { Self::page(self, &id, &page, app).await })
    }

    fn health(&self, id: &ExtensionId) -> Option<Health> {
        Self::health(self, id)
    }

    fn prometheus(&self) -> String {
        Self::prometheus(self)
    }
}
