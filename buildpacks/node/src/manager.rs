//! The package manager: by `packageManager`, else by the lock file.

use berth_buildpack_kit::{Failure, failure_at, has, inventory, text, warn};

use crate::package::Package;
use crate::version::{self, Range};

/// A manager by its commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Npm,
    Pnpm,
    /// Yarn 1.
    Yarn,
    /// Yarn 2 and later.
    Berry,
}

/// A manager of the inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manager {
    pub(crate) tool: Tool,
    pub(crate) version: String,
    pub(crate) integrity: String,
    /// There is a lock file, so the installation is strict.
    pub(crate) locked: bool,
    /// A Yarn that the app carries, relative to the workspace; then nothing is fetched.
    pub(crate) vendored: Option<String>,
}

impl Tool {
    /// Package in the inventory.
    pub(crate) fn package(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pnpm => "pnpm",
            Self::Yarn => "yarn",
            Self::Berry => "@yarnpkg/cli-dist",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pnpm => "pnpm",
            Self::Yarn | Self::Berry => "yarn",
        }
    }

    /// Files that decide what is installed.
    pub(crate) fn files(self) -> &'static [&'static str] {
        match self {
            Self::Npm => &["package.json", "package-lock.json", "npm-shrinkwrap.json", ".npmrc"],
            Self::Pnpm => &["package.json", "pnpm-lock.yaml", ".npmrc", ".pnpmfile.cjs"],
            Self::Yarn => &["package.json", "yarn.lock", ".npmrc", ".yarnrc"],
            Self::Berry => &["package.json", "yarn.lock", ".yarnrc.yml"],
        }
    }
}

const LOCKS: [(&str, Tool); 4] = [
    ("package-lock.json", Tool::Npm),
    ("npm-shrinkwrap.json", Tool::Npm),
    ("yarn.lock", Tool::Yarn),
    ("pnpm-lock.yaml", Tool::Pnpm),
];

/// Chooses it for an app and a version of Node.
pub(crate) fn choose(package: &Package, node: &str) -> Result<Manager, Failure> {
    let locks: Vec<(&str, Tool)> = LOCKS.into_iter().filter(|(file, _)| has(file)).collect();
    let named = package.manager().map(named).transpose()?;
    let tool = match (&named, locks.as_slice()) {
        (Some((tool, _)), _) => *tool,
        (None, []) => Tool::Npm,
        (None, [(_, tool), rest @ ..]) if rest.iter().all(|(_, other)| other == tool) => *tool,
        (None, locks) => {
            let files: Vec<&str> = locks.iter().map(|(file, _)| *file).collect();
            let message = format!(
                "there are lock files of several package managers: {}. Keep one, or set packageManager in package.json.",
                files.join(", ")
            );
            return Err(failure_at("lock-files", files[0], None, message));
        }
    };
    let tool =
        if tool == Tool::Yarn && named.is_none() && is_berry()? { Tool::Berry } else { tool };
    let locked = locks.iter().any(|(_, lock)| lock.name() == tool.name());
    if !locked {
        warn(
            "There is no lock file: every build may get other versions. Commit the lock file of your package manager.",
        );
    }
    if tool == Tool::Berry
        && let Some(path) = vendored()?
    {
        return Ok(Manager {
            tool,
            version: "of the app".to_owned(),
            integrity: String::new(),
            locked,
            vendored: Some(path),
        });
    }
    let wanted = match (named, package.engine(tool.name())) {
        (Some((_, exact)), _) => exact,
        (None, Some(range)) => range.to_owned(),
        (None, None) => usual(tool, node)?.to_owned(),
    };
    let entries = inventory::entries("node", tool.package());
    let versions: Vec<String> = entries.iter().map(|entry| entry.version.clone()).collect();
    let range = Range::parse(&wanted);
    let entry = entries
        .iter()
        .filter(|entry| {
            version::version(&entry.version)
                .zip(range.as_ref())
                .is_some_and(|(version, range)| range.contains(version))
        })
        .max_by_key(|entry| version::version(&entry.version));
    let entry = entry.ok_or_else(|| {
        let message = format!(
            "package.json asks for {} {wanted}, which is not in the inventory. There are: {}.",
            tool.name(),
            version::lines(&versions)
        );
        failure_at("no-manager", "package.json", None, message)
    })?;
    Ok(Manager {
        tool,
        version: entry.version.clone(),
        integrity: entry.integrity.clone(),
        locked,
        vendored: None,
    })
}

/// `pnpm@9.1.0+sha512.…`: the tool and its exact version. (The hash of the inventory is checked.)
fn named(text: &str) -> Result<(Tool, String), Failure> {
    let refuse = || {
        failure_at(
            "package-manager",
            "package.json",
            None,
            format!(
                "'{text}' in packageManager is not of the form npm@VERSION, yarn@VERSION or pnpm@VERSION."
            ),
        )
    };
    let (name, version) = text.split_once('@').ok_or_else(refuse)?;
    let version = version.split('+').next().unwrap_or_default();
    let numbers = version::version(version).ok_or_else(refuse)?;
    let tool = match (name, numbers[0]) {
        ("npm", _) => Tool::Npm,
        ("pnpm", _) => Tool::Pnpm,
        ("yarn", 0 | 1) => Tool::Yarn,
        ("yarn", _) => Tool::Berry,
        _ => return Err(refuse()),
    };
    Ok((tool, version.to_owned()))
}

/// The versions that go with a Node, where the app says nothing.
fn usual(tool: Tool, node: &str) -> Result<&'static str, Failure> {
    let node = version::version(node).unwrap_or_default();
    Ok(match tool {
        Tool::Npm if node >= [24, 0, 0] => "11",
        Tool::Npm if node >= [20, 5, 0] => "10",
        Tool::Npm => "9",
        Tool::Yarn => "1",
        Tool::Berry => "4",
        Tool::Pnpm => {
            // The lock file's format says which pnpm wrote it.
            let lock = text("pnpm-lock.yaml")?.unwrap_or_default();
            let format = lock
                .lines()
                .find_map(|line| line.strip_prefix("lockfileVersion:"))
                .unwrap_or_default();
            if format.trim().trim_matches(['\'', '"']).starts_with("6.") { "8" } else { "10" }
        }
    })
}

fn is_berry() -> Result<bool, Failure> {
    Ok(has(".yarnrc.yml")
        || text("yarn.lock")?
            .unwrap_or_default()
            .lines()
            .take(20)
            .any(|line| line.starts_with("__metadata:")))
}

/// `yarnPath` of `.yarnrc.yml`, when the file is in the commit.
fn vendored() -> Result<Option<String>, Failure> {
    let settings = text(".yarnrc.yml")?.unwrap_or_default();
    let path = settings
        .lines()
        .find_map(|line| line.strip_prefix("yarnPath:"))
        .map(|path| path.trim().trim_matches(['\'', '"']).trim_start_matches("./").to_owned());
    let plain = |path: &String| {
        has(path) && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
    };
    Ok(path.filter(plain))
}
