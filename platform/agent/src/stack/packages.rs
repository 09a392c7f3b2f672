//! What is in each stack, beside what Debian calls essential.

use berth_container::Stack;

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

/// Names of packages, sorted within each part.
pub(super) fn packages(stack: Stack) -> Vec<&'static str> {
    match stack {
        Stack::Debian12Run => RUN.to_vec(),
        Stack::Debian12Build => [RUN, BUILD].concat(),
    }
}
