//! The sample apps and how they get there: stock git, over HTTP and over SSH.

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::addresses::{Addresses, get};
use super::platform::{Platform, TOKEN};
use crate::shell;

/// App name, its folder under `tests/apps`, and whether it is pushed over SSH.
const SAMPLES: &[(&str, &str, bool)] = &[
    ("static", "static-site", false),
    ("python", "python-flask", true),
    ("node", "node-express", false),
    ("wasm", "wasm-hello", true),
];

/// Pushes every sample and gives names and URLs.
pub(crate) fn deploy(
    programs: &Path,
    platform: &Platform,
    interrupts: &AtomicUsize,
) -> Result<Vec<(String, String)>> {
    let Addresses { http, api, ssh: ssh_address } = platform.addresses();
    let work = work_folder()?;
    let token = std::fs::read_to_string(TOKEN)
        .with_context(|| format!("cannot read {TOKEN}, which berthd makes at its first start"))?;
    let key = own_key(&work)?;
    add_key(|| berth(programs, &platform.addresses(), token.trim()), &key)?;
    let mut urls = Vec::new();
    for (name, folder, ssh) in SAMPLES {
        if interrupts.load(Ordering::SeqCst) > 0 {
            bail!("interrupted");
        }
        let repository = commit(programs, &work, name, folder)?;
        shell::say(&format!("-----> git push ({})  {name}", if *ssh { "SSH" } else { "HTTP" }));
        let mut push = git(&repository);
        if *ssh {
            push.env("GIT_SSH_COMMAND", ssh_command(&work, &key)).args([
                "push",
                &format!("ssh://git@{ssh_address}/{name}"),
                "HEAD:main",
            ]);
        } else {
            // The token stays out of URLs, arguments and git's configuration.
            push.env("BERTH_TOKEN", token.trim()).args([
                "-c",
                "credential.helper=",
                "-c",
                "credential.helper=!f() { echo username=berth; echo \"password=$BERTH_TOKEN\"; }; f",
                "push",
                &format!("http://{api}/git/{name}.git"),
                "HEAD:main",
            ]);
        }
        shell::run(&mut push).with_context(|| format!("the push of the sample {name} failed"))?;
        shell::wait(&format!("Waiting for {name} to answer"), || {
            wait_for_answer(http, name, interrupts)
        })?;
        urls.push(((*name).to_owned(), format!("http://{name}.localhost:{}", http.port())));
    }
    Ok(urls)
}

/// The CLI on this platform.
pub(super) fn berth(programs: &Path, addresses: &Addresses, token: &str) -> Command {
    let mut command = Command::new(programs.join("berth"));
    command.env("BERTH_SERVER", format!("http://{}", addresses.api)).env("BERTH_TOKEN", token);
    command
}

fn work_folder() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let folder = PathBuf::from(home).join(".cache/berth/up");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A key for this machine's samples alone.
fn own_key(work: &Path) -> Result<PathBuf> {
    let key = work.join("id_ed25519");
    if !key.exists() {
        shell::capture(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "cargo-xtask-up", "-f"])
                .arg(&key),
        )?;
    }
    Ok(key)
}

fn add_key(berth: impl Fn() -> Command, key: &Path) -> Result<()> {
    let known = shell::capture(berth().args(["keys", "list", "--json"]))?;
    let public = key.with_extension("pub");
    let text = std::fs::read_to_string(&public)?;
    let body = text.split_whitespace().nth(1).unwrap_or_default();
    if !known.contains(body) {
        shell::capture(berth().args(["keys", "add", "cargo-xtask-up"]).arg(&public))?;
    }
    Ok(())
}

fn ssh_command(work: &Path, key: &Path) -> String {
    format!(
        "ssh -i '{}' -o IdentitiesOnly=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile='{}'",
        key.display(),
        work.join("known_hosts").display()
    )
}

fn git(repository: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(repository).args([
        "-c",
        "user.name=Berth",
        "-c",
        "user.email=berth@localhost",
        "-c",
        "protocol.version=2",
    ]);
    command
}

/// Copies the sample into a repository of its own and commits what changed.
fn commit(programs: &Path, work: &Path, name: &str, folder: &str) -> Result<PathBuf> {
    let repository = work.join(name);
    std::fs::create_dir_all(&repository)?;
    if !repository.join(".git").exists() {
        shell::capture(git(&repository).args(["init", "--quiet", "--initial-branch=main"]))?;
    }
    crate::build::sample(programs, folder, &repository)?;
    shell::capture(git(&repository).args(["add", "--all"]))?;
    let changed = !shell::capture(git(&repository).args(["status", "--porcelain"]))?.is_empty();
    if changed {
        shell::capture(git(&repository).args(["commit", "--quiet", "-m", "A sample of Berth"]))?;
    }
    Ok(repository)
}

fn wait_for_answer(http: SocketAddrV4, name: &str, interrupts: &AtomicUsize) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let host = format!("{name}.localhost");
    loop {
        match get(http, &host, "/") {
            Ok(200) => return Ok(()),
            _ if interrupts.load(Ordering::SeqCst) > 0 => bail!("interrupted"),
            Ok(status) if Instant::now() > deadline => bail!("{host} answers {status}"),
            Err(error) if Instant::now() > deadline => return Err(error),
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
