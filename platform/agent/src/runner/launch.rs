//! One attempt: creates the container, looks whether it is as tight as it must be, starts it.
//!
//! Nothing of the app runs before the look. The container runtime is called by this process
//! alone, which has one thread.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use berth_container::{PROXY_PORT, Payload, Role};
use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};

use super::bundle;
use super::root::Layout;
use super::watchdog::Watchdog;
use super::{terminal, volume};
use crate::disk::Bound;
use crate::failure::{Because, Failure};
use crate::network::{self, Plug};
use crate::run_wire::{PAYLOAD_BYTES_MAX, RunSpec};

/// What the container's process gets, beside its specification.
pub(crate) struct Stdio {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// A container that runs.
pub(crate) struct Launched {
    /// Process 1, as the host names it.
    pub(crate) init: u32,
    /// A terminal's master or the listener of the build's proxy.
    pub(crate) attached: Option<OwnedFd>,
    /// Looks at its disk, where the kernel does not bound it.
    pub(crate) watchdog: Option<Watchdog>,
}

/// Everything that an attempt needs, kept for the next one.
pub(crate) struct Launcher {
    pub(crate) spec: RunSpec,
    pub(crate) folder: std::path::PathBuf,
    pub(crate) layout: Layout,
    /// Argument vector and environment, unread; none for a build container.
    pub(crate) payload: Option<Rc<File>>,
    /// The instances' namespace.
    pub(crate) network: OwnedFd,
    /// What bounds the app's caches, if they are mounted.
    pub(crate) caches: Option<Bound>,
    /// Volumes that have to be watched, where they are mounted.
    pub(crate) volumes: Vec<PathBuf>,
}

impl Launcher {
    /// Makes a fresh root and starts the container in it.
    pub(crate) fn launch(&self, stdio: Stdio) -> Result<Launched, Failure> {
        let mut watched: Vec<_> = self.layout.mount_root(&self.spec)?.into_iter().collect();
        if self.caches == Some(Bound::Watched) {
            watched.push(self.layout.watched_caches());
        }
        let volumes = self.volumes.iter();
        watched.extend(volumes.filter_map(|path| volume::watched(&self.spec, &self.folder, path)));
        let watchdog = Watchdog::start(watched, &self.spec.leaf)?;
        bundle::write(&self.folder, &self.layout, &self.spec)?;
        let state = bundle::state(&self.folder);
        let _ = fs::remove_dir_all(&state);
        fs::create_dir(&state).because(|| format!("making {}", state.display()))?;
        let console = match self.spec.tty {
            Some(_) => Some(terminal::Console::listen(&self.folder)?),
            None => None,
        };
        let mut container = self.create(&state, stdio, console.as_ref())?;
        let finished = self.finish(&mut container, console);
        if finished.is_err() {
            let _ = self.spec.leaf.kill();
        }
        finished.map(|(init, attached)| Launched { init, attached, watchdog })
    }

    fn create(
        &self,
        state: &Path,
        stdio: Stdio,
        console: Option<&terminal::Console>,
    ) -> Result<Container, Failure> {
        let builder = ContainerBuilder::new("c".into(), SyscallType::Linux)
            .with_root_path(state)
            .because(|| "naming the container's state")?
            .with_executor(Entry { payload: self.payload.clone() })
            .with_console_socket(console.map(terminal::Console::path));
        let builder = match console {
            Some(_) => builder,
            None => {
                builder.with_stdin(stdio.stdin).with_stdout(stdio.stdout).with_stderr(stdio.stderr)
            }
        };
        builder
            .as_init(&self.layout.bundle)
            .with_systemd(false)
            .with_detach(true)
            .build()
            .map_err(|error| explain("creating the container", &error))
    }

    fn finish(
        &self,
        container: &mut Container,
        console: Option<terminal::Console>,
    ) -> Result<(u32, Option<OwnedFd>), Failure> {
        let init = container
            .pid()
            .and_then(|pid| u32::try_from(pid.as_raw()).ok())
            .ok_or_else(|| Failure::machine("the container has no process"))?;
        look(init)?;
        let namespace = File::open(format!("/proc/{init}/ns/net"))
            .map(OwnedFd::from)
            .because(|| "opening the container's network namespace")?;
        let mut attached = match console {
            Some(console) => Some(console.accept(self.spec.tty)?),
            None => None,
        };
        match self.spec.plug {
            Some((address, hop)) => {
                network::plug(&self.network, &namespace, Plug { address, hop })?;
            }
            None => network::bring_up_loopback(&namespace)?,
        }
        if self.spec.role == Role::Build {
            let listener = network::inside(&namespace, || {
                std::net::TcpListener::bind(("127.0.0.1", PROXY_PORT))
            })?;
            attached = Some(listener.because(|| "listening for the build's proxy")?.into());
        }
        container.start().map_err(|error| explain("starting the container", &error))?;
        Ok((init, attached))
    }
}

/// The error with all its causes: the outermost alone says nothing.
fn explain(what: &str, error: &dyn std::error::Error) -> Failure {
    let mut text = format!("{what} failed: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    Failure::machine(text)
}

/// The process must be unable to gain anything, before it runs a line of the app.
fn look(init: u32) -> Result<(), Failure> {
    let path = format!("/proc/{init}/status");
    let status = fs::read_to_string(&path).because(|| format!("reading {path}"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map_or("", |rest| rest.trim_start_matches(':').trim())
    };
    let no_capabilities = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
        .iter()
        .all(|name| u64::from_str_radix(field(name), 16) == Ok(0));
    if field("Seccomp") == "2" && field("NoNewPrivs") == "1" && no_capabilities {
        return Ok(());
    }
    Err(Failure::machine(format!(
        "the container's process is not confined as it must be (Seccomp {}, NoNewPrivs {}, CapBnd \
         {}): it was ended; this build of berth-agent is not fit for this machine",
        field("Seccomp"),
        field("NoNewPrivs"),
        field("CapBnd")
    )))
}

/// What the container's process does last: becomes the platform's init with the app's argument
/// vector and environment. It runs confined, as the app's user; only here is the payload read.
#[derive(Clone)]
struct Entry {
    payload: Option<Rc<File>>,
}

impl Entry {
    /// Returns only when it fails.
    fn enter(&self) -> std::io::Error {
        let attempt = || -> std::io::Result<std::convert::Infallible> {
            let init = c_string(bundle::INIT)?;
            let (mut arguments, mut variables) = (vec![init.clone()], Vec::new());
            match &self.payload {
                None => arguments.push(c_string("--idle")?),
                Some(file) => {
                    let payload = read_payload(file)?;
                    arguments.push(c_string("--")?);
                    arguments.extend(c_strings(&payload.argv)?);
                    variables = environment(&payload)?;
                    rustix::process::chdir(&payload.working_dir)?;
                }
            }
            reset_signals();
            Ok(nix::unistd::execve(&init, &arguments, &variables)?)
        };
        match attempt() {
            Err(error) => error,
        }
    }
}

impl Executor for Entry {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let error = self.enter();
        // Standard error is the container's log by now; nobody else hears this.
        let _ = writeln!(std::io::stderr(), "berth: the process cannot be started: {error}");
        Err(ExecutorError::Other(error.to_string()))
    }

    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    /// The environment is given with `execve` alone.
    fn setup_envs(
        &self,
        _: std::collections::HashMap<String, String>,
    ) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

/// Reads a payload that was put into memory by `keep_payload`.
pub(crate) fn read_payload(file: &File) -> std::io::Result<Payload> {
    let length = usize::try_from(file.metadata()?.len()).map_err(std::io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    // The error of a parser may quote what it read: an environment is secret.
    let payload: Payload = serde_json::from_slice(&bytes)
        .map_err(|_| std::io::Error::other("the payload is not of the protocol"))?;
    if payload.argv.is_empty() {
        return Err(std::io::Error::other("the payload has no argument vector"));
    }
    Ok(payload)
}

/// Copies a payload, unread, from where it comes into memory of our own.
pub(crate) fn keep_payload(source: OwnedFd) -> Result<File, Failure> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let memory = rustix::fs::memfd_create("payload", flags).because(|| "making a memory file")?;
    let mut memory = File::from(memory);
    let mut source = File::from(source).take(PAYLOAD_BYTES_MAX + 1);
    let bytes = std::io::copy(&mut source, &mut memory).because(|| "reading the payload")?;
    if bytes > PAYLOAD_BYTES_MAX {
        return Err(Failure::new(
            berth_container::FailureCode::Limit,
            format!("argument vector and environment are over {PAYLOAD_BYTES_MAX} bytes"),
        ));
    }
    // The app's user must be able to read what it was forked with, and no one else.
    Ok(memory)
}

/// `NAME=value` for `execve`.
pub(crate) fn environment(payload: &Payload) -> std::io::Result<Vec<CString>> {
    payload.env.iter().map(|(name, value)| c_string(&format!("{name}={value}"))).collect()
}

/// For `execve`.
pub(crate) fn c_strings(texts: &[String]) -> std::io::Result<Vec<CString>> {
    texts.iter().map(|text| c_string(text)).collect()
}

fn c_string(text: &str) -> std::io::Result<CString> {
    CString::new(text).map_err(|_| std::io::Error::other("a text has a zero byte"))
}

/// Every disposition as a program expects it, and nothing blocked: what this process ignores
/// would be ignored by the app as well.
pub(crate) fn reset_signals() {
    // The kernel's structure: handler, flags, restorer, mask. All zero is the default.
    let default = [0_usize; 4];
    for signal in 1..=64_usize {
        #[expect(
            unsafe_code,
            reason = "by the system call, because the C library does not touch the two signals \
                      that it uses; no code is installed"
        )]
        unsafe {
            let none = std::ptr::null_mut::<usize>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, 8_usize);
        }
    }
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// Makes a pipe's inode the app's, so that it can open `/dev/stdout` as it can write to it.
pub(crate) fn give_to_app(pipe: &OwnedFd, spec: &RunSpec) -> Result<(), Failure> {
    let id = spec.ids.host(crate::run_wire::APP_USER);
    let (uid, gid) = (rustix::fs::Uid::from_raw(id), rustix::fs::Gid::from_raw(id));
    rustix::fs::fchown(pipe.as_fd(), Some(uid), Some(gid))
        .because(|| format!("giving descriptor {} to the app", pipe.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_not_confined_is_not_let_go() {
        // This one has capabilities, no filter, or both.
        let refused = look(std::process::id());
        assert!(refused.is_err_and(|failure| failure.message.contains("it was ended")));
    }
}
