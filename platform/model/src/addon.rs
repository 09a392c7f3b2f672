//! Add-ons: databases, caches and the like, which an extension describes and the platform runs.
//!
//! An add-on is an app of its own that nobody pushes to: one release whose image is made of Debian
//! packages, volumes, an environment with secrets that the platform makes. An app that is attached
//! to it reaches one port of it, and has the add-on's exports in its configuration.

mod spec;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use spec::{Blueprint, PACKAGES_MAX, Spec, SpecError, SpecProcess, SpecSecret, SpecVolume};

use crate::AppName;
use crate::extension::ExtensionId;
use crate::plan::{Config, ConfigName};

/// Most add-ons that one app is attached to.
pub const LINKS_MAX: usize = 16;
/// Most backups of one add-on.
pub const BACKUPS_MAX: usize = 100;
/// The domain of add-ons in the name service of instances: `NAME.internal`.
pub const DOMAIN: &str = "internal";

/// What makes an app an add-on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addon {
    /// The extension that describes it.
    pub extension: ExtensionId,
    /// What was chosen when it was made, an object.
    pub options: serde_json::Value,
    /// The TCP port that it listens on.
    pub port: u16,
    /// What an attached app is told, by the names of variables; `${host}` and `${secret:NAME}`
    /// stand for values.
    pub exports: Vec<(ConfigName, String)>,
}

/// An app's way to an add-on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The one port that the app's instances reach.
    pub port: u16,
    /// Variables of the app that came with it and go with it.
    pub names: BTreeSet<ConfigName>,
}

/// The name under which instances find an add-on.
pub fn host(name: &AppName) -> String {
    format!("{name}.{DOMAIN}")
}

/// Puts the values into an export: `${host}` and `${secret:NAME}` of `config`.
///
/// # Errors
/// What stands there and is not known.
pub fn fill(template: &str, host: &str, config: &Config) -> Result<String, String> {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        let (word, behind) = after.split_once('}').ok_or("a '${' without its '}'")?;
        text.push_str(before);
        match word.strip_prefix("secret:") {
            None if word == "host" => text.push_str(host),
            Some(name) => {
                let value = name.parse().ok().and_then(|name: ConfigName| config.get(&name));
                let value = value.ok_or_else(|| format!("there is no secret '{name}'"))?;
                text.push_str(value.reveal());
            }
            None => {
                let shown = crate::text::printable(word, 80);
                return Err(format!(
                    "'${{{shown}}}' is not known: use ${{host}} or ${{secret:NAME}}"
                ));
            }
        }
        rest = behind;
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Secret;

    #[test]
    fn an_export_has_the_host_and_the_secrets_and_nothing_else() {
        let config = Config::from([("PASSWORD".parse().unwrap(), Secret::new("abc"))]);
        let fill = |text| fill(text, "db.internal", &config);
        assert_eq!(
            fill("postgres://app:${secret:PASSWORD}@${host}:5432/app").unwrap(),
            "postgres://app:abc@db.internal:5432/app"
        );
        assert_eq!(fill("plain $x {y}").unwrap(), "plain $x {y}");
        for bad in ["${secret:OTHER}", "${HOME}", "${host", "${secret:}"] {
            assert!(fill(bad).is_err(), "{bad}");
        }
    }
}
