//! The operator's file of deadlines and limits. Unknown keys are errors; what is absent has the
//! documented default.

use std::num::NonZeroU32;
use std::path::Path;

use anyhow::{Context, Result};
use berth_container::NetworkSettings;
use berth_model::extension::HostPattern;
use berth_model::rollout::Timeouts;
use serde::Deserialize;

use crate::disk::DiskConfig;
use crate::extensions::ExtensionsConfig;
use crate::measures::MeasuresConfig;

/// The file `--config`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
pub struct Config {
    /// Deadlines of deployments.
    pub deploy: Timeouts,
    /// What a push may do and hold.
    pub push: PushConfig,
    /// What a build may reach.
    pub build: BuildConfig,
    /// Where instances are, and what of the outside they reach.
    pub network: NetworkSettings,
    /// What Wasm apps may ask for.
    pub wasm: WasmConfig,
    /// What is kept free on the disk.
    pub disk: DiskConfig,
    /// What the listener of the API and of git over HTTP holds.
    pub api: ApiConfig,
    /// Sessions of the console, and links to sign in.
    pub console: ConsoleConfig,
    /// Extensions that fail, and events for hooks.
    pub extensions: ExtensionsConfig,
    /// How often is measured, and for how long it is kept.
    pub measures: MeasuresConfig,
    /// Where log drains lead.
    pub drains: DrainsConfig,
    /// Names that the API answers to besides the loopback ones.
    pub api_hosts: Vec<String>,
}

/// Section `push`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PushConfig {
    /// A first push creates the app.
    pub create_apps: bool,
    /// Files in a tree.
    pub files_max: usize,
    /// Largest file, MiB.
    pub file_mib_max: u64,
    /// Largest push, MiB.
    pub pack_mib_max: u32,
}

impl Default for PushConfig {
    fn default() -> Self {
        Self { create_apps: true, files_max: 100_000, file_mib_max: 512, pack_mib_max: 2048 }
    }
}

impl PushConfig {
    /// As `push` understands it.
    pub fn limits(&self) -> berth_push::Limits {
        berth_push::Limits {
            files_max: self.files_max,
            file_bytes_max: self.file_mib_max << 20,
            pack_mib_max: self.pack_mib_max,
            ..berth_push::Limits::default()
        }
    }
}

/// Section `api`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Connections that are open at once, `WebSockets` among them.
    pub connections_max: NonZeroU32,
}

impl Default for ApiConfig {
    fn default() -> Self {
        // Within the 1024 descriptors that a process has where nobody raised the limit.
        Self { connections_max: const { NonZeroU32::new(512).unwrap() } }
    }
}

/// Section `console`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsoleConfig {
    /// A session ends when it is not used for so many seconds.
    pub session_idle_s: NonZeroU32,
    /// A session ends after so many seconds.
    pub session_s: NonZeroU32,
    /// A link to sign in is good for so many seconds.
    pub link_s: NonZeroU32,
    /// The link of a user who has no password yet is good for so many seconds.
    pub invitation_s: NonZeroU32,
}

impl Default for ConsoleConfig {
    fn default() -> Self {
        Self {
            session_idle_s: const { NonZeroU32::new(12 * 3600).unwrap() },
            session_s: const { NonZeroU32::new(7 * 86_400).unwrap() },
            link_s: const { NonZeroU32::new(600).unwrap() },
            invitation_s: const { NonZeroU32::new(86_400).unwrap() },
        }
    }
}

/// Section `wasm`: ceilings of what apps ask for in `berth.toml`, and what they cannot ask for.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WasmConfig {
    /// Linear memory of one request, MiB; at most 256.
    pub memory_mib_max: u32,
    /// Processor time of one request, milliseconds.
    pub cpu_ms_max: u32,
    /// Requests of one app at once.
    pub requests_max: u32,
    /// Keys and values of one app together, MiB.
    pub values_mib_max: u32,
    /// Hosts whose addresses may be of private networks, for apps that name them: `*.internal`,
    /// or `*` for all.
    pub private_hosts: Vec<HostPattern>,
}

impl Default for WasmConfig {
    fn default() -> Self {
        Self {
            memory_mib_max: 256,
            cpu_ms_max: 30_000,
            requests_max: 64,
            values_mib_max: 16,
            private_hosts: Vec::new(),
        }
    }
}

/// Section `drains`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrainsConfig {
    /// Drains that operators of teams add may reach addresses of private networks; those of
    /// administrators always may.
    pub private_addresses: bool,
}

/// Section `build`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BuildConfig {
    /// Steps reach only the hosts of the roles that they name.
    pub roles_only: bool,
    /// Hosts of each role.
    pub roles: std::collections::BTreeMap<String, Vec<String>>,
    /// Hosts that may resolve to private addresses; `*` for all.
    pub private_hosts: Vec<String>,
    /// Where the packages of a role come from: its tools get the address as their index, and its
    /// steps reach that host and port also in a private network.
    pub mirrors: berth_build::proxy::Mirrors,
}

impl Config {
    /// Reads the file, or gives the defaults without one.
    ///
    /// # Errors
    /// A file that cannot be read or has an unknown key or a wrong value, with its line.
    pub fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        toml::from_str(&text)
            .with_context(|| format!("the configuration {} is wrong", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        std::fs::write(&file, "[deploy]\nmonitor_ms = 1\nmonitr_ms = 2\n").unwrap();
        let error = format!("{:#}", Config::read(Some(&file)).unwrap_err());
        assert!(error.contains("monitr_ms") && error.contains("line 3"), "{error}");
    }

    #[test]
    fn a_network_that_cannot_be_is_an_error_with_its_line() {
        let config: Config =
            toml::from_str("[network]\nrange = '10.77.0.0/16'\nprivate_ranges = false\n").unwrap();
        assert_eq!(config.network.range, "10.77.0.0/16".parse().ok());
        assert!(!config.network.private_ranges);
        let error = toml::from_str::<Config>("[network]\nrange = '10.77.8.0/24'\n").unwrap_err();
        let error = error.to_string();
        assert!(error.contains("10.77.8.0/24") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_listener_for_no_connection_is_an_error_with_its_line() {
        let config: Config = toml::from_str("[api]\nconnections_max = 16\n").unwrap();
        assert_eq!(config.api.connections_max.get(), 16);
        let error = toml::from_str::<Config>("[api]\nconnections_max = 0\n").unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }

    #[test]
    fn a_mirror_is_an_address_or_an_error_with_its_line() {
        let text = "[build.mirrors]\npython = 'http://10.0.0.5:3141/simple'\n";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.build.mirrors["python"], "http://10.0.0.5:3141/simple".parse().unwrap());
        let text = "[build.mirrors]\nnode = 'http://me:secret@10.0.0.5/'\n";
        let error = toml::from_str::<Config>(text).unwrap_err().to_string();
        assert!(error.contains("without user or password"), "{error}");
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_session_of_no_time_is_an_error_with_its_line() {
        let config: Config = toml::from_str("[console]\nsession_idle_s = 60\n").unwrap();
        assert_eq!(config.console.session_idle_s.get(), 60);
        assert_eq!(config.console.link_s.get(), 600);
        let error = toml::from_str::<Config>("[console]\nlink_s = 0\n").unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }

    #[test]
    fn what_is_absent_has_its_default() {
        let config: Config = toml::from_str("[push]\ncreate_apps = false\n").unwrap();
        assert!(!config.push.create_apps);
        assert_eq!(config.push.limits().files_max, 100_000);
        assert_eq!(config.deploy.stop_ms_max, 30_000);
        assert_eq!(config.api.connections_max.get(), 512);
        assert!(!config.drains.private_addresses);
    }
}
