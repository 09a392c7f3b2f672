//! Runs mmdebstrap and tells how far it is.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use berth_blobs::tar::MTIME_S;
use berth_container::PROXY_PORT;
use rustix::mount::{MountFlags, mount};

use super::packages::RELEASE;
use super::{ROOT, sources};
use crate::failure::{Because, Failure};

/// Lines of the last output that a failure shows.
const LAST_LINES: usize = 12;
/// Packages between two lines of progress.
const STEP: u32 = 25;

/// Where lines for people go. Nobody need read them.
pub(super) struct Progress {
    out: File,
}

impl Progress {
    pub(super) fn new(out: File) -> Self {
        Self { out }
    }

    pub(super) fn line(&mut self, text: &str) {
        let _ = self.out.write_all(format!("{text}\n").as_bytes());
    }
}

/// Makes the root file system at `ROOT`.
pub(super) fn run(packages: &[String], progress: &mut Progress) -> Result<(), Failure> {
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None).because(|| "mounting /proc")?;
    progress.line(&format!("Making the stack of Debian {RELEASE} and {} packages", packages.len()));
    let mut command = command(packages)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .because(|| "starting mmdebstrap (package mmdebstrap)")?;
    let mut last = Vec::new();
    if let Some(output) = child.stderr.take() {
        follow(BufReader::new(output), progress, &mut last);
    }
    let status = child.wait().because(|| "waiting for mmdebstrap")?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::machine(format!("mmdebstrap ended with {status}:\n{}", last.join("\n"))))
}

fn command(packages: &[String]) -> Result<Command, Failure> {
    let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
    let mut command = Command::new("mmdebstrap");
    command
        .env_clear()
        .env("PATH", crate::PROGRAM_PATH)
        .env("HOME", "/nonexistent")
        .env("TMPDIR", "/scratch/tmp")
        .env("LC_ALL", "C.UTF-8")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SOURCE_DATE_EPOCH", MTIME_S.to_string())
        .current_dir("/scratch")
        .args(["--mode=root", "--variant=essential", "--format=directory", "--verbose"])
        // A file system without /sys is enough for packages, and more cannot be had in here.
        .arg("--skip=chroot/mount/sys")
        .arg(format!("--include={}", packages.join(",")))
        .arg("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr");
    for option in [
        format!("Acquire::http::Proxy \"{proxy}\""),
        format!("Acquire::https::Proxy \"{proxy}\""),
        // One request after the other: what a simple proxy understands.
        "Acquire::http::Pipeline-Depth \"0\"".into(),
        "Acquire::Retries \"3\"".into(),
        "Acquire::Languages \"none\"".into(),
        "APT::Install-Recommends \"false\"".into(),
        "APT::Sandbox::User \"root\"".into(),
    ] {
        command.arg(format!("--aptopt={option}"));
    }
    for option in [
        // The scratch disk is thrown away after a crash anyway.
        "force-unsafe-io",
        "path-exclude=/usr/share/doc/*",
        "path-include=/usr/share/doc/*/copyright",
        "path-exclude=/usr/share/man/*",
        "path-exclude=/usr/share/info/*",
        "path-exclude=/usr/share/locale/*",
        "path-exclude=/usr/share/lintian/*",
        "path-exclude=/usr/share/bug/*",
    ] {
        command.arg(format!("--dpkgopt={option}"));
    }
    command.args([RELEASE, ROOT]);
    let lines = sources::of_host(RELEASE);
    if !lines.is_empty() {
        let list = Path::new("/scratch/sources.list");
        fs::write(list, format!("{}\n", lines.join("\n"))).because(|| "writing the sources")?;
        command.arg(list);
    }
    Ok(command)
}

/// Says each step, and every so many packages; keeps the last lines.
fn follow(output: impl BufRead, progress: &mut Progress, last: &mut Vec<String>) {
    let (mut fetched, mut unpacked, mut set_up) = (0, 0, 0);
    for line in output.split(b'\n').map_while(Result::ok) {
        let line: String = String::from_utf8_lossy(&line).chars().take(400).collect();
        let line = line.trim_end().to_owned();
        let mut count = |number: &mut u32, what: &str| {
            *number += 1;
            if number.is_multiple_of(STEP) {
                progress.line(&format!("{number} packages {what}"));
            }
        };
        if line.starts_with("Get:") {
            count(&mut fetched, "fetched");
        } else if line.starts_with("Unpacking ") {
            count(&mut unpacked, "unpacked");
        } else if line.starts_with("Setting up ") {
            count(&mut set_up, "set up");
        } else if let Some(step) = line.strip_prefix("I: ") {
            progress.line(step);
        }
        if last.len() == LAST_LINES {
            last.remove(0);
        }
        last.push(line);
    }
}
