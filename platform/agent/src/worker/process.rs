//! One process of a program: its life as a pidfd tells it, and its control group.

use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cgroup::Leaf;
use crate::failure::{Because, Failure};

/// A started or adopted process.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    pidfd: OwnedFd,
    /// None for one that another agent started.
    child: Mutex<Option<Child>>,
    leaf: Leaf,
    build: String,
}

impl Process {
    /// Opens a process. Whoever calls knows that `pid` is still the one that is meant, or looks
    /// afterwards.
    pub(super) fn open(
        pid: u32,
        child: Option<Child>,
        leaf: Leaf,
        build: String,
    ) -> Result<Self, Failure> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or_else(|| Failure::machine(format!("{pid} is no process id")))?;
        let pidfd = pidfd_open(number, PidfdFlags::empty())
            .because(|| format!("opening the process {pid}"))?;
        Ok(Self { pid, pidfd, child: Mutex::new(child), leaf, build })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Its control group.
    pub(super) fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// Build id of its program.
    pub(super) fn build(&self) -> &str {
        &self.build
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
    }

    /// Whether it has ended; a zombie has.
    pub(super) fn has_ended(&self) -> bool {
        self.wait(Instant::now())
    }

    /// Waits for its end, no longer than until `deadline`; whether it has ended.
    pub(super) fn wait(&self, deadline: Instant) -> bool {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
            match poll(&mut polled, Some(&timeout)) {
                Ok(count) => return count > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Kills what is left of it and removes its control group.
    pub(super) fn clear(&self) -> Result<(), Failure> {
        self.leaf.kill()?;
        if let Some(mut child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = child.wait();
        }
        self.leaf.remove()
    }
}
