//! Stock git on a client's machine, with a configuration of its own.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use berth_model::Role;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::host::caller;
use crate::world::{Over, World};

pub(crate) struct Client {
    home: TempDir,
    pub(crate) work: PathBuf,
    ssh: String,
}

/// What a command said, and whether it was content.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Client {
    pub(crate) fn new(world: &World) -> Self {
        let home = TempDir::new().unwrap();
        let key = home.path().join("key");
        make_key(&key);
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        world.host.know_key(&public, caller("developer", Role::Developer));
        let work = home.path().join("work");
        let client = Self { ssh: ssh_command(home.path(), &key), home, work };
        std::fs::create_dir(&client.work).unwrap();
        client.now(&["init", "--quiet", "--initial-branch=main"]);
        client
    }

    /// Uses another private key from here on.
    pub(crate) fn use_key(&mut self, key: &Path) {
        self.ssh = ssh_command(self.home.path(), key);
    }

    /// Uses another ssh command line from here on.
    pub(crate) fn use_ssh(&mut self, ssh: String) {
        self.ssh = ssh;
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The ssh command line up to the port.
    pub(crate) fn ssh(&self) -> &str {
        &self.ssh
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.work)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.home.path())
            .env("LC_ALL", "C.UTF-8")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_SSH_COMMAND", &self.ssh)
            .env("GIT_AUTHOR_NAME", "Test")
            .env("GIT_AUTHOR_EMAIL", "test@example.org")
            .env("GIT_COMMITTER_NAME", "Test")
            .env("GIT_COMMITTER_EMAIL", "test@example.org")
            .env("GIT_COMMITTER_DATE", "1700000000 +0100")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs git and gives what it said.
    pub(crate) async fn git(&self, arguments: &[&str]) -> Said {
        self.said(self.command("git").args(arguments)).await
    }

    pub(crate) async fn said(&self, command: &mut Command) -> Said {
        let ended = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
        said(ended.expect("a command within 60 s").unwrap())
    }

    /// Runs git on local things only; it must succeed. Gives its stdout without the last newline.
    pub(crate) fn now(&self, arguments: &[&str]) -> String {
        let said = said(self.command("git").args(arguments).as_std_mut().output().unwrap());
        assert!(said.ok, "git {arguments:?}: {said:?}");
        said.out.trim_end().to_owned()
    }

    /// Runs git with bytes on its stdin; gives its stdout without the last newline.
    pub(crate) async fn with_input(&self, arguments: &[&str], input: &[u8]) -> String {
        let mut command = self.command("git");
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let (written, ended) =
            tokio::join!(async move { stdin.write_all(input).await }, child.wait_with_output());
        written.unwrap();
        let said = said(ended.unwrap());
        assert!(said.ok, "git {arguments:?}: {said:?}");
        said.out.trim_end().to_owned()
    }

    /// Starts a push in a process group of its own, as a shell does.
    pub(crate) fn start_push(&self, url: &str, refspec: &str) -> Child {
        let mut command = self.command("git");
        command.args(["push", url, refspec]).process_group(0);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.work.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Writes a file and commits everything; gives the commit.
    pub(crate) fn commit(&self, path: &str, content: &str) -> String {
        self.write(path, content);
        self.commit_all(path)
    }

    pub(crate) fn commit_all(&self, message: &str) -> String {
        self.now(&["add", "--all"]);
        self.now(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.head()
    }

    pub(crate) fn head(&self) -> String {
        self.now(&["rev-parse", "HEAD"])
    }

    pub(crate) async fn push(&self, world: &World, over: Over, refspec: &str) -> Said {
        self.git(&["push", &world.url(over, "hello"), refspec]).await
    }

    /// A push that must succeed.
    pub(crate) async fn pushes(&self, world: &World, over: Over, refspec: &str) -> Said {
        let said = self.push(world, over, refspec).await;
        assert!(said.ok, "{over:?}: {said:?}");
        said
    }
}

pub(crate) fn said(output: Output) -> Said {
    Said {
        ok: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Sends a signal to a process group, as Ctrl-C in a terminal does.
pub(crate) fn signal_group(child: &Child, signal: rustix::process::Signal) {
    let group = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process_group(group, signal).unwrap();
}

pub(crate) fn make_key(path: &Path) {
    let mut command = std::process::Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "a comment", "-f"]).arg(path);
    assert!(command.status().unwrap().success());
}

fn ssh_command(home: &Path, key: &Path) -> String {
    format!(
        "ssh -F /dev/null -i {} -o IdentitiesOnly=yes -o BatchMode=yes \
         -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile={}",
        key.display(),
        home.join("known_hosts").display()
    )
}
