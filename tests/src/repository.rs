//! A person's git repository, driven with stock git.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::Platform;

/// A working copy with a history.
pub struct Repository {
    folder: tempfile::TempDir,
}

/// What a push said.
pub struct Pushed {
    /// Whether git exited with 0.
    pub ok: bool,
    /// Standard output and error as a person sees them, `remote: ` prefixes removed.
    pub text: String,
}

impl Repository {
    /// An empty repository on branch `main`.
    ///
    /// # Panics
    /// When git fails.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let repository = Self { folder };
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    /// A repository with a copy of `tests/apps/<name>`, committed.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn of_sample(name: &str) -> Self {
        let repository = Self::new();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("apps").join(name);
        let copied = Command::new("cp")
            .arg("-r")
            .arg(format!("{}/.", from.display()))
            .arg(repository.path())
            .status()
            .expect("cp starts");
        assert!(copied.success());
        repository.commit("A sample");
        repository
    }

    /// Its folder.
    pub fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Writes a file; folders are made.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::fs::write(path, content).expect("a file");
        self
    }

    /// Writes a Python package `slow` whose build sleeps for so many seconds; for a build that has to
    /// be met on its way. The number tells its process from others.
    pub fn endless_package(&self, seconds: &str) {
        self.write(
            "slow/pyproject.toml",
            "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n\
             [project]\nname = 'slow'\nversion = '1'\n",
        );
        let wait = format!("import subprocess\n    subprocess.run(['sleep', '{seconds}'])\n");
        let backend = ["prepare_metadata_for_build_wheel", "build_wheel"]
            .map(|name| format!("def {name}(*arguments, **options):\n    {wait}"));
        self.write("slow/backend.py", backend.concat());
    }

    /// Commits everything and gives the commit's id.
    ///
    /// # Panics
    /// When git fails.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// A git command of this repository.
    pub fn command(&self) -> Command {
        let mut command = Command::new("git");
        command
            .current_dir(self.folder.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .args(["-c", "user.name=Tester", "-c", "user.email=tester@localhost"])
            .stdin(Stdio::null());
        command
    }

    /// Runs git, which must succeed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().expect("git starts");
        assert!(
            output.status.success(),
            "git {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A `git push` over HTTP that has not started yet.
    pub fn push_command(&self, platform: &Platform, app: &str, what: &[&str]) -> Command {
        let mut command = self.command();
        command
            .env("BERTH_TOKEN", &platform.token)
            .args(["-c", "credential.helper=!f() { echo username=berth; echo \"password=$BERTH_TOKEN\"; }; f"])
            .arg("push")
            .arg(format!("http://{}/git/{app}.git", platform.api))
            .args(what);
        command
    }

    /// Pushes over HTTP.
    ///
    /// # Panics
    /// When git cannot be started.
    pub fn push(&self, platform: &Platform, app: &str, what: &[&str]) -> Pushed {
        said(self.push_command(platform, app, what).output().expect("git starts"))
    }

    /// Pushes `HEAD:main` over HTTP, which must succeed, and gives what it said.
    ///
    /// # Panics
    /// When the push fails.
    #[track_caller]
    pub fn deploy(&self, platform: &Platform, app: &str) -> String {
        let pushed = self.push(platform, app, &["HEAD:main"]);
        assert!(pushed.ok, "the push of {app} failed:\n{}\n{}", pushed.text, platform.log());
        pushed.text
    }

    /// Pushes over SSH with a key.
    ///
    /// # Panics
    /// When git cannot be started.
    pub fn push_ssh(&self, platform: &Platform, key: &Path, app: &str, what: &[&str]) -> Pushed {
        let output = self
            .command()
            .env(
                "GIT_SSH_COMMAND",
                format!(
                    "ssh -F /dev/null -i {} -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
                    key.display()
                ),
            )
            .arg("push")
            .arg(format!("ssh://git@{}/{app}", platform.ssh))
            .args(what)
            .output()
            .expect("git starts");
        said(output)
    }
}

impl Default for Repository {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads what git said.
pub fn said(output: Output) -> Pushed {
    let both = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&both)
        .lines()
        .map(|line| line.strip_prefix("remote: ").unwrap_or(line).trim_end())
        .collect::<Vec<_>>()
        .join("\n");
    Pushed { ok: output.status.success(), text }
}

/// A new SSH key in a folder.
///
/// # Panics
/// When ssh-keygen fails.
pub fn ssh_key(folder: &Path) -> PathBuf {
    let key = folder.join("id_ed25519");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "tester", "-f"])
        .arg(&key)
        .status()
        .expect("ssh-keygen starts");
    assert!(made.success());
    key
}
