//! A folder that holds an extension: its manifest, and what it is written in.

use std::path::{Path, PathBuf};

use berth_model::extension::{ExtensionManifest, ManifestError};

use crate::arguments::Language;
use crate::failure::Failure;

/// The manifest's file.
const MANIFEST: &str = "extension.toml";

/// An extension that is being written.
pub(crate) struct Project {
    pub(crate) folder: PathBuf,
    pub(crate) text: String,
    pub(crate) manifest: ExtensionManifest,
    pub(crate) language: Language,
}

impl Project {
    /// Reads the manifest of a folder.
    pub(crate) fn open(folder: &Path) -> Result<Self, Failure> {
        let file = folder.join(MANIFEST);
        let text = std::fs::read_to_string(&file).map_err(|error| {
            Failure::failed(format!("cannot read {}: {error}", file.display())).with_hint(
                "`berth ext new NAME --kind KIND` makes the folder of an extension; run this in it",
            )
        })?;
        let manifest = ExtensionManifest::parse(&text)
            .map_err(|error| Failure::failed(located(&error, &text, &file)))?;
        let language = language(folder)?;
        let folder = std::path::absolute(folder)?;
        Ok(Self { folder, text, manifest, language })
    }

    /// The manifest's path.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join(MANIFEST)
    }

    /// The id without the publisher.
    pub(crate) fn name(&self) -> &str {
        let id = self.manifest.id.as_str();
        id.split_once('.').map_or(id, |(_, name)| name)
    }

    /// Where the component is put.
    pub(crate) fn component(&self) -> PathBuf {
        self.folder.join(format!("{}.wasm", self.name()))
    }

    /// The component, if it was built.
    pub(crate) fn built(&self) -> Result<PathBuf, Failure> {
        let component = self.component();
        if component.is_file() {
            return Ok(component);
        }
        Err(Failure::failed(format!("there is no {}: build it first", component.display()))
            .with_hint("berth ext build"))
    }

    /// Where the packed component is put.
    pub(crate) fn packed(&self) -> PathBuf {
        let ExtensionManifest { id, version, .. } = &self.manifest;
        self.folder.join(format!("{id}-{version}.wasm"))
    }
}

/// The files of a folder's cases, sorted; at least one.
pub(crate) fn cases(folder: &Path, only: Option<&str>) -> Result<Vec<PathBuf>, Failure> {
    let folder = folder.join("tests");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .filter(|path| only.is_none_or(|only| path.file_stem().is_some_and(|stem| stem == only)))
        .collect();
    cases.sort();
    if cases.is_empty() {
        let name = only.unwrap_or("*");
        return Err(Failure::failed(format!("there is no {}/{name}.toml", folder.display())));
    }
    Ok(cases)
}

/// What a folder is written in, by the file that its tools look for.
fn language(folder: &Path) -> Result<Language, Failure> {
    let known = [
        ("Cargo.toml", Language::Rust),
        ("extension.js", Language::Js),
        ("extension.py", Language::Python),
    ];
    known.into_iter().find(|(file, _)| folder.join(file).is_file()).map(|(_, found)| found).ok_or_else(
        || {
            Failure::failed(format!(
                "{} has none of Cargo.toml (Rust), extension.js (JavaScript) and extension.py (Python): \
                 there is nothing to build",
                folder.display()
            ))
        },
    )
}

/// The refusal of a manifest with its file, and the line where it is known.
fn located(error: &ManifestError, text: &str, file: &Path) -> String {
    let said = error.to_string();
    let said = said.strip_prefix("extension.toml: ").unwrap_or(&said);
    let line = match error {
        ManifestError::Value { key, .. } => line_of(text, key),
        ManifestError::Form(_) => None,
    };
    match (line, said.strip_prefix("line ")) {
        (Some(line), _) => format!("{}:{line}: {said}", file.display()),
        (None, Some(said)) => format!("{}:{said}", file.display()),
        (None, None) => format!("{}: {said}", file.display()),
    }
}

/// The line of a key `table.key`, from 1.
pub(crate) fn line_of(text: &str, key: &str) -> Option<usize> {
    let (table, name) = key.split_once('.')?;
    let mut at = "";
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(head) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            at = head.trim();
            if at == key {
                return Some(index + 1);
            }
        } else if at == table && line.split('=').next().is_some_and(|left| left.trim() == name) {
            return Some(index + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[extension]\nid = \"a.b\"\nversion = \"1\"\nkind = \"hook\"\n\
                        api = \"berth:hook@0.1.0\"\n\n[config.schema]\ntype = \"array\"\n";

    fn refusal(text: &str) -> String {
        let error = ExtensionManifest::parse(text).unwrap_err();
        located(&error, text, Path::new("x/extension.toml"))
    }

    #[test]
    fn a_refused_value_is_named_with_file_and_line() {
        assert!(refusal(TEXT).starts_with("x/extension.toml:3: extension.version: "));
        let schema = TEXT.replace("\"1\"", "\"1.0.0\"");
        assert!(refusal(&schema).starts_with("x/extension.toml:7: config.schema: "));
    }

    #[test]
    fn a_mistake_of_form_is_named_with_file_and_line() {
        assert!(refusal(&TEXT.replace("kind", "kin")).starts_with("x/extension.toml:4: unknown"));
    }
}
