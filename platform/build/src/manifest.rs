//! What an app says of itself: `berth.toml`, `app.json`, `project.toml`, and how that and the
//! buildpacks' proposals become the manifest of a release. Pure: texts in, values out; an error
//! names its file and line. (The Procfile is read by the buildpack of that name.)

mod app_json;
mod berth_toml;
mod merge;
mod project_toml;

pub use app_json::{AppJson, ConfigWish};
pub use berth_toml::{BerthToml, ProcessSettings};
pub use merge::{Proposed, merge};
pub use project_toml::ProjectToml;

/// A file that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {message}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub struct ManifestError {
    /// Which file.
    pub file: &'static str,
    /// From 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
}

/// Largest of these files, bytes.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 20;

/// The name among `known` that was probably meant.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name.to_lowercase(), candidate), *candidate))
        .filter(|(distance, candidate)| {
            *distance <= 3.max(candidate.len() / 3) && *distance < candidate.len()
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// `unknown key 'x'; did you mean 'y'?`, or the keys that there are.
fn unknown_key(name: &str, known: &[&str]) -> String {
    let name: String = name.chars().take(60).flat_map(char::escape_default).collect();
    match nearest(&name, known) {
        Some(near) => format!("unknown key '{name}'. Did you mean '{near}'?"),
        None => format!("unknown key '{name}'. There are: {}.", known.join(", ")),
    }
}

/// The line, from 1, of a byte offset.
fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}
