//! Add-ons: apps that the platform looks after, and who reaches them.

use std::collections::{BTreeMap, BTreeSet};

use super::{BLOCKS, Change, Config, Effect, NewRelease, NewVolume, Refusal, State, config};
use crate::addon::{Addon, LINKS_MAX, Link};
use crate::{App, AppId, AppName, Digest, Limits, Manifest, ProcessName, Runtime, TeamId};

/// An add-on to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAddon {
    /// What it is.
    pub addon: Addon,
    /// Limits of its instances, by process.
    pub limits: BTreeMap<ProcessName, Limits>,
    /// Its volumes.
    pub volumes: Vec<NewVolume>,
    /// Its environment, its secrets among it.
    pub config: Config,
}

/// An add-on is changed by what concerns add-ons, and an app by what concerns apps; both are
/// stopped, started and restarted.
pub(super) fn may_change(app: &App, change: &Change) -> Result<(), Refusal> {
    let both = matches!(change, Change::Stop | Change::Start | Change::Restart);
    let own = matches!(change, Change::ReleaseAddon { .. } | Change::RemoveAddon);
    match &app.settings.addon {
        _ if both => Ok(()),
        Some(_) if own => Ok(()),
        Some(_) => Err(Refusal::IsAddon(app.name.clone())),
        None if own => Err(Refusal::NotAddon(app.name.clone())),
        None => Ok(()),
    }
}

pub(super) fn create(
    state: &State,
    name: &AppName,
    team: TeamId,
    new: &NewAddon,
) -> Result<Vec<Effect>, Refusal> {
    if state.name_taken {
        return Err(Refusal::NameTaken(name.clone()));
    }
    let block = state.free_block.filter(|block| *block < BLOCKS).ok_or(Refusal::Full)?;
    let addon = Box::new(new.addon.clone());
    let mut effects = vec![
        Effect::CreateApp { name: name.clone(), team, block },
        Effect::MakeAddon { addon, limits: new.limits.clone() },
    ];
    effects.extend(new.volumes.iter().cloned().map(Box::new).map(Effect::CreateVolume));
    effects.extend(new.config.iter().map(|(name, value)| Effect::SetConfig {
        name: name.clone(),
        value: value.clone(),
        replaces: false,
    }));
    Ok(effects)
}

/// No commit is behind it.
pub(super) fn release(state: &State, app: &App, image: Digest, manifest: &Manifest) -> Vec<Effect> {
    let new = NewRelease {
        number: state.newest_release + 1,
        app: app.id,
        image,
        manifest: manifest.clone(),
        config_version: state.config_version,
        commit: String::new(),
        reason: "Make the add-on".to_owned(),
    };
    new.deployed().into()
}

pub(super) fn remove(state: &State, app: &App) -> Result<Vec<Effect>, Refusal> {
    if !state.attached.is_empty() {
        return Err(Refusal::AddonInUse(state.attached.clone()));
    }
    Ok(vec![Effect::DestroyApp {
        name: app.name.clone(),
        releases: state.newest_release,
        domains: state.domains.len(),
        volumes: state.volumes.iter().map(|volume| volume.name.clone()).collect(),
    }])
}

pub(super) fn attach(
    state: &State,
    app: &App,
    (addon, name): (AppId, &AppName),
    port: u16,
    set: &Config,
) -> Result<Vec<Effect>, Refusal> {
    let links = &app.settings.links;
    if links.contains_key(&addon) {
        return Err(Refusal::Attached(name.clone()));
    }
    if links.len() >= LINKS_MAX {
        return Err(Refusal::TooManyLinks);
    }
    if let Some(base) = &state.base
        && matches!(base.manifest.runtime, Runtime::Wasm { .. })
    {
        return Err(Refusal::WasmLink);
    }
    if let Some(taken) = set.keys().find(|name| state.config.contains_key(name)) {
        return Err(Refusal::ExportTaken(taken.clone()));
    }
    let link = Link { port, names: set.keys().cloned().collect() };
    let mut effects = vec![Effect::Attach { addon, name: name.clone(), link }];
    effects.extend(config::configure(state, app, set, &BTreeSet::new(), true)?);
    Ok(effects)
}

pub(super) fn detach(
    state: &State,
    app: &App,
    addon: AppId,
    name: &AppName,
) -> Result<Vec<Effect>, Refusal> {
    let link = app.settings.links.get(&addon);
    let link = link.ok_or_else(|| Refusal::NotAttached(name.clone()))?;
    let mut effects = vec![Effect::Detach { addon, name: name.clone() }];
    effects.extend(config::configure(state, app, &Config::new(), &link.names, true)?);
    Ok(effects)
}
