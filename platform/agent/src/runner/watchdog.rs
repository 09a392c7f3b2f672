//! Looks every second how much lies in the folders that bound nothing by themselves.
//!
//! A process of its own, because the run process must not be held up by a walk through what an app
//! wrote. It is forked before anything of the container runs, touches nothing but these folders,
//! and dies with the run process. Files without a name count while a process of the container holds
//! them. Between two looks an app may write more than it may keep. Whatever cannot be looked at
//! ends the app, because nothing bounds it then.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::wait::{WaitStatus, waitpid};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cgroup::Leaf;
use crate::disk::{Size, measure, nameless};
use crate::failure::{Because, Failure};

const LOOK: Duration = Duration::from_secs(1);

/// A folder that is looked at.
#[derive(Debug)]
pub(crate) struct Watched {
    /// For people: `disk`, `caches`.
    pub(crate) what: &'static str,
    pub(crate) path: PathBuf,
    /// The container writes to it through its root, an overlay.
    pub(crate) root: bool,
    pub(crate) size: Size,
}

/// The process that looks. It is ended when this is dropped.
pub(crate) struct Watchdog {
    pid: nix::unistd::Pid,
    process: OwnedFd,
    watched: Vec<Watched>,
}

impl Watchdog {
    /// Starts to look, unless there is nothing to look at.
    pub(crate) fn start(watched: Vec<Watched>, leaf: &Leaf) -> Result<Option<Self>, Failure> {
        if watched.is_empty() {
            return Ok(None);
        }
        let parent = rustix::process::getpid();
        #[expect(unsafe_code, reason = "this process has one thread")]
        let fork = unsafe { nix::unistd::fork() }.because(|| "forking")?;
        let pid = match fork {
            nix::unistd::ForkResult::Parent { child } => child,
            nix::unistd::ForkResult::Child => look(&watched, leaf, parent),
        };
        let number = rustix::process::Pid::from_raw(pid.as_raw())
            .ok_or_else(|| Failure::machine("the watchdog has no process"))?;
        let process =
            pidfd_open(number, PidfdFlags::empty()).because(|| "opening the watchdog's process")?;
        Ok(Some(Self { pid, process, watched }))
    }

    /// Becomes readable when it ended, which it does when a folder holds too much.
    pub(crate) fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// After its end: what to say of it.
    pub(crate) fn verdict(&self) -> String {
        let index = match waitpid(self.pid, None) {
            Ok(WaitStatus::Exited(_, code)) => usize::try_from(code).ok(),
            _ => None,
        };
        match index.and_then(|index| self.watched.get(index)) {
            Some(Watched { what, size, .. }) => format!(
                "ended for its {what}: at most {} MiB and {} files are possible, no deeper than \
                 256 folders",
                size.bytes >> 20,
                size.files
            ),
            None => "ended, because nobody could look at its disk any more".into(),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
        let _ = waitpid(self.pid, None);
    }
}

/// In the child: ends with the index of the first folder that holds too much.
fn look(watched: &[Watched], leaf: &Leaf, parent: rustix::process::Pid) -> ! {
    // What it inherited means something by being open: the container's streams, callers.
    #[expect(unsafe_code, reason = "this process uses no descriptor of before")]
    unsafe {
        libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0);
    }
    if rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_err() {
        leave(255);
    }
    // A parent that died before that call sends no signal any more.
    if rustix::process::getppid() != Some(parent) {
        leave(255);
    }
    let _ = rustix::process::setpriority_process(None, 10);
    loop {
        let pids = leaf.processes();
        for (code, Watched { path, root, size, .. }) in (0..).zip(watched) {
            let Ok(named) = measure(path) else { leave(255) };
            let rest = nameless(&pids, path, *root, *size);
            if named.bytes.saturating_add(rest.bytes) > size.bytes
                || named.files.saturating_add(rest.files) > size.files
            {
                leave(code);
            }
        }
        std::thread::sleep(LOOK);
    }
}

fn leave(code: i32) -> ! {
    #[expect(unsafe_code, reason = "_exit only ends this process")]
    unsafe {
        libc::_exit(code)
    }
}
