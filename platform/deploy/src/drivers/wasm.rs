//! Components in the Wasm worker. The server brings the worker's client as a [`WasmHost`].
//!
//! A component that is loaded answers at once, so there is nothing to probe. A worker that was
//! started again has forgotten everything and is told again under the same ids.

use std::collections::BTreeMap;

use berth_model::manifest::WasmSettings;
use berth_model::rollout::{Container, Phase};
use berth_model::{AppId, AppName, Digest, InstanceId, Limits, Runtime, TargetAddress};

use super::environment::environment;
use super::{Driver, Order, StartError};
use crate::error::DeployError;

/// A component to be loaded as a target.
#[derive(Clone)]
pub struct WasmLoad {
    /// The id under which the router asks for it.
    pub instance: InstanceId,
    /// Whose it is.
    pub app: AppId,
    /// Its name, for logs.
    pub name: AppName,
    /// The component.
    pub component: Digest,
    /// Its environment, secrets included.
    pub env: Vec<(String, String)>,
    /// What it asks for.
    pub settings: WasmSettings,
    /// What one request may use, as far as it applies.
    pub limits: Limits,
}

/// The failure of the worker's client.
pub type WasmError = Box<dyn std::error::Error + Send + Sync>;

/// How a load ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// It answers.
    Ready,
    /// The component cannot be run; the reason, for people.
    Refused(String),
}

/// The Wasm worker, as the server speaks to it.
pub trait WasmHost: Send + Sync + 'static {
    /// Loads a component; again under the same id is fine.
    fn load(&self, load: WasmLoad) -> impl Future<Output = Result<Loaded, WasmError>> + Send;
    /// Forgets an instance when its requests in flight are done; fine when it is not known.
    fn unload(&self, instance: InstanceId) -> impl Future<Output = Result<(), WasmError>> + Send;
    /// Everything that is loaded.
    fn list(&self) -> impl Future<Output = Result<Vec<InstanceId>, WasmError>> + Send;
}

/// The driver over a [`WasmHost`].
#[derive(Debug)]
pub struct Wasm<W>(pub(crate) W);

fn failed(what: String) -> impl FnOnce(WasmError) -> DeployError {
    move |source| DeployError::Wasm { what, source }
}

impl<W: WasmHost> Driver for Wasm<W> {
    async fn start(&self, order: Order<'_>) -> Result<Option<TargetAddress>, StartError> {
        let Order { record, app, release, .. } = order;
        let Runtime::Wasm { component } = release.manifest.runtime else {
            return Err(StartError::Refused("the release is not a Wasm component".to_owned()));
        };
        let load = WasmLoad {
            instance: record.id,
            app: app.id,
            name: app.name.clone(),
            component,
            env: environment(order),
            settings: release.manifest.wasm.clone(),
            limits: app.settings.limits.get(&record.process).copied().unwrap_or_default(),
        };
        let loaded = self.0.load(load).await;
        match loaded.map_err(failed(format!("load component {component}")))? {
            Loaded::Ready => Ok(Some(TargetAddress::Wasm)),
            Loaded::Refused(reason) => Err(StartError::Refused(reason)),
        }
    }

    async fn stop(&self, instance: InstanceId, _grace_ms: u32) -> Result<(), DeployError> {
        self.0.unload(instance).await.map_err(failed(format!("unload {instance}")))
    }

    async fn list(&self) -> Result<BTreeMap<InstanceId, Container>, DeployError> {
        let loaded = self.0.list().await.map_err(failed("list Wasm apps".to_owned()))?;
        let container = Container {
            phase: Phase::Running,
            attempt: 1,
            exit_code: None,
            running_ms: u64::MAX,
            address: Some(TargetAddress::Wasm),
        };
        Ok(loaded.into_iter().map(|instance| (instance, container.clone())).collect())
    }
}
