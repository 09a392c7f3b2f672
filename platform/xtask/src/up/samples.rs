//! The sample apps and how they get there: stock git, over HTTP and over SSH.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::platform::{API, HTTP, Platform, SSH, TOKEN};
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
    _platform: &Platform,
    interrupts: &AtomicUsize,
) -> Result<Vec<(String, String)>> {
    let work = work_folder()?;
    let token = std::fs::read_to_string(TOKEN)
        .with_context(|| format!("cannot read {TOKEN}, which berthd makes at its first start"))?;
    let key = own_key(&work)?;
    add_key(programs, token.trim(), &key)?;
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
                &format!("ssh://git@{SSH}/{name}"),
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
                &format!("http://{API}/git/{name}.git"),
                "HEAD:main",
            ]);
        }
        shell::run(&mut push).with_context(|| format!("the push of the sample {name} failed"))?;
        wait_for_answer(name, interrupts)?;
        urls.push(((*name).to_owned(), format!("http://{name}.localhost:{}", port(HTTP))));
    }
    Ok(urls)
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap_or_default()
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

fn add_key(programs: &Path, token: &str, key: &Path) -> Result<()> {
    let berth = |arguments: &[&str]| {
        let mut command = Command::new(programs.join("berth"));
        command.env("BERTH_SERVER", format!("http://{API}")).env("BERTH_TOKEN", token);
        command.args(arguments);
        command
    };
    let known = shell::capture(&mut berth(&["keys", "list", "--json"]))?;
    let public = std::fs::read_to_string(key.with_extension("pub"))?;
    let body = public.split_whitespace().nth(1).unwrap_or_default();
    if !known.contains(body) {
        let file = key.with_extension("pub");
        shell::capture(&mut berth(&["keys", "add", "cargo-xtask-up", &file.to_string_lossy()]))?;
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

fn wait_for_answer(name: &str, interrupts: &AtomicUsize) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let host = format!("{name}.localhost");
    loop {
        match get(HTTP, &host, "/") {
            Ok(200) => return Ok(()),
            _ if interrupts.load(Ordering::SeqCst) > 0 => bail!("interrupted"),
            Ok(status) if Instant::now() > deadline => bail!("{host} answers {status}"),
            Err(error) if Instant::now() > deadline => return Err(error),
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// The status of a GET.
pub(crate) fn get(address: &str, host: &str, path: &str) -> Result<u16> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    std::str::from_utf8(&head[9..12])?.parse().context("no status in the answer")
}
