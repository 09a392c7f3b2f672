//! Docker's engine on a data folder of its own, for comparison.
//!
//! It runs beside whatever the machine has, and takes everything along when it ends: processes,
//! bridge, rules of the packet filter, images.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use acceptance::wait_for;
use anyhow::{Context, Result, bail};

/// Debian's own client: one of another engine may come first in the PATH and lack BuildKit.
const CLIENT: &str = "/usr/bin/docker";

/// A running engine.
pub(crate) struct Docker {
    folder: tempfile::TempDir,
    daemon: Child,
    rules: Vec<(&'static str, Vec<u8>)>,
}

/// A container that publishes its port 5000.
pub(crate) struct Published {
    id: String,
    /// Where it is published.
    pub(crate) address: SocketAddr,
}

impl Docker {
    /// Starts the engine and waits until it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("docker").tempdir_in("/var/lib/berth-test")?;
        let rules = ["filter", "nat"]
            .into_iter()
            .map(|table| Ok((table, output(Command::new("iptables-save").args(["-t", table]))?)))
            .collect::<Result<_>>()?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let daemon = Command::new("dockerd")
            .arg("--data-root")
            .arg(folder.path().join("data"))
            .arg("--exec-root")
            .arg(folder.path().join("exec"))
            .arg("--pidfile")
            .arg(folder.path().join("pid"))
            .arg("--host")
            .arg(socket(folder.path()))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start dockerd (Debian package docker.io)")?;
        let docker = Self { folder, daemon, rules };
        wait_for("dockerd to answer", 60, || docker.must(&["version"]).ok());
        Ok(docker)
    }

    /// A call of the client.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CLIENT);
        command
            .arg("--host")
            .arg(socket(self.folder.path()))
            .args(arguments)
            .env("DOCKER_BUILDKIT", "1")
            .stdin(Stdio::null());
        command
    }

    /// A call of the client that must succeed; gives its output.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub(crate) fn must(&self, arguments: &[&str]) -> Result<String> {
        Ok(String::from_utf8_lossy(&output(&mut self.command(arguments))?).into_owned())
    }

    /// Takes over an image of an OCI layout.
    ///
    /// # Errors
    /// When skopeo fails.
    pub(crate) fn load(&self, layout: &Path, tag: &str, name: &str) -> Result<()> {
        let mut skopeo = Command::new("skopeo");
        skopeo
            .args(["--insecure-policy", "copy", "--quiet", "--dest-daemon-host"])
            .arg(socket(self.folder.path()))
            .arg(format!("oci:{}:{tag}", layout.display()))
            .arg(format!("docker-daemon:{name}:latest"));
        output(&mut skopeo).map(drop)
    }

    /// Makes an image of a root file system's tar.
    ///
    /// # Errors
    /// When the engine refuses.
    pub(crate) fn import(&self, tar: &Path, name: &str) -> Result<()> {
        self.must(&["import", &tar.display().to_string(), name]).map(drop)
    }

    /// Starts a container of an image, as a person would, and gives where it will answer.
    ///
    /// # Errors
    /// When the engine refuses.
    pub(crate) fn run(&self, image: &str) -> Result<Published> {
        let address = free_port()?;
        let publish = format!("{address}:5000");
        let id =
            self.must(&["run", "--detach", "--env", "PORT=5000", "--publish", &publish, image])?;
        Ok(Published { id: id.trim().to_owned(), address })
    }

    /// What a container wrote.
    pub(crate) fn logs(&self, container: &Published) -> String {
        let said = self.command(&["logs", &container.id]).output();
        said.map_or_else(
            |error| error.to_string(),
            |said| String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned(),
        )
    }

    /// Ends a container and removes it.
    ///
    /// # Errors
    /// When the engine refuses.
    pub(crate) fn remove(&self, container: &Published) -> Result<()> {
        self.must(&["rm", "--force", &container.id]).map(drop)
    }

    fn end(&mut self) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.daemon.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.daemon.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.daemon.kill()?;
                self.daemon.wait()?;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for (table, rules) in &self.rules {
            let mut restore = Command::new("iptables-restore")
                .args(["-T", table])
                .stdin(Stdio::piped())
                .spawn()
                .context("cannot start iptables-restore")?;
            if let Some(mut stdin) = restore.stdin.take() {
                stdin.write_all(rules)?;
            }
            restore.wait()?;
        }
        output(Command::new("ip").args(["link", "delete", "docker0"])).map(drop)
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            let _ = writeln!(std::io::stderr(), "ending dockerd: {error:#}");
        }
    }
}

fn socket(folder: &Path) -> String {
    format!("unix://{}", folder.join("sock").display())
}

/// A port of loopback that was free a moment ago.
fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// Runs a program that must succeed and gives what it printed.
///
/// # Errors
/// When it fails, with what it said.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let done = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !done.status.success() {
        bail!("{command:?}: {}\n{}", done.status, String::from_utf8_lossy(&done.stderr));
    }
    Ok(done.stdout)
}

/// A folder that exists.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn folder(path: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}
