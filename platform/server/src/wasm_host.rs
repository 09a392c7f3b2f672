//! The Wasm worker, as deployments speak to it.

use berth_deploy::{Loaded, WasmHost, WasmLoad};
use berth_extensions::{AotError, AppConfig, EngineKind, Env, Limits, WorkerClient, WorkerError};
use berth_model::InstanceId;

use crate::compiler::Compiler;

/// Loads apps into the worker.
pub struct WasmApps {
    pub(crate) worker: WorkerClient,
    pub(crate) compiler: Compiler,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl WasmHost for WasmApps {
    async fn load(&self, load: WasmLoad) -> Result<Loaded, Failure> {
        let code = match self.compiler.code(EngineKind::Apps, load.component).await {
            Ok(code) => code,
            Err(AotError::Compiler { reason, .. }) => return Ok(Loaded::Refused(reason)),
            Err(error) => return Err(error.into()),
        };
        let app = AppConfig {
            instance: load.instance,
            component: load.component,
            env: Env(load.env),
            limits: Limits::APP,
        };
        match self.worker.load(app, &code).await {
            Ok(()) => Ok(Loaded::Ready),
            Err(WorkerError::Refused { message, .. }) => Ok(Loaded::Refused(message)),
            Err(error) => Err(error.into()),
        }
    }

    async fn unload(&self, instance: InstanceId) -> Result<(), Failure> {
        Ok(self.worker.unload(instance).await?)
    }

    async fn list(&self) -> Result<Vec<InstanceId>, Failure> {
        Ok(self.worker.list().await?.into_iter().map(|app| app.instance).collect())
    }
}
