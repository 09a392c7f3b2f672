//! The same component served by others: `wasmtime serve` behind nginx.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use acceptance::{Platform, wait_for};
use anyhow::{Context, Result};

use super::{Size, name, wrk};
use crate::answer;
use crate::report::{Bound, Report};

const CONNECTIONS: u32 = 32;
/// Nginx has two workers, as the router has; each writes an access log.
const WORKERS: u32 = 2;

/// Loads an app of the platform and the same component elsewhere, in turn.
///
/// # Errors
/// What any of them says.
pub(super) fn measure(
    report: &mut Report,
    platform: &Platform,
    component: &Path,
    size: &Size,
) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("rival").tempdir_in("/var/lib/berth-test")?;
    let rival = Rival::start(folder.path(), component)?;
    let host = format!("{}.localhost", name(0));
    let ours = |seconds| wrk::run(platform.http, &host, CONNECTIONS, seconds);
    let theirs = |seconds| wrk::run(rival.address, "localhost", CONNECTIONS, seconds);
    ours(1)?;
    theirs(1)?;
    let (mut own, mut other, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..size.rounds {
        // Each is first in every other round.
        let (mine, its) = if round % 2 == 0 {
            let mine = ours(size.load_s)?;
            (mine, theirs(size.load_s)?)
        } else {
            let its = theirs(size.load_s)?;
            (ours(size.load_s)?, its)
        };
        own.push(mine.per_second);
        other.push(its.per_second);
        ratio.push(mine.per_second / its.per_second);
    }
    report.row("warm Wasm app through the router", "1/s", own);
    report.row("nginx in front of wasmtime serve", "1/s", other);
    report.bounded("router / nginx in front of wasmtime serve", "", ratio, Bound::Least(1.5));
    Ok(())
}

/// nginx and what it stands before.
struct Rival {
    address: SocketAddr,
    children: Vec<Child>,
}

impl Rival {
    fn start(folder: &Path, component: &Path) -> Result<Self> {
        let (behind, address) = (free_port()?, free_port()?);
        let log = || std::fs::File::create(folder.join("wasmtime.log"));
        // The tools that `cargo xtask` installs for this are named by it.
        let wasmtime = std::env::var_os("BERTH_WASMTIME").unwrap_or_else(|| "wasmtime".into());
        let mut rival = Self { address, children: Vec::new() };
        let serve = Command::new(wasmtime)
            // A component of Rust's standard library asks for its environment.
            .args(["serve", "-S", "cli", "--addr", &behind.to_string()])
            .arg(component)
            .stdin(Stdio::null())
            .stdout(log()?)
            .stderr(log()?)
            .spawn()
            .context("cannot start wasmtime; `cargo xtask bench wasm` installs it")?;
        rival.children.push(serve);
        std::fs::write(folder.join("nginx.conf"), configuration(folder, behind, address))?;
        let nginx = Command::new("/usr/sbin/nginx")
            .arg("-p")
            .arg(folder)
            .arg("-c")
            .arg(folder.join("nginx.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("nginx.log"))?)
            .spawn()
            .context("cannot start nginx (Debian package nginx-light)")?;
        rival.children.push(nginx);
        wait_for("nginx and wasmtime to answer", 30, || {
            let answer = answer::get(address, "localhost", "/").ok()?;
            (answer.status == 200).then_some(())
        });
        Ok(rival)
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
            // Nginx ends its workers when it is asked to end, not when it is killed.
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGTERM,
            );
            let _ = child.wait();
        }
    }
}

fn configuration(folder: &Path, behind: SocketAddr, address: SocketAddr) -> String {
    let folder = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("  {what}_temp_path {folder}/{what};\n"))
        .concat();
    format!(
        "daemon off;\nuser root;\nworker_processes {WORKERS};\npid {folder}/nginx.pid;\n\
         error_log {folder}/error.log;\nevents {{ worker_connections 1024; }}\nhttp {{\n\
         {temporary}  access_log {folder}/access.log;\n  keepalive_requests 1000000;\n\
         \u{20} upstream app {{ server {behind}; keepalive 64; keepalive_requests 1000000; }}\n\
         \u{20} server {{\n    listen {address};\n    location / {{\n\
         \u{20}     proxy_pass http://app;\n      proxy_http_version 1.1;\n\
         \u{20}     proxy_set_header Connection \"\";\n    }}\n  }}\n}}\n"
    )
}

fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
