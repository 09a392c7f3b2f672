//! Runs git directly, with the flags that the agent gives it, and the real `berth-init` as hook.

use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use berth_container::{Exit, Tool};
use berth_model::AppId;
use berth_push::{GitTool, ToolError};
use command_fds::{CommandFdExt, FdMapping};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

pub(crate) struct DirectGit {
    repositories: PathBuf,
    hooks: PathBuf,
}

impl DirectGit {
    /// Makes a folder of hooks in `folder`.
    pub(crate) fn new(folder: &Path, repositories: &Path) -> Self {
        let hooks = folder.join("hooks");
        fs::create_dir_all(&hooks).unwrap();
        std::os::unix::fs::symlink(berth_init(), hooks.join("proc-receive")).unwrap();
        Self { repositories: repositories.to_owned(), hooks }
    }

    fn command(&self, tool: Tool, descriptors: Vec<OwnedFd>) -> Command {
        let (app, name, stateless, advertise, version) = match tool {
            Tool::ReceivePack { app, stateless, advertise, version, .. } => {
                (app, "receive-pack", stateless, advertise, version)
            }
            Tool::UploadPack { app, stateless, advertise, version } => {
                (app, "upload-pack", stateless, advertise, version)
            }
            Tool::Compile { .. } => panic!("not a git tool"),
        };
        let repository = self.path(app);
        let mut command = Command::new("git");
        let setting = |name: &str, value: &Path| -> [OsString; 2] {
            let mut pair = OsString::from(format!("{name}="));
            pair.push(value);
            ["-c".into(), pair]
        };
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", "/nonexistent")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .args(setting("safe.directory", &repository))
            .args(setting("core.hooksPath", &self.hooks));
        if version > 0 {
            command.env("GIT_PROTOCOL", format!("version={version}"));
        }
        if let Tool::ReceivePack { pack_mib_max, .. } = tool {
            let bytes = u64::from(pack_mib_max) << 20;
            command.arg("-c").arg(format!("receive.maxInputSize={bytes}"));
        }
        command.arg(name);
        if stateless {
            command.arg("--stateless-rpc");
        }
        if advertise {
            command.arg("--http-backend-info-refs");
        }
        command.arg(repository).process_group(0);
        let mut mappings = Vec::new();
        for (child_fd, parent_fd) in (0..).zip(descriptors) {
            mappings.push(FdMapping { parent_fd, child_fd });
        }
        command.fd_mappings(mappings).unwrap();
        command
    }

    fn path(&self, app: AppId) -> PathBuf {
        self.repositories.join(format!("{app}.git"))
    }
}

impl GitTool for DirectGit {
    fn run(
        &self,
        tool: Tool,
        descriptors: Vec<OwnedFd>,
    ) -> BoxFuture<'static, Result<Exit, ToolError>> {
        let mut command = self.command(tool, descriptors);
        async move {
            let mut child = tokio::process::Command::from(std::mem::replace(
                &mut command,
                Command::new("true"),
            ))
            .spawn()?;
            // Our copies of the tool's descriptors.
            drop(command);
            let _group = Group(child.id().unwrap());
            let status = child.wait().await?;
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            Ok(Exit { code, oom: false, timed_out: false, memory_peak_bytes: 0 })
        }
        .boxed()
    }
}

/// Ends everything that git started, as a cgroup does.
struct Group(u32);

impl Drop for Group {
    fn drop(&mut self) {
        let group = i32::try_from(self.0).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// The hook program, built for this machine.
fn berth_init() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let folder = test.ancestors().find(|f| f.file_name().is_some_and(|n| n == "deps")).unwrap();
        let program = folder.with_file_name("berth-init");
        let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("init");
        if !is_current(&program, &crate_folder.join("src")) {
            let built = Command::new(option_env!("CARGO").unwrap_or("cargo"))
                .args(["build", "--quiet", "--package", "berth-init"])
                .current_dir(&crate_folder)
                .status()
                .unwrap();
            assert!(built.success());
        }
        program
    })
}

/// Several test processes would queue for cargo's lock only to learn that nothing is to do.
fn is_current(program: &Path, sources: &Path) -> bool {
    let Ok(built) = fs::metadata(program).and_then(|m| m.modified()) else { return false };
    fs::read_dir(sources)
        .unwrap()
        .all(|entry| entry.unwrap().metadata().unwrap().modified().unwrap() < built)
}
