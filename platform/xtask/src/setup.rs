//! Installs what is missing. Everything here is cheap when nothing is.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::shell;

/// What building and running Berth needs, as Debian packages and a file that shows each is there.
const PLATFORM: &[(&str, &str)] = &[
    ("ca-certificates", "/etc/ssl/certs/ca-certificates.crt"),
    ("e2fsprogs", "/sbin/mkfs.ext4"),
    ("git", "/usr/bin/git"),
    ("iproute2", "/usr/sbin/ip"),
    ("iptables", "/usr/sbin/iptables"),
    ("libseccomp-dev", "/usr/include/seccomp.h"),
    ("mmdebstrap", "/usr/bin/mmdebstrap"),
    ("nftables", "/usr/sbin/nft"),
    ("openssh-client", "/usr/bin/ssh"),
    ("pkg-config", "/usr/bin/pkg-config"),
];

/// What the tests need besides: programs that were not written here, to test against.
const TESTS: &[(&str, &str)] = &[
    ("busybox-static", "/bin/busybox"),
    ("chromium", "/usr/bin/chromium"),
    ("curl", "/usr/bin/curl"),
    ("dnsmasq-base", "/usr/sbin/dnsmasq"),
    ("docker-registry", "/usr/bin/docker-registry"),
    ("docker.io", "/usr/sbin/dockerd"),
    ("kmod", "/sbin/modprobe"),
    ("libfaketime", "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"),
    ("procps", "/usr/bin/ps"),
    ("python3-pip", "/usr/bin/pip3"),
    ("qemu-system-common", "/usr/lib/qemu/virtiofsd"),
    ("qemu-system-x86", "/usr/bin/qemu-system-x86_64"),
    ("rsyslog", "/usr/sbin/rsyslogd"),
    ("rsyslog-gnutls", "/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so"),
    ("skopeo", "/usr/bin/skopeo"),
    ("sqlite3", "/usr/bin/sqlite3"),
    ("umoci", "/usr/bin/umoci"),
];

/// What Wasm apps are measured beside, and with.
const WASM_BENCH: &[(&str, &str)] = &[("nginx-light", "/usr/sbin/nginx"), ("wrk", "/usr/bin/wrk")];

/// The targets of guests and of the program that is PID 1 in containers.
const TARGETS: &[&str] = &["wasm32-wasip2", "x86_64-unknown-linux-musl"];

/// Whatever `cargo xtask up` needs.
pub(crate) fn for_up() -> Result<()> {
    shell::authorize()?;
    packages(PLATFORM)?;
    node()?;
    targets()
}

/// Whatever `cargo xtask build` needs besides what is there to build at all: the console's tools.
pub(crate) fn for_build() -> Result<()> {
    if !shell::has("npm") {
        shell::authorize()?;
    }
    node()
}

/// Whatever `cargo xtask test` needs.
pub(crate) fn for_test() -> Result<()> {
    shell::authorize()?;
    let all: Vec<_> = PLATFORM.iter().chain(TESTS).copied().collect();
    packages(&all)?;
    node()?;
    python()?;
    targets()
}

/// Whatever `cargo xtask bench wasm` needs besides; gives the program `wasmtime`, of the version
/// that Berth has inside.
pub(crate) fn for_wasm_bench() -> Result<PathBuf> {
    packages(WASM_BENCH)?;
    let lock = std::fs::read_to_string(shell::root().join("Cargo.lock"))?;
    let version = lock
        .split_once("name = \"wasmtime\"\nversion = \"")
        .and_then(|(_, rest)| rest.split('"').next())
        .context("Cargo.lock has no wasmtime")?;
    let folder = shell::target().join("tools").join(format!("wasmtime-{version}"));
    let program = folder.join("bin/wasmtime");
    if !program.exists() {
        shell::say(&format!("-----> Installing wasmtime-cli {version} (some ten minutes)"));
        shell::run(
            shell::command("cargo")
                .args(["install", "--quiet", "--locked", "--version", version, "--root"])
                .arg(&folder)
                .arg("wasmtime-cli"),
        )?;
    }
    Ok(program)
}

fn packages(wanted: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(_, file)| !std::path::Path::new(file).exists())
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !shell::has("apt-get") {
        bail!(
            "this machine has no apt-get; install what these Debian packages hold, then run this again: {}",
            missing.join(" ")
        );
    }
    shell::step("Updating the package lists", || {
        shell::capture(shell::as_root("apt-get").args(["update", "-q"])).map(drop)
    })?;
    shell::step(&format!("Installing {}", missing.join(" ")), || {
        shell::capture(
            shell::as_root("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(["install", "-y", "-q", "--no-install-recommends"])
                .args(&missing),
        )
        .map(drop)
    })
}

/// npm fetches what the console is built with, makes the lockfiles of the applications that the tests
/// fetch, and fetches the tools that extensions in JavaScript are built with.
fn node() -> Result<()> {
    if shell::has("npm") {
        return Ok(());
    }
    packages(&[("nodejs", "/usr/bin/node"), ("npm", "/usr/bin/npm")])
}

/// A virtual environment holds the tools that extensions in Python are built with.
fn python() -> Result<()> {
    if shell::capture(shell::command("python3").args(["-c", "import ensurepip, venv"])).is_ok() {
        return Ok(());
    }
    packages(&[("python3-venv", "/usr/share/doc/python3-venv")])
}

fn targets() -> Result<()> {
    let sysroot = shell::capture(shell::command("rustc").args(["--print", "sysroot"]))
        .context("rustc is needed: install rustup's stable toolchain")?;
    let missing: Vec<&&str> = TARGETS
        .iter()
        .filter(|target| {
            !std::path::Path::new(sysroot.trim()).join("lib/rustlib").join(target).exists()
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    shell::step("Adding the Wasm and static targets", || {
        shell::capture(shell::command("rustup").args(["target", "add"]).args(missing)).map(drop)
    })
}
