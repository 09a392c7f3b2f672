//! The Wasm worker, as deployments speak to it.

mod values;

use std::net::Ipv4Addr;

use berth_deploy::{Loaded, WasmHost, WasmLoad};
use berth_extensions::{AotError, AppConfig, EngineKind, Env, Limits, WorkerClient, WorkerError};
use berth_model::InstanceId;
use berth_model::manifest::WasmSettings;
use berth_model::size::ByteSize;

use crate::compiler::Compiler;
use crate::config::WasmConfig;

pub(crate) use values::keep_answering;

/// Loads apps into the worker.
pub struct WasmApps {
    pub(crate) worker: WorkerClient,
    pub(crate) compiler: Compiler,
    pub(crate) config: WasmConfig,
    /// First address of the /16 of instances.
    pub(crate) instances: Ipv4Addr,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl WasmHost for WasmApps {
    async fn load(&self, load: WasmLoad) -> Result<Loaded, Failure> {
        let (limits, requests_max) = match within(&load.settings, &self.config) {
            Ok(within) => within,
            Err(reason) => return Ok(Loaded::Refused(reason)),
        };
        let code = match self.compiler.code(EngineKind::Apps, load.component).await {
            Ok(code) => code,
            Err(AotError::Compiler { reason, .. }) => return Ok(Loaded::Refused(reason)),
            Err(error) => return Err(error.into()),
        };
        // What is a handle is not readable in the environment.
        let handle = |name: &str| load.settings.secrets.iter().any(|one| one.as_str() == name);
        let (secrets, env) = load.env.into_iter().partition(|(name, _)| handle(name));
        let app = AppConfig {
            instance: load.instance,
            app: load.app,
            component: load.component,
            env: Env(env),
            secrets: Env(secrets),
            http: load.settings.http.clone(),
            private_hosts: self.config.private_hosts.clone(),
            instances: Some(self.instances),
            requests_max,
            limits,
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

/// The limits of each request and the requests at once, or why they are more than the operator
/// allows.
fn within(settings: &WasmSettings, config: &WasmConfig) -> Result<(Limits, u32), String> {
    let over = |what: &str, asked: String, most: String| {
        Err(format!(
            "[wasm] {what} = {asked} in berth.toml is more than this platform allows, which is {most}"
        ))
    };
    let usual = Limits::APP;
    let most_bytes = u64::from(config.memory_mib_max) << 20;
    let memory_bytes_max = match settings.memory {
        Some(ByteSize(asked)) if asked > most_bytes => {
            return over(
                "memory",
                format!("{}", ByteSize(asked)),
                format!("{}", ByteSize(most_bytes)),
            );
        }
        Some(ByteSize(asked)) => asked,
        None => usual.memory_bytes_max.min(most_bytes),
    };
    let cpu_ms_max = match settings.cpu_ms {
        Some(asked) if asked > config.cpu_ms_max => {
            return over("cpu_ms", asked.to_string(), config.cpu_ms_max.to_string());
        }
        Some(asked) => asked,
        None => usual.cpu_ms_max.min(config.cpu_ms_max),
    };
    let requests_max = match settings.requests {
        Some(asked) if asked > config.requests_max => {
            return over("requests", asked.to_string(), config.requests_max.to_string());
        }
        Some(asked) => asked,
        None => config.requests_max,
    };
    Ok((Limits { memory_bytes_max, cpu_ms_max, ..usual }, requests_max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_has_what_it_asks_for_up_to_the_operators_ceilings() {
        let config = WasmConfig { cpu_ms_max: 2_000, requests_max: 8, ..WasmConfig::default() };
        let (limits, requests) = within(&WasmSettings::default(), &config).unwrap();
        assert_eq!((limits.memory_bytes_max, limits.cpu_ms_max, requests), (64 << 20, 2_000, 8));
        let asked = WasmSettings {
            memory: Some(ByteSize(128 << 20)),
            cpu_ms: Some(100),
            requests: Some(2),
            ..WasmSettings::default()
        };
        let (limits, requests) = within(&asked, &config).unwrap();
        assert_eq!((limits.memory_bytes_max, limits.cpu_ms_max, requests), (128 << 20, 100, 2));
        for (asked, part) in [
            (WasmSettings { memory: Some(ByteSize(1 << 30)), ..asked.clone() }, "memory = 1GiB"),
            (WasmSettings { cpu_ms: Some(2_001), ..asked.clone() }, "cpu_ms = 2001"),
            (WasmSettings { requests: Some(9), ..asked.clone() }, "requests = 9"),
        ] {
            let refused = within(&asked, &config).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
    }
}
