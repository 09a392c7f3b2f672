//! Releases of built images, and of earlier releases.

use super::{Config, ConfigName, Effect, NewRelease, Refusal, State};
use crate::{App, Digest, Manifest};

/// As many characters of a commit as people write.
const COMMIT_SHOWN: usize = 7;

pub(super) fn deploy(
    state: &State,
    image: Digest,
    manifest: &Manifest,
    commit: &str,
) -> Vec<Effect> {
    let Some(app) = &state.app else { return Vec::new() };
    let new = NewRelease {
        number: state.newest_release + 1,
        app: app.id,
        image,
        manifest: manifest.clone(),
        config_version: state.config_version,
        commit: commit.to_owned(),
        reason: format!("Deploy {}", commit.get(..COMMIT_SHOWN).unwrap_or(commit)),
    };
    new.deployed().into()
}

pub(super) fn rollback(state: &State, app: &App, to: Option<u64>) -> Result<Vec<Effect>, Refusal> {
    let target = match (&state.target, to) {
        (Some(target), _) => target,
        (None, Some(number)) => return Err(Refusal::NoSuchRelease(number)),
        (None, None) => return Err(Refusal::NothingBefore),
    };
    if state.current == Some(target.number) {
        return Err(Refusal::AlreadyCurrent(target.number));
    }
    super::volumes::fits(state, app, &target.manifest)?;
    let mut effects = Vec::new();
    if target.config_version != state.config_version {
        effects.push(Effect::RestoreConfig {
            from: state.config_version,
            to: target.config_version,
            names: differing(&state.config, &state.target_config),
        });
    }
    let new = NewRelease {
        number: state.newest_release + 1,
        app: target.app,
        image: target.image,
        manifest: target.manifest.clone(),
        config_version: target.config_version,
        commit: target.commit.clone(),
        reason: format!("Rollback to v{}", target.number),
    };
    effects.extend(new.deployed());
    Ok(effects)
}

fn differing(from: &Config, to: &Config) -> Vec<ConfigName> {
    let mut names: Vec<ConfigName> = from
        .keys()
        .chain(to.keys())
        .filter(|name| from.get(name) != to.get(name))
        .cloned()
        .collect();
    names.sort();
    names.dedup();
    names
}
