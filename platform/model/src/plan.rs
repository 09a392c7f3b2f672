//! Every change of an app is planned before it is made.
//!
//! Takes the state that the change meets and what is asked; gives the effects in order, or the
//! reason why not. Pure: the store loads the [`State`] and applies the [`Plan`], `berth plan`
//! prints it, and the event of the change keeps it. A plan names the generation that it was made
//! on, and is refused at commit when the app has another one by then. Values of the configuration
//! are in a plan as [`Secret`]s, which no form of output shows.

mod addons;
mod config;
mod domains;
mod effect;
mod refusal;
mod releases;
#[cfg(test)]
mod tests;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use addons::NewAddon;
pub use config::{CONFIG_BYTES_MAX, CONFIG_NAMES_MAX, Config, ConfigName, Secret};
pub use effect::{Effect, NewRelease};
pub use refusal::Refusal;
pub use volumes::NewVolume;

use crate::{
    App, AppId, AppName, Digest, Domain, Manifest, ProcessName, Release, Runtime, TeamId, Volume,
    VolumeName,
};

/// Version of the form of a plan.
pub const VERSION: u32 = 1;
/// Most instances of one process.
pub const SCALE_MAX: u16 = 100;
/// Most domains of one app, the default one not counted.
pub const DOMAINS_MAX: usize = 100;
/// Blocks of user ids that apps may have; so many apps fit on a platform.
pub const BLOCKS: u16 = 1023;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new app.
    Create {
        /// Its name.
        name: AppName,
        /// The team that will own it.
        team: TeamId,
    },
    /// Another name.
    Rename(AppName),
    /// The end of the app and of everything that belongs to it. Refused while it has volumes.
    Destroy,
    /// The same, and the end of what its volumes hold.
    DestroyWithVolumes,
    /// How many instances run; processes that are absent stay as they are.
    Scale(BTreeMap<ProcessName, u16>),
    /// Another configuration.
    Configure {
        /// Values to set.
        set: Config,
        /// Names to remove.
        unset: BTreeSet<ConfigName>,
        /// Make a release of it at once.
        release: bool,
    },
    /// Route a domain to the app.
    AddDomain(Domain),
    /// Route it no more.
    RemoveDomain(Domain),
    /// A new volume.
    CreateVolume {
        /// Which.
        volume: NewVolume,
        /// Let the process that mounts it begin anew, so that it has it at once.
        restart: bool,
    },
    /// The end of a volume and of what it holds.
    RemoveVolume(VolumeName),
    /// No instances until it is started.
    Stop,
    /// The opposite.
    Start,
    /// Replace every instance.
    Restart,
    /// The branch whose pushes deploy.
    SetDeployBranch(String),
    /// A build succeeded: release its image.
    Deploy {
        /// The image.
        image: Digest,
        /// What it runs.
        manifest: Box<Manifest>,
        /// The commit that it was built from.
        commit: String,
    },
    /// A new add-on: an app that the platform looks after.
    CreateAddon {
        /// Its name.
        name: AppName,
        /// The team that will own it.
        team: TeamId,
        /// What it is.
        addon: Box<NewAddon>,
    },
    /// What an add-on runs.
    ReleaseAddon {
        /// The image.
        image: Digest,
        /// What it runs.
        manifest: Box<Manifest>,
    },
    /// The end of an add-on and of what its volumes hold.
    RemoveAddon,
    /// Let an app reach an add-on, and tell it how.
    Attach {
        /// Which add-on.
        addon: AppId,
        /// Its name.
        name: AppName,
        /// Where it listens.
        port: u16,
        /// What the app is told.
        set: Config,
    },
    /// The opposite.
    Detach {
        /// Which add-on.
        addon: AppId,
        /// Its name.
        name: AppName,
    },
    /// Release an earlier release's image and configuration again.
    Rollback {
        /// Its number; the one that served before the current when absent.
        to: Option<u64>,
    },
}

impl Change {
    /// What the event of the change is called.
    pub fn event_kind(&self) -> &'static str {
        match self {
            Self::Create { .. } => "app.created",
            Self::Rename(_) => "app.renamed",
            Self::Destroy | Self::DestroyWithVolumes => "app.destroyed",
            Self::Scale(_) => "app.scaled",
            Self::Configure { .. } => "app.configured",
            Self::AddDomain(_) => "domain.added",
            Self::RemoveDomain(_) => "domain.removed",
            Self::CreateVolume { .. } => "volume.created",
            Self::RemoveVolume(_) => "volume.removed",
            Self::Stop => "app.stopped",
            Self::Start => "app.started",
            Self::Restart => "app.restarted",
            Self::SetDeployBranch(_) => "app.deploy_branch_set",
            Self::CreateAddon { .. } => "addon.created",
            Self::RemoveAddon => "addon.removed",
            Self::Attach { .. } => "addon.attached",
            Self::Detach { .. } => "addon.detached",
            Self::Deploy { .. } | Self::Rollback { .. } | Self::ReleaseAddon { .. } => {
                "release.created"
            }
        }
    }
}

/// What a change meets, read at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The app; nothing when it is to be created.
    pub app: Option<App>,
    /// The name that the change wants is another app's.
    pub name_taken: bool,
    /// The smallest free block of user ids.
    pub free_block: Option<u16>,
    /// Domain below which apps get their default host name.
    pub platform_domain: String,
    /// Version of the configuration that the next release takes; 0 is the empty one.
    pub config_version: u64,
    /// The newest version there is.
    pub config_newest: u64,
    /// The configuration of `config_version`.
    pub config: Config,
    /// What a change of the configuration is released from: the release of the newest deployment
    /// on its way, else the current one, else the newest.
    pub base: Option<Release>,
    /// Number of the release that serves.
    pub current: Option<u64>,
    /// The release that a rollback asks for.
    pub target: Option<Release>,
    /// The configuration of `target`.
    pub target_config: Config,
    /// Number of the newest release; 0 when there is none.
    pub newest_release: u64,
    /// The app's domains.
    pub domains: BTreeSet<Domain>,
    /// The app's volumes, by name.
    pub volumes: Vec<Volume>,
    /// Apps that an add-on is attached to; read only when it is to be removed.
    pub attached: Vec<AppName>,
    /// Domains of other apps, with their teams.
    pub others: Vec<(Domain, TeamId)>,
}

/// What a change would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Version of this form.
    pub version: u32,
    /// What the event will be called.
    pub kind: &'static str,
    /// The app; nothing when it is to be created.
    pub app: Option<AppId>,
    /// The app's generation that the plan was made on; 0 when it is to be created.
    pub generation: u64,
    /// In order; empty when everything is so already.
    pub changes: Vec<Effect>,
}

impl Plan {
    /// Whether everything is as asked already.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.changes.is_empty() {
            return f.write_str("nothing changes\n");
        }
        self.changes.iter().try_for_each(|effect| writeln!(f, "{effect}"))
    }
}

/// Plans a change.
///
/// # Errors
/// A [`Refusal`] that says what stands against it.
pub fn plan(state: &State, change: &Change) -> Result<Plan, Refusal> {
    let changes = match (change, &state.app) {
        (Change::Create { name, team }, None) => create(state, name, *team)?,
        (Change::CreateAddon { name, team, addon }, None) => {
            addons::create(state, name, *team, addon)?
        }
        (Change::Create { name, .. }, Some(_)) => return Err(Refusal::NameTaken(name.clone())),
        (_, None) => return Err(Refusal::NoApp),
        (change, Some(app)) => change_app(state, app, change)?,
    };
    let app = state.app.as_ref();
    Ok(Plan {
        version: VERSION,
        kind: change.event_kind(),
        app: app.map(|app| app.id),
        generation: app.map_or(0, |app| app.generation),
        changes,
    })
}

fn create(state: &State, name: &AppName, team: TeamId) -> Result<Vec<Effect>, Refusal> {
    if state.name_taken {
        return Err(Refusal::NameTaken(name.clone()));
    }
    let block = state.free_block.filter(|block| *block < BLOCKS).ok_or(Refusal::Full)?;
    Ok(vec![Effect::CreateApp { name: name.clone(), team, block }])
}

fn change_app(state: &State, app: &App, change: &Change) -> Result<Vec<Effect>, Refusal> {
    addons::may_change(app, change)?;
    match change {
        Change::CreateAddon { name, .. } | Change::Create { name, .. } => {
            Err(Refusal::NameTaken(name.clone()))
        }
        Change::Rename(name) if *name == app.name => Ok(Vec::new()),
        Change::Rename(name) if state.name_taken => Err(Refusal::NameTaken(name.clone())),
        Change::Rename(name) => {
            Ok(vec![Effect::RenameApp { from: app.name.clone(), to: name.clone() }])
        }
        Change::Destroy if !state.volumes.is_empty() => {
            let names = state.volumes.iter().map(|volume| volume.name.clone());
            Err(Refusal::HasVolumes(names.collect()))
        }
        Change::Destroy | Change::DestroyWithVolumes => Ok(vec![Effect::DestroyApp {
            name: app.name.clone(),
            releases: state.newest_release,
            domains: state.domains.len(),
            volumes: state.volumes.iter().map(|volume| volume.name.clone()).collect(),
        }]),
        Change::Scale(wanted) => scale(state, app, wanted),
        Change::Configure { set, unset, release } => {
            config::configure(state, app, set, unset, *release)
        }
        Change::AddDomain(domain) => domains::add(state, app, domain),
        Change::RemoveDomain(domain) => domains::remove(state, domain),
        Change::CreateVolume { volume, restart } => volumes::create(state, app, volume, *restart),
        Change::RemoveVolume(name) => volumes::remove(state, app, name),
        Change::Stop => Ok(if app.settings.stopped { vec![] } else { vec![Effect::Stop] }),
        Change::Start => Ok(if app.settings.stopped { vec![Effect::Start] } else { vec![] }),
        Change::Restart if app.settings.stopped => Err(Refusal::Stopped),
        Change::Restart if app.current_release.is_none() => Err(Refusal::NoRelease),
        Change::Restart => Ok(vec![Effect::Restart]),
        Change::SetDeployBranch(branch) => deploy_branch(app, branch),
        Change::Deploy { image, manifest, commit } => {
            volumes::fits(state, app, manifest)?;
            Ok(releases::deploy(state, *image, manifest, commit))
        }
        Change::Rollback { to } => releases::rollback(state, app, *to),
        Change::ReleaseAddon { image, manifest } => {
            Ok(addons::release(state, app, *image, manifest))
        }
        Change::RemoveAddon => addons::remove(state, app),
        Change::Attach { addon, name, port, set } => {
            addons::attach(state, app, (*addon, name), *port, set)
        }
        Change::Detach { addon, name } => addons::detach(state, app, *addon, name),
    }
}

fn deploy_branch(app: &App, branch: &str) -> Result<Vec<Effect>, Refusal> {
    // Git itself refuses worse names; this bounds what is stored and shown.
    if branch.is_empty() || branch.len() > 255 || branch.chars().any(char::is_control) {
        return Err(Refusal::BadBranch);
    }
    let from = app.settings.deploy_branch.clone();
    Ok(if from.as_deref() == Some(branch) {
        Vec::new()
    } else {
        vec![Effect::SetDeployBranch { from, to: branch.to_owned() }]
    })
}

fn scale(
    state: &State,
    app: &App,
    wanted: &BTreeMap<ProcessName, u16>,
) -> Result<Vec<Effect>, Refusal> {
    let mut effects = Vec::new();
    for (process, &to) in wanted {
        if to > SCALE_MAX {
            return Err(Refusal::ScaleTooLarge { process: process.clone(), count: to });
        }
        volumes::may_scale(state, process, to)?;
        if let Some(release) = &state.base {
            let manifest = &release.manifest;
            if !manifest.formation.is_empty() {
                return Err(Refusal::Formation);
            }
            if !manifest.processes.contains_key(process) {
                let known = manifest.processes.keys().cloned().collect();
                return Err(Refusal::NoProcess { process: process.clone(), known });
            }
            if to > 1 && matches!(manifest.runtime, Runtime::Wasm { .. }) {
                return Err(Refusal::WasmScale);
            }
        }
        let from = app.settings.wanted(process);
        if from != to {
            effects.push(Effect::Scale { process: process.clone(), from, to });
        }
    }
    Ok(effects)
}
