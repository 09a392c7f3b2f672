//! What the app says of itself in `berth.toml` and its Procfile. The host has checked `berth.toml`
//! before any buildpack runs, so what is missing here was not set.

use crate::{Failure, failure_at, procfile, text};

pub use toml::{Table, Value, de::Error as TomlError};

/// A table of `berth.toml`, empty when it is not there.
///
/// # Errors
/// The file is not UTF-8 or not TOML.
pub fn table(name: &str) -> Result<toml::Table, Failure> {
    let Some(text) = text("berth.toml")? else { return Ok(toml::Table::new()) };
    let all: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        failure_at("berth-toml", "berth.toml", None, error.message())
    })?;
    Ok(all.get(name).and_then(toml::Value::as_table).cloned().unwrap_or_default())
}

/// The processes that the app names itself, in its Procfile or in `berth.toml`; buildpacks leave
/// those alone.
///
/// # Errors
/// Either file is not valid.
pub fn processes() -> Result<Vec<(String, String)>, Failure> {
    let mut processes = match text("Procfile")? {
        Some(text) => procfile::parse(&text).map_err(|refused| {
            let message = format!("Procfile, line {}: {}", refused.line, refused.message);
            failure_at("procfile", "Procfile", Some(refused.line), message)
        })?,
        None => Vec::new(),
    };
    for (name, process) in table("processes")? {
        let command = match process.get("command") {
            Some(toml::Value::String(line)) => line.clone(),
            Some(toml::Value::Array(words)) => {
                words.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join(" ")
            }
            _ => continue,
        };
        processes.retain(|(known, _)| *known != name);
        processes.push((name, command));
    }
    Ok(processes)
}
