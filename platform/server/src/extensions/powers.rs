//! What the platform does for an extension: the store keeps its values and secrets, requests leave
//! by the one way out, and what was refused is told.

use std::sync::Arc;

use async_trait::async_trait;
use berth_extensions::outbound::{OutboundError, Share};
use berth_extensions::powers::{
    Count, HttpRequest, HttpResponse, Level, Measure, PowerError, PowerHost, SecretValue,
};
use berth_model::AppId;
use berth_store::{By, KvError, StoreError};

use super::{Live, Registry};
use crate::clock::now_ms;

/// Connections of one call at once: it makes one after the other.
const CONNECTIONS_MAX: usize = 4;

/// The powers of one call.
pub(super) struct Powers {
    registry: Registry,
    live: Arc<Live>,
    app: Option<AppId>,
    share: Share,
}

impl Powers {
    pub(super) fn of(registry: &Registry, live: &Arc<Live>, app: Option<AppId>) -> Self {
        let (registry, live) = (registry.clone(), Arc::clone(live));
        Self { registry, live, app, share: Share::of(CONNECTIONS_MAX) }
    }

    fn quota_bytes(&self) -> u64 {
        let quota =
            |set: &berth_model::extension::Capabilities| set.kv.as_ref().map_or(0, |kv| kv.quota.0);
        quota(&self.live.allowed.asked).min(quota(&self.live.allowed.granted))
    }

    fn by(&self) -> By {
        By { name: format!("extension:{}", self.live.row.id), ..By::system(now_ms()) }
    }
}

fn stored(error: StoreError) -> PowerError {
    tracing::error!("a power of an extension: {error}");
    PowerError::unavailable("the platform cannot read or write its database now")
}

#[async_trait]
impl PowerHost for Powers {
    fn log(&self, level: Level, text: &str) {
        self.registry.inner.journal.line(&self.live.row.id, level.as_str(), text);
    }

    fn denied(&self, capability: &'static str, what: &str) {
        let id = self.live.row.id.clone();
        let text = format!("denied: {capability}: {what}");
        self.registry.inner.journal.line(&id, "warning", &text);
        if self.live.denied(capability, what) {
            let (registry, by) = (self.registry.clone(), self.by());
            let after = serde_json::json!({
                "capability": capability, "what": what, "app": self.app,
            });
            tokio::spawn(async move {
                let store = &registry.inner.store;
                let told = store.extension_event("extension.denied", &id, after, &by).await;
                if let Err(error) = told {
                    tracing::error!(extension = %id, "a refusal was not recorded: {error}");
                }
            });
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(now_ms()).unwrap_or(0)
    }

    async fn kv_get(&self, key: &str) -> Result<Option<Vec<u8>>, PowerError> {
        let store = &self.registry.inner.store;
        store.extension_value(&self.live.row.id, key, now_ms()).await.map_err(stored)
    }

    async fn kv_put(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
        absent_only: bool,
    ) -> Result<bool, PowerError> {
        let now = now_ms();
        let expires = ttl_ms.map(|ttl| now.saturating_add(i64::try_from(ttl).unwrap_or(i64::MAX)));
        let store = &self.registry.inner.store;
        let quota = (self.quota_bytes(), now);
        store
            .put_extension_value(&self.live.row.id, (key, &value), expires, absent_only, quota)
            .await
            .map_err(|error| match error {
                KvError::Quota { .. } => PowerError::failure("quota", error, false),
                KvError::Store(error) => stored(error),
            })
    }

    async fn kv_remove(&self, key: &str) -> Result<bool, PowerError> {
        let store = &self.registry.inner.store;
        store.remove_extension_value(&self.live.row.id, key, now_ms()).await.map_err(stored)
    }

    async fn kv_keys(&self, prefix: &str, count_max: u32) -> Result<Vec<String>, PowerError> {
        let store = &self.registry.inner.store;
        store.extension_keys(&self.live.row.id, prefix, count_max, now_ms()).await.map_err(stored)
    }

    async fn secret(&self, name: &str) -> Result<Option<SecretValue>, PowerError> {
        let store = &self.registry.inner.store;
        let value = store.extension_secret(&self.live.row.id, name).await.map_err(stored)?;
        Ok(value.map(|value| SecretValue(value.into_bytes())))
    }

    async fn http(&self, request: HttpRequest) -> Result<HttpResponse, PowerError> {
        let outbound = &self.registry.inner.outbound;
        request.exchange(outbound, &self.share).await.map_err(|error| {
            // What its name leads to was not granted either.
            if let OutboundError::Denied { .. } | OutboundError::Prohibited { .. } = &error {
                self.denied("http", &error.to_string());
            }
            PowerError::failure(error.code(), &error, error.retry())
        })
    }

    async fn counter_add(
        &self,
        _key: &str,
        _amount: u64,
        _window_ms: u64,
    ) -> Result<Count, PowerError> {
        // Only middlewares have it, and they run in the router.
        Err(PowerError::unavailable("counters are kept where traffic is"))
    }

    async fn emit(&self, name: &str, payload: serde_json::Value) -> Result<(), PowerError> {
        let id = &self.live.row.id;
        let kind = format!("extension.{id}.{name}");
        let store = &self.registry.inner.store;
        store.extension_event(&kind, id, payload, &self.by()).await.map_err(stored)
    }

    fn measure(&self, measure: Measure) -> Result<(), PowerError> {
        if self.live.measure(measure) {
            Ok(())
        } else {
            Err(PowerError::failure("quota", "too many measures or combinations of labels", false))
        }
    }
}
