//! An app's environment and its changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Effect, NewRelease, Refusal, State};
use crate::App;

/// Most variables of one app.
pub const CONFIG_NAMES_MAX: usize = 512;
/// Most bytes of names and values together; a third of what Linux gives a new process.
pub const CONFIG_BYTES_MAX: usize = 512 * 1024;
/// Most bytes of one variable; Linux takes 128 KiB for `NAME=value`.
const VALUE_BYTES_MAX: usize = 64 * 1024;
const NAME_BYTES_MAX: usize = 256;

/// Variables by name.
pub type Config = BTreeMap<ConfigName, Secret>;

/// The name of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ConfigName(String);

impl ConfigName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConfigName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ConfigName {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let good = text.len() <= NAME_BYTES_MAX
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && text.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        if good {
            Ok(Self(text.to_owned()))
        } else {
            let shown = text.chars().take(80).flat_map(char::escape_default).collect();
            Err(Refusal::BadConfigName(shown))
        }
    }
}

impl<'de> Deserialize<'de> for ConfigName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that no form of output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for encryption, for the environment of an instance, and for who may read it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

pub(super) fn configure(
    state: &State,
    app: &App,
    set: &Config,
    unset: &BTreeSet<ConfigName>,
    release: bool,
) -> Result<Vec<Effect>, Refusal> {
    if let Some(name) = unset.iter().find(|name| set.contains_key(name)) {
        return Err(Refusal::SetAndUnset(name.clone()));
    }
    for (name, value) in set {
        check(name, value)?;
    }
    let mut effects = Vec::new();
    let mut after = state.config.clone();
    for (name, value) in set {
        let before = after.insert(name.clone(), value.clone());
        if before.as_ref() != Some(value) {
            let (name, value) = (name.clone(), value.clone());
            effects.push(Effect::SetConfig { name, value, replaces: before.is_some() });
        }
    }
    for name in unset {
        if after.remove(name).is_some() {
            effects.push(Effect::UnsetConfig { name: name.clone() });
        }
    }
    let bytes: usize = after.iter().map(|(name, value)| name.0.len() + value.0.len() + 2).sum();
    if after.len() > CONFIG_NAMES_MAX || bytes > CONFIG_BYTES_MAX {
        return Err(Refusal::ConfigTooLarge { names: after.len(), bytes });
    }
    // A deployment that failed for want of a variable is tried again with it.
    let base = state.base.as_ref().filter(|_| release && !effects.is_empty());
    if let Some(base) = base {
        let new = NewRelease {
            number: state.newest_release + 1,
            app: app.id,
            image: base.image,
            manifest: base.manifest.clone(),
            config_version: state.config_newest + 1,
            commit: base.commit.clone(),
            reason: reason(&effects),
        };
        effects.extend(new.deployed());
    }
    Ok(effects)
}

fn check(name: &ConfigName, value: &Secret) -> Result<(), Refusal> {
    if name.0 == "PORT" {
        return Err(Refusal::ReservedConfigName(name.clone()));
    }
    if value.0.len() > VALUE_BYTES_MAX {
        return Err(Refusal::ConfigValueTooLarge { name: name.clone(), bytes: value.0.len() });
    }
    if value.0.contains('\0') {
        return Err(Refusal::ConfigValueNul(name.clone()));
    }
    Ok(())
}

/// `Set A, B config`, `Unset C config`, `Set A, unset C config`.
fn reason(effects: &[Effect]) -> String {
    let names = |pick: fn(&Effect) -> Option<&ConfigName>| {
        let names: Vec<&str> = effects.iter().filter_map(pick).map(ConfigName::as_str).collect();
        match names.as_slice() {
            [] => None,
            [.., _] if names.len() > 3 => {
                Some(format!("{} and {} more", names[..3].join(", "), names.len() - 3))
            }
            _ => Some(names.join(", ")),
        }
    };
    let set = names(|effect| match effect {
        Effect::SetConfig { name, .. } => Some(name),
        _ => None,
    });
    let unset = names(|effect| match effect {
        Effect::UnsetConfig { name } => Some(name),
        _ => None,
    });
    match (set, unset) {
        (Some(set), Some(unset)) => format!("Set {set}, unset {unset} config"),
        (Some(set), None) => format!("Set {set} config"),
        (None, Some(unset)) => format!("Unset {unset} config"),
        (None, None) => "Config unchanged".to_owned(),
    }
}
