//! What is in each stack, beside what Debian calls essential.

use std::collections::BTreeSet;

use berth_container::Stack;
use berth_model::PackageName;
use berth_model::addon::PACKAGES_MAX;

use crate::failure::Failure;

/// The release that both stacks are made of.
pub(super) const RELEASE: &str = "bookworm";

/// What any app may expect at run time: the libraries that compiled extensions are linked with,
/// certificates, zones, names of media types and services, Debian's own Python.
const RUN: &[&str] = &[
    "ca-certificates",
    "libatomic1",
    "libffi8",
    "libpq5",
    "libsqlite3-0",
    "libssl3",
    "libstdc++6",
    "media-types",
    "netbase",
    "python3",
    "tzdata",
    "usr-is-merged",
    "zlib1g",
];

/// What builds need on top. Other languages come from the inventory, not from here.
const BUILD: &[&str] = &[
    "build-essential",
    "curl",
    "git",
    "libffi-dev",
    "libpq-dev",
    "libsqlite3-dev",
    "libssl-dev",
    "nginx",
    "pkg-config",
    "python3-dev",
    "python3-pip",
    "python3-venv",
    "xz-utils",
    "zlib1g-dev",
];

/// What any add-on may expect: certificates, zones, names of services.
const ADDON: &[&str] = &["ca-certificates", "netbase", "tzdata", "usr-is-merged"];

/// Names of packages, sorted within each part.
pub(crate) fn packages_of(stack: Stack) -> Vec<String> {
    let names = match stack {
        Stack::Debian12Run => RUN.to_vec(),
        Stack::Debian12Build => [RUN, BUILD].concat(),
    };
    names.into_iter().map(str::to_owned).collect()
}

/// The same for an add-on. Names of packages have no form that apt takes for a version, a file or
/// an option.
pub(crate) fn packages_of_addon(wanted: &BTreeSet<PackageName>) -> Result<Vec<String>, Failure> {
    if !(1..=PACKAGES_MAX).contains(&wanted.len()) {
        let count = wanted.len();
        return Err(Failure::refused(format!(
            "{count} packages; 1 to {PACKAGES_MAX} are possible"
        )));
    }
    let own = ADDON.iter().copied().map(str::to_owned);
    Ok(own.chain(wanted.iter().map(ToString::to_string)).collect())
}
