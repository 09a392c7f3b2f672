//! The web console: installed, checked, tested and built into `web/dist`, which `berthd` embeds.
//!
//! Nothing is done where nothing of it has changed, so that the programs need not be compiled again.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::shell;

/// What the tools of the console need (`engines` in their packages).
const NODE: (u32, u32) = (20, 19);
/// What it is built from, below the root.
const SOURCES: &[&str] = &[
    "web/src",
    "web/static",
    "web/scripts",
    "web/package.json",
    "web/package-lock.json",
    "web/svelte.config.js",
    "web/vite.config.js",
    "web/tsconfig.json",
];

/// Checks, tests and builds it, whatever was done before.
pub(crate) fn all() -> Result<()> {
    check()?;
    bundle()
}

/// Builds it where something has changed.
pub(crate) fn build() -> Result<()> {
    let built = std::fs::read_to_string(stamp()).unwrap_or_default();
    install()?;
    if built == sources()? && folder().join("dist/site/index.html").exists() {
        return Ok(());
    }
    bundle()
}

fn bundle() -> Result<()> {
    npm("Building the console", &["run", "--silent", "build"])?;
    std::fs::write(stamp(), sources()?).context("cannot write web/dist/stamp")
}

/// Its types, whether those of the API are what its document says, and its unit tests.
pub(crate) fn check() -> Result<()> {
    install()?;
    npm("Checking the console", &["run", "--silent", "check"])?;
    npm("Testing the console's functions", &["test", "--silent"])
}

/// What its lockfile names, and nothing else.
fn install() -> Result<()> {
    let lock = std::fs::read(folder().join("package-lock.json"))?;
    let installed = folder().join("node_modules/.berth-lock");
    if std::fs::read(&installed).ok().as_ref() == Some(&lock) {
        return Ok(());
    }
    let version = shell::capture(shell::command("node").arg("--version"))?;
    if !is_new_enough(&version) {
        bail!(
            "the console is built with Node {}.{} or newer; this machine has {}",
            NODE.0,
            NODE.1,
            version.trim()
        );
    }
    npm("Installing what the console is built with", &["ci", "--no-audit", "--no-fund"])?;
    Ok(std::fs::write(installed, lock)?)
}

/// Of a version like `v20.19.4`.
fn is_new_enough(version: &str) -> bool {
    let mut parts = version.trim().trim_start_matches('v').split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= NODE,
        _ => false,
    }
}

fn npm(name: &str, arguments: &[&str]) -> Result<()> {
    shell::step(name, || {
        shell::capture(shell::command("npm").current_dir(folder()).args(arguments)).map(drop)
    })
}

fn folder() -> PathBuf {
    shell::root().join("web")
}

/// What was built last.
fn stamp() -> PathBuf {
    folder().join("dist/stamp")
}

/// Tells what it is built from apart from other states of it.
fn sources() -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for source in SOURCES {
        add(&shell::root().join(source), &mut hasher)?;
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn add(path: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    path.hash(hasher);
    if path.is_dir() {
        let mut entries: Vec<_> = std::fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()?;
        entries.sort();
        return entries.iter().try_for_each(|entry| add(entry, hasher));
    }
    let content = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    content.hash(hasher);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_node_is_told_from_a_new_one() {
        for good in ["v20.19.0\n", "v20.20.2", "v22.0.0"] {
            assert!(is_new_enough(good), "{good}");
        }
        for bad in ["v18.20.1", "v20.18.9", "", "node"] {
            assert!(!is_new_enough(bad), "{bad}");
        }
    }
}
