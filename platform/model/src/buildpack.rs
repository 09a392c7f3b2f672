//! What a third-party buildpack says of itself in `buildpack.toml`, which is part of its component,
//! and the groups in which buildpacks are tried.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::BuildpackId;
use crate::extension::{MANIFEST_BYTES_MAX, is_version, unfit};
use crate::text::printable;

/// The interfaces that buildpacks are written for; accepted exactly, until they are frozen.
pub const API: &str = "berth:buildpack@0.1.0";
/// Longest description, bytes.
const TEXT_BYTES_MAX: usize = 500;

/// A manifest that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildpackManifestError {
    /// It is no TOML, or has keys that do not exist.
    #[error("buildpack.toml: {0}")]
    Form(String),
    /// What it says cannot be.
    #[error("buildpack.toml: {key}: {reason}")]
    Value {
        /// Where.
        key: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

/// A manifest that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildpackManifest {
    /// Its name for ever, which is also that of its layers' folder.
    pub id: BuildpackId,
    /// `major.minor.patch`.
    pub version: String,
    /// One sentence for people.
    pub description: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    buildpack: RawBuildpack,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBuildpack {
    id: BuildpackId,
    version: String,
    api: String,
    #[serde(default)]
    description: String,
}

impl BuildpackManifest {
    /// Reads and checks the text of a manifest.
    ///
    /// # Errors
    /// `Form` with the line, `Value` with the key.
    pub fn parse(text: &str) -> Result<Self, BuildpackManifestError> {
        if text.len() > MANIFEST_BYTES_MAX {
            let kib = MANIFEST_BYTES_MAX / 1024;
            return Err(BuildpackManifestError::Form(format!("it is longer than {kib} KiB")));
        }
        let Raw { buildpack: raw } = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = 1 + text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
            let said = printable(error.message(), 400);
            BuildpackManifestError::Form(format!("line {line}: {said}"))
        })?;
        let bad = |key: &str, reason: String| {
            Err(BuildpackManifestError::Value { key: format!("buildpack.{key}"), reason })
        };
        if raw.api != API {
            let shown = printable(&raw.api, 80);
            return bad("api", format!("'{shown}' is not what this Berth speaks; write {API}"));
        }
        if !is_version(&raw.version) {
            return bad("version", "write three numbers, as in 1.2.0".to_owned());
        }
        if raw.description.len() > TEXT_BYTES_MAX {
            return bad("description", format!("use {TEXT_BYTES_MAX} bytes at most"));
        }
        if raw.description.chars().any(unfit) {
            let shown = printable(&raw.description, 80);
            return bad("description", format!("'{shown}': write plain text of one line"));
        }
        Ok(Self { id: raw.id, version: raw.version, description: raw.description })
    }
}

/// Most buildpacks of a group.
const MEMBERS_MAX: usize = 16;

/// Buildpacks that build together, as `node,static?`: with `?` the group also stands without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildpackGroup(Vec<(BuildpackId, bool)>);

/// A text that is not a group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a group of buildpacks: {reason}")]
pub struct BuildpackGroupError {
    text: String,
    reason: String,
}

impl BuildpackGroup {
    /// A group of one.
    pub fn of(id: BuildpackId) -> Self {
        Self(vec![(id, false)])
    }

    /// Its members, each with whether the group also stands without it.
    pub fn members(&self) -> &[(BuildpackId, bool)] {
        &self.0
    }

    /// Whether it names a buildpack.
    pub fn names(&self, id: &BuildpackId) -> bool {
        self.0.iter().any(|(member, _)| member == id)
    }

    /// What is left of it when a buildpack goes: nothing where it needs that one.
    pub fn without(&self, id: &BuildpackId) -> Option<Self> {
        if self.0.iter().any(|(member, optional)| member == id && !optional) {
            return None;
        }
        let left: Vec<_> = self.0.iter().filter(|(member, _)| member != id).cloned().collect();
        (!left.is_empty()).then_some(Self(left))
    }
}

impl fmt::Display for BuildpackGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (id, optional)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{id}{}", if *optional { "?" } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for BuildpackGroup {
    type Err = BuildpackGroupError;

    fn from_str(text: &str) -> Result<Self, BuildpackGroupError> {
        let bad = |reason: String| BuildpackGroupError { text: printable(text, 200), reason };
        let mut members: Vec<(BuildpackId, bool)> = Vec::new();
        for word in text.split(',') {
            let (id, optional) = word.strip_suffix('?').map_or((word, false), |id| (id, true));
            let id: BuildpackId = id.parse().map_err(|error| bad(format!("{error}")))?;
            if members.iter().any(|(member, _)| *member == id) {
                return Err(bad(format!("it names {id} twice")));
            }
            if members.len() >= MEMBERS_MAX {
                return Err(bad(format!("{MEMBERS_MAX} buildpacks are possible")));
            }
            members.push((id, optional));
        }
        Ok(Self(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[buildpack]\nid = \"acme-make\"\nversion = \"1.2.0\"\n\
                        api = \"berth:buildpack@0.1.0\"\ndescription = \"Builds with make.\"\n";

    fn refusal(text: &str) -> String {
        BuildpackManifest::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_manifest_is_read_whole() {
        let manifest = BuildpackManifest::parse(GOOD).unwrap();
        assert_eq!(manifest.id.as_str(), "acme-make");
        assert_eq!((&*manifest.version, &*manifest.description), ("1.2.0", "Builds with make."));
    }

    #[test]
    fn a_group_is_read_as_it_is_written() {
        for text in ["node", "node,static?,procfile?"] {
            assert_eq!(text.parse::<BuildpackGroup>().unwrap().to_string(), text);
        }
        let many = (0..17).map(|n| format!("a{n}")).collect::<Vec<_>>().join(",");
        for (bad, told) in [
            ("", "'' is not a valid buildpack id"),
            ("node,", "'' is not a valid buildpack id"),
            ("node static", "'node static' is not a valid buildpack id"),
            ("node,node?", "names node twice"),
            (many.as_str(), "16 buildpacks are possible"),
        ] {
            let refused = bad.parse::<BuildpackGroup>().unwrap_err().to_string();
            assert!(refused.contains(told), "{refused}");
        }
    }

    #[test]
    fn a_group_goes_with_the_buildpack_that_it_needs() {
        let group: BuildpackGroup = "node,static?".parse().unwrap();
        assert_eq!(group.without(&"static".parse().unwrap()).unwrap().to_string(), "node");
        assert_eq!(group.without(&"node".parse().unwrap()), None);
        assert_eq!(
            "node?".parse::<BuildpackGroup>().unwrap().without(&"node".parse().unwrap()),
            None
        );
    }

    #[test]
    fn a_mistake_is_named_with_its_line_or_its_key() {
        for (from, to, told) in [
            ("description", "descr", "buildpack.toml: line 5: unknown field `descr`"),
            (
                "acme-make",
                "Acme/make",
                "buildpack.toml: line 2: 'Acme/make' is not a valid buildpack id",
            ),
            ("1.2.0", "1.2", "buildpack.toml: buildpack.version: write three numbers"),
            ("@0.1.0", "@0.2.0", "write berth:buildpack@0.1.0"),
            ("with make.", "\\u001B[2Jwith", "buildpack.toml: buildpack.description: "),
        ] {
            let refused = refusal(&GOOD.replace(from, to));
            assert!(refused.contains(told), "{refused}");
            assert!(!refused.contains('\u{1b}'), "{refused}");
        }
        let long = format!("# {}\n{GOOD}", "x".repeat(MANIFEST_BYTES_MAX));
        assert!(refusal(&long).contains("it is longer than 64 KiB"));
    }
}
