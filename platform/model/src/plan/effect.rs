//! What a plan consists of.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{ConfigName, NewVolume, Secret};
use crate::addon::{Addon, Link};
use crate::{
    AppId, AppName, Digest, Domain, Limits, Manifest, ProcessName, TeamId, VolumeId, VolumeName,
};

/// One thing that a plan does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Effect {
    /// The app's row.
    CreateApp {
        /// Its name.
        name: AppName,
        /// Its team.
        team: TeamId,
        /// Its block of user ids.
        block: u16,
    },
    /// Another name.
    RenameApp {
        /// The old one.
        from: AppName,
        /// The new one.
        to: AppName,
    },
    /// Nothing is left of it.
    DestroyApp {
        /// Its name.
        name: AppName,
        /// How many releases go with it.
        releases: u64,
        /// How many domains are free again.
        domains: usize,
        /// Volumes that go with it.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        volumes: Vec<VolumeName>,
    },
    /// Another number of instances.
    Scale {
        /// Of which process.
        process: ProcessName,
        /// Wanted so far.
        from: u16,
        /// Wanted from now on.
        to: u16,
    },
    /// A variable in a new version of the configuration.
    SetConfig {
        /// Its name.
        name: ConfigName,
        /// Its value.
        value: Secret,
        /// It had another value.
        replaces: bool,
    },
    /// A variable that the new version of the configuration does not have.
    UnsetConfig {
        /// Its name.
        name: ConfigName,
    },
    /// An earlier version of the configuration is the current one again.
    RestoreConfig {
        /// The version so far.
        from: u64,
        /// The earlier one.
        to: u64,
        /// Names that come, go or get another value.
        names: Vec<ConfigName>,
    },
    /// A domain routes to the app.
    AddDomain {
        /// Which.
        domain: Domain,
    },
    /// It does no more.
    RemoveDomain {
        /// Which.
        domain: Domain,
    },
    /// The app is an add-on.
    MakeAddon {
        /// Which.
        addon: Box<Addon>,
        /// Limits of its instances, by process.
        limits: BTreeMap<ProcessName, Limits>,
    },
    /// The app's next instances reach an add-on.
    Attach {
        /// Which.
        addon: AppId,
        /// Its name.
        name: AppName,
        /// How.
        link: Link,
    },
    /// They do no more.
    Detach {
        /// Which.
        addon: AppId,
        /// Its name.
        name: AppName,
    },
    /// A volume, empty.
    CreateVolume(Box<NewVolume>),
    /// A volume and what it holds are gone.
    RemoveVolume {
        /// Its id.
        id: VolumeId,
        /// Its name.
        name: VolumeName,
    },
    /// No instances.
    Stop,
    /// Instances again.
    Start,
    /// New instances.
    Restart,
    /// The branch whose pushes deploy.
    SetDeployBranch {
        /// So far.
        from: Option<String>,
        /// From now on.
        to: String,
    },
    /// A row that never changes.
    CreateRelease(Box<NewRelease>),
    /// A deployment is queued.
    Deploy {
        /// Number of the release that it brings.
        release: u64,
    },
}

/// A release to be made; who makes it and when is known at commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewRelease {
    /// Its number.
    pub number: u64,
    /// The app.
    pub app: AppId,
    /// Its image.
    pub image: Digest,
    /// What it runs.
    pub manifest: Manifest,
    /// Its configuration.
    pub config_version: u64,
    /// The commit that the image was built from.
    pub commit: String,
    /// Why it exists.
    pub reason: String,
}

impl NewRelease {
    /// The release and its deployment.
    pub(super) fn deployed(self) -> [Effect; 2] {
        let deploy = Effect::Deploy { release: self.number };
        [Effect::CreateRelease(Box::new(self)), deploy]
    }
}

impl Effect {
    /// The text form of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::CreateApp { .. } => "create_app",
            Self::RenameApp { .. } => "rename_app",
            Self::DestroyApp { .. } => "destroy_app",
            Self::Scale { .. } => "scale",
            Self::SetConfig { .. } => "set_config",
            Self::UnsetConfig { .. } => "unset_config",
            Self::RestoreConfig { .. } => "restore_config",
            Self::AddDomain { .. } => "add_domain",
            Self::RemoveDomain { .. } => "remove_domain",
            Self::MakeAddon { .. } => "make_addon",
            Self::Attach { .. } => "attach",
            Self::Detach { .. } => "detach",
            Self::CreateVolume(_) => "create_volume",
            Self::RemoveVolume { .. } => "remove_volume",
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Restart => "restart",
            Self::SetDeployBranch { .. } => "set_deploy_branch",
            Self::CreateRelease(_) => "create_release",
            Self::Deploy { .. } => "deploy",
        }
    }

    /// Whether what is lost by it cannot be had back.
    pub fn is_destructive(&self) -> bool {
        matches!(self, Self::DestroyApp { .. } | Self::RemoveVolume { .. })
    }
}

fn counted(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateApp { name, .. } => write!(f, "create app {name}"),
            Self::RenameApp { from, to } => write!(f, "rename app {from} to {to}"),
            Self::DestroyApp { name, releases, domains, volumes } => {
                let releases = counted(*releases, "release");
                let domains = counted(u64::try_from(*domains).unwrap_or(u64::MAX), "domain");
                write!(
                    f,
                    "destroy app {name} with {releases}, {domains}, its source, configuration and logs"
                )?;
                let names: Vec<&str> = volumes.iter().map(VolumeName::as_str).collect();
                if names.is_empty() {
                    Ok(())
                } else {
                    write!(f, ", and what its volumes hold: {}", names.join(", "))
                }
            }
            Self::Scale { process, from, to } => write!(f, "scale {process} from {from} to {to}"),
            Self::SetConfig { name, replaces: false, .. } => write!(f, "set {name} (new)"),
            Self::SetConfig { name, .. } => write!(f, "set {name} (another value)"),
            Self::UnsetConfig { name } => write!(f, "unset {name}"),
            Self::RestoreConfig { from, to, names } => {
                let names: Vec<&str> = names.iter().map(ConfigName::as_str).collect();
                write!(f, "restore configuration {to} in place of {from}")?;
                if names.is_empty() { Ok(()) } else { write!(f, ": {}", names.join(", ")) }
            }
            Self::AddDomain { domain } => write!(f, "route {domain} to the app"),
            Self::RemoveDomain { domain } => write!(f, "route {domain} no more"),
            Self::MakeAddon { addon, .. } => {
                write!(f, "let the platform look after it, as {} says", addon.extension)
            }
            Self::Attach { name, link, .. } => {
                write!(f, "let it reach port {} of {name}", link.port)
            }
            Self::Detach { name, .. } => write!(f, "let it reach {name} no more"),
            Self::CreateVolume(new) => write!(
                f,
                "create volume {} of {} MiB, at {} in {}",
                new.name, new.size_mib, new.path, new.process
            ),
            Self::RemoveVolume { name, .. } => write!(f, "remove volume {name} and what it holds"),
            Self::Stop => f.write_str("stop every instance"),
            Self::Start => f.write_str("start the app"),
            Self::Restart => f.write_str("replace every instance"),
            Self::SetDeployBranch { to, .. } => write!(f, "deploy pushes to {to}"),
            Self::CreateRelease(new) => write!(
                f,
                "create release v{}: {} (image {}, configuration {})",
                new.number,
                new.reason,
                new.image.short(),
                new.config_version
            ),
            Self::Deploy { release } => write!(f, "deploy v{release}"),
        }
    }
}
