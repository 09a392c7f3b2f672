//! Which volumes an app may have, and what may not be done beside them.

use super::{Effect, Refusal, State};
use crate::volume::{SIZE_MIB_MAX, SIZE_MIB_MIN, VOLUMES_MAX};
use crate::{App, Manifest, MountPath, ProcessName, Runtime, Volume, VolumeName};

/// A volume to be made; its id is known at commit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NewVolume {
    /// Its name.
    pub name: VolumeName,
    /// The process type that mounts it.
    pub process: ProcessName,
    /// Where the process finds it.
    pub path: MountPath,
    /// What it may hold, MiB.
    pub size_mib: u32,
}

pub(super) fn create(
    state: &State,
    app: &App,
    new: &NewVolume,
    restart: bool,
) -> Result<Vec<Effect>, Refusal> {
    if state.volumes.iter().any(|volume| volume.name == new.name) {
        return Err(Refusal::VolumeTaken(new.name.clone()));
    }
    if state.volumes.len() >= VOLUMES_MAX {
        return Err(Refusal::TooManyVolumes);
    }
    if !(SIZE_MIB_MIN..=SIZE_MIB_MAX).contains(&new.size_mib) {
        return Err(Refusal::VolumeSize(new.size_mib));
    }
    let clashes = |other: &&Volume| other.process == new.process && other.path.overlaps(&new.path);
    if let Some(other) = state.volumes.iter().find(clashes) {
        let (path, volume) = (other.path.clone(), other.name.clone());
        return Err(Refusal::VolumePathTaken { path, volume });
    }
    let count = count(state, app, &new.process);
    if let Some(release) = &state.base {
        let known = &release.manifest.processes;
        if matches!(release.manifest.runtime, Runtime::Wasm { .. }) {
            return Err(Refusal::WasmVolume);
        }
        if !known.contains_key(&new.process) {
            let known = known.keys().cloned().collect();
            return Err(Refusal::NoProcess { process: new.process.clone(), known });
        }
    }
    if count > 1 {
        let (process, volume) = (new.process.clone(), new.name.clone());
        return Err(Refusal::VolumeAlone { process, volume, count });
    }
    let runs = app.current_release.is_some() && !app.settings.stopped && count > 0;
    let mut effects = vec![Effect::CreateVolume(Box::new(new.clone()))];
    if runs && restart {
        effects.push(Effect::Restart);
    }
    Ok(effects)
}

pub(super) fn remove(state: &State, app: &App, name: &VolumeName) -> Result<Vec<Effect>, Refusal> {
    let volume = state.volumes.iter().find(|volume| volume.name == *name);
    let volume = volume.ok_or_else(|| Refusal::NoVolume(name.clone()))?;
    let wanted = !app.settings.stopped && count(state, app, &volume.process) > 0;
    if wanted && state.base.is_some() {
        let (process, volume) = (volume.process.clone(), name.clone());
        return Err(Refusal::VolumeInUse { process, volume });
    }
    Ok(vec![Effect::RemoveVolume { id: volume.id, name: name.clone() }])
}

/// A release must be one that can run with the app's volumes.
pub(super) fn fits(state: &State, app: &App, manifest: &Manifest) -> Result<(), Refusal> {
    if !state.volumes.is_empty() && matches!(manifest.runtime, Runtime::Wasm { .. }) {
        return Err(Refusal::WasmVolume);
    }
    for (process, &count) in &manifest.formation {
        may_scale(state, process, count)?;
    }
    for volume in &state.volumes {
        // Set before the volume was there, of a process that no release had.
        let count = manifest.formation.get(&volume.process).copied();
        may_scale(state, &volume.process, count.unwrap_or(app.settings.wanted(&volume.process)))?;
    }
    Ok(())
}

/// A process that mounts a volume has one instance at most.
pub(super) fn may_scale(state: &State, process: &ProcessName, count: u16) -> Result<(), Refusal> {
    match state.volumes.iter().find(|volume| volume.process == *process) {
        Some(volume) if count > 1 => Err(Refusal::VolumeAlone {
            process: process.clone(),
            volume: volume.name.clone(),
            count,
        }),
        _ => Ok(()),
    }
}

/// How many instances of a process are wanted while the app is not stopped.
fn count(state: &State, app: &App, process: &ProcessName) -> u16 {
    let fixed = state.base.as_ref().and_then(|release| release.manifest.formation.get(process));
    fixed.copied().unwrap_or_else(|| app.settings.wanted(process))
}
