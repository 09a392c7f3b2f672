//! Commands that run in the container beside its own process.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use berth_container::{Exit, FailureCode, Terminal};
use nix::sys::wait::{WaitStatus, waitpid};

use super::join::{Command, Joined, Stdio, join};
use super::launch::{give_to_app, keep_payload};
use crate::cgroup::Leaf;
use crate::failure::Failure;
use crate::run_wire::{RunSpec, Tell, send};

/// Commands at one time in one container.
const COMMANDS_MAX: usize = 64;

/// One command, and who waits for it.
pub(crate) struct Running {
    pub(crate) caller: OwnedFd,
    pub(crate) process: OwnedFd,
    pid: i32,
    leaf: Leaf,
    pub(crate) deadline: Instant,
    timed_out: bool,
}

/// All commands of one container.
#[derive(Default)]
pub(crate) struct Commands {
    pub(crate) running: Vec<Running>,
    started: u64,
}

impl Commands {
    /// Starts a command and tells its caller about a failure or a terminal.
    pub(crate) fn start(
        &mut self,
        spec: &RunSpec,
        init: Option<u32>,
        caller: OwnedFd,
        tty: Option<Terminal>,
        time_ms_max: u32,
        descriptors: Vec<OwnedFd>,
    ) {
        let joined = self.join(spec, init, tty, descriptors);
        let (joined, leaf) = match joined {
            Ok(joined) => joined,
            Err(failure) => {
                let _ = send(&caller, &Tell::from(failure), &[]);
                return;
            }
        };
        let Joined { pid, process, terminal } = joined;
        if let Some(terminal) = terminal {
            let _ = send(&caller, &Tell::Attached, &[terminal]);
        }
        let deadline = Instant::now() + Duration::from_millis(u64::from(time_ms_max));
        self.running.push(Running { caller, process, pid, leaf, deadline, timed_out: false });
    }

    fn join(
        &mut self,
        spec: &RunSpec,
        init: Option<u32>,
        tty: Option<Terminal>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(Joined, Leaf), Failure> {
        let Some(init) = init else {
            return Err(Failure::new(
                FailureCode::Conflict,
                "the container's process does not run at this moment; try again",
            ));
        };
        if self.running.len() >= COMMANDS_MAX {
            return Err(Failure::new(
                FailureCode::Limit,
                format!("{COMMANDS_MAX} commands run in this container; wait for one to end"),
            ));
        }
        let mut descriptors = descriptors.into_iter();
        let missing = || Failure::refused("the request has too few descriptors");
        let payload = keep_payload(descriptors.next().ok_or_else(missing)?)?;
        let stdio = match tty {
            Some(size) => Stdio::Terminal(size),
            None => {
                let mut next = || descriptors.next().ok_or_else(missing);
                let streams = [next()?, next()?, next()?];
                for pipe in streams[1..].iter().filter(|stream| is_pipe(stream)) {
                    give_to_app(pipe, spec)?;
                }
                Stdio::Descriptors(streams)
            }
        };
        self.started += 1;
        let leaf = spec.leaf.child(&format!("x{}", self.started));
        match join(init, Command { payload, stdio, leaf: leaf.clone() }) {
            Ok(joined) => Ok((joined, leaf)),
            Err(failure) => {
                let _ = leaf.kill().and_then(|()| leaf.remove());
                Err(failure)
            }
        }
    }

    /// Ends what is over its time.
    pub(crate) fn end_late(&mut self, now: Instant) {
        for command in self.running.iter_mut().filter(|c| !c.timed_out && c.deadline <= now) {
            command.timed_out = true;
            command.kill();
        }
    }

    /// The next moment at which `end_late` has work.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.running.iter().filter(|c| !c.timed_out).map(|c| c.deadline).min()
    }

    /// Its process ended: tells the caller how. What it left running is ended.
    pub(crate) fn ended(&mut self, index: usize) {
        let command = self.running.swap_remove(index);
        let code = exit_code(command.pid);
        let oom = command.leaf.oom_kills() > 0;
        let memory_peak_bytes = command.leaf.memory_peak_bytes();
        command.kill();
        let exit = Exit { code, oom, timed_out: command.timed_out, memory_peak_bytes };
        let _ = send(&command.caller, &Tell::Exited { exit }, &[]);
        let _ = command.leaf.remove();
    }
}

impl Running {
    /// Ends the command and everything that it started.
    pub(crate) fn kill(&self) {
        let _ = self.leaf.kill();
    }
}

fn is_pipe(descriptor: &OwnedFd) -> bool {
    rustix::fs::fstat(descriptor).is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo
    })
}

/// Reaps a child that ended: its code, or 128 and the signal, as shells say it.
pub(crate) fn exit_code(pid: i32) -> i32 {
    match waitpid(nix::unistd::Pid::from_raw(pid), None) {
        Ok(WaitStatus::Exited(_, code)) => code,
        Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
        _ => 255,
    }
}
