//! Formatting, lints and the invariants of the workspace that README.md states.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;

/// Crates that hold the flow; none of them may know another.
const ROOMS: &[&str] =
    &["berth-push", "berth-build", "berth-image", "berth-deploy", "berth-route", "berth-store"];
/// Crates that any room may stand on.
const FLOORS: &[&str] = &["berth-extensions", "berth-blobs", "berth-container"];
/// Heavy packages and the only crates that may name them.
const OWNERS: &[(&str, &[&str])] = &[
    ("wasmtime", &["berth-extensions"]),
    ("wasmtime-wasi", &["berth-extensions"]),
    ("wasmtime-wasi-http", &["berth-extensions"]),
    ("git2", &["berth-push"]),
    ("sqlx", &["berth-store"]),
    ("libcontainer", &["berth-agent"]),
    ("bollard", &["berth-deploy"]),
    ("notify", &["berthd"]),
];

/// Runs every check; the first that fails ends it.
pub(crate) fn run() -> Result<()> {
    shell::step("Checking the rules of the workspace", invariants)?;
    shell::step("Checking that released interfaces are kept", crate::wit::check)?;
    shell::step("Checking the formatting", || {
        shell::capture(shell::command("cargo").args(["fmt", "--all", "--check"])).map(drop)
    })?;
    crate::web::check()?;
    shell::say("-----> Running clippy");
    clippy(&["--workspace", "--", "-D", "warnings"])?;
    // Helpers of tests may unwrap as tests do, which the lint cannot see.
    clippy(&["--workspace", "--all-targets", "--", "-D", "warnings", "-A", "clippy::unwrap_used"])
}

fn clippy(arguments: &[&str]) -> Result<()> {
    shell::run(shell::command("cargo").args(["clippy", "--quiet", "--locked"]).args(arguments))
}

fn invariants() -> Result<()> {
    let text = shell::capture(shell::command("cargo").args([
        "metadata",
        "--format-version=1",
        "--no-deps",
        "--locked",
    ]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata is no JSON")?;
    let broken = broken_rules(&normal_dependencies(&metadata));
    if !broken.is_empty() {
        bail!("the workspace breaks its rules:\n  {}", broken.join("\n  "));
    }
    Ok(())
}

/// Package -> the packages that its shipped code names.
fn normal_dependencies(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let empty = Vec::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    metadata["packages"]
        .as_array()
        .unwrap_or(&empty)
        .iter()
        .map(|package| {
            let names = package["dependencies"]
                .as_array()
                .unwrap_or(&empty)
                .iter()
                .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
                .map(|dependency| text(&dependency["name"]))
                .collect();
            (text(&package["name"]), names)
        })
        .collect()
}

fn broken_rules(packages: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut broken = Vec::new();
    let own: BTreeSet<&str> = packages.keys().map(String::as_str).collect();
    for (package, names) in packages {
        let known: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| own.contains(name)).collect();
        if package == "berth-model" && !known.is_empty() {
            broken.push(format!("berth-model knows nobody, but depends on {known:?}"));
        }
        if ROOMS.contains(&package.as_str()) {
            for name in
                known.iter().filter(|name| **name != "berth-model" && !FLOORS.contains(name))
            {
                broken.push(format!("{package} is a room and may stand on model and floors only, but depends on {name}"));
            }
        }
        if package == "berth" && names.contains("berth-extensions") {
            broken.push("berth (the CLI) must not link wasmtime".to_owned());
        }
        for (heavy, owners) in OWNERS {
            if names.contains(*heavy) && !owners.contains(&package.as_str()) {
                broken.push(format!("{package} depends on {heavy}, which belongs to {owners:?}"));
            }
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(list: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<String>> {
        list.iter()
            .map(|(name, of)| ((*name).to_owned(), of.iter().map(|n| (*n).to_owned()).collect()))
            .collect()
    }

    #[test]
    fn a_room_that_knows_another_room_is_named() {
        let broken = broken_rules(&packages(&[
            ("berth-push", &["berth-build", "berth-model"]),
            ("berth-build", &[]),
            ("berth-model", &[]),
        ]));
        assert_eq!(broken.len(), 1);
        assert!(broken[0].starts_with("berth-push"), "{broken:?}");
    }

    #[test]
    fn a_heavy_package_outside_its_owner_is_named() {
        let broken = broken_rules(&packages(&[
            ("berthd", &["wasmtime"]),
            ("berth-extensions", &["wasmtime"]),
        ]));
        assert_eq!(broken.len(), 1);
    }

    #[test]
    fn the_workspace_as_designed_breaks_no_rule() {
        let rooms: &[&str] = &["berth-model", "berth-blobs", "git2"];
        assert_eq!(
            broken_rules(&packages(&[
                ("berth-push", rooms),
                ("berth-model", &[]),
                ("berth-blobs", &["berth-model"])
            ])),
            Vec::<String>::new()
        );
    }
}
