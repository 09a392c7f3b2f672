//! Short-lived children of the agent for work on what others wrote: archives, packs, packages.
//!
//! A child is this program again (`berth-agent confined`), so that it has one thread and nothing
//! of the agent's memory. It hears its order over a socket that is its standard input, gives up
//! everything but what the order needs, and only then looks at a byte from outside. The agent
//! waits; when the caller goes away or the time is over, the child's control group is killed.

mod child;
mod mounts;
mod privileges;
mod program;
mod view;

use std::os::fd::{AsFd, OwnedFd};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use berth_container::FailureCode;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::{Deserialize, Serialize};

use crate::cgroup::{Leaf, LeafLimits};
use crate::connection::{Connection, Woken};
use crate::context::Context;
use crate::failure::{Because, Failure};
use crate::run_wire::{receive, send};
use crate::{layers, stack, worker};

pub(crate) use child::run;
pub(crate) use mounts::{Attributes, attach, become_root, clone_tree, own_root};
pub(crate) use privileges::{
    Kept, Limits, become_inner_root, bind_to_agent, drop_to, leave_network,
};
pub(crate) use program::{Program, Shown, place, wait};
pub(crate) use view::View;

/// What a child does. It carries no secret: it is shown in no list of processes, but it may be in
/// an error.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    /// Takes a tar apart.
    Unpack(layers::UnpackJob),
    /// Writes a directory of a container as a tar.
    Seal(layers::SealJob),
    /// Runs a program in a view of its own.
    Program(Program),
    /// Makes a stack.
    Stack(stack::StackJob),
    /// Becomes a long-lived program of the platform, which outlives the agent.
    Worker(worker::WorkerJob),
}

/// From the agent to its child, with the child's descriptors beside it.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    leaf: Leaf,
    job: Job,
}

/// From a child to the agent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// A descriptor is beside this.
    Attached,
    /// The work is done.
    Done { entries: u64, bytes: u64 },
    /// It was refused or failed.
    Failed { code: FailureCode, message: String },
}

impl From<Failure> for Said {
    fn from(failure: Failure) -> Self {
        Self::Failed { code: failure.code, message: failure.message }
    }
}

/// What happened next.
pub(crate) enum Event {
    /// The child said something.
    Said(Said, Vec<OwnedFd>),
    /// The child ended.
    Ended(ExitStatus),
    /// The caller closed its connection; the child is gone.
    Closed,
    /// The time was over; the child is gone.
    Late,
}

/// A child, and the control group that ends with it.
pub(crate) struct Confined {
    process: std::process::Child,
    pidfd: OwnedFd,
    /// None once the child has closed it: a program took over.
    socket: Option<OwnedFd>,
    leaf: Leaf,
}

static NUMBER: AtomicU64 = AtomicU64::new(0);
/// For the steps between a child's order and its exec.
const EXEC_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(10);
/// How the names of these leaves begin.
const LEAF: &str = "confined-";

/// Starts a child with its limits. `descriptors` are at most seven.
pub(crate) fn start(
    context: &Context,
    limits: LeafLimits,
    job: Job,
    descriptors: &[OwnedFd],
) -> Result<Confined, Failure> {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let leaf = context.cgroups.leaf(&format!("{LEAF}{}-{number}", std::process::id()));
    leaf.create(limits)?;
    let begun = begin(context, &leaf, job, descriptors);
    if begun.is_err() {
        let _ = leaf.kill().and_then(|()| leaf.remove());
    }
    begun
}

fn begin(
    context: &Context,
    leaf: &Leaf,
    job: Job,
    descriptors: &[OwnedFd],
) -> Result<Confined, Failure> {
    let (process, ours) = spawn(context)?;
    let pidfd = i32::try_from(process.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .ok_or_else(|| Failure::machine("the child has no process id"))?;
    let pidfd = rustix::process::pidfd_open(pidfd, rustix::process::PidfdFlags::empty());
    let mut confined = Confined {
        process,
        pidfd: pidfd.because(|| "opening the child's process")?,
        socket: None,
        leaf: leaf.clone(),
    };
    // On failure the drop of `confined` kills the child, which waits for this.
    give(&ours, leaf, job, descriptors)?;
    confined.socket = Some(ours);
    Ok(confined)
}

/// This program again, waiting for its order.
pub(crate) fn spawn(context: &Context) -> Result<(std::process::Child, OwnedFd), Failure> {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .because(|| "making a socket pair")?;
    let process = std::process::Command::new(context.program("berth-agent"))
        .arg("confined")
        .env_clear()
        .env("PATH", crate::PROGRAM_PATH)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .because(|| "starting berth-agent confined")?;
    Ok((process, ours))
}

/// Gives a waiting child its order.
pub(crate) fn give(
    socket: &OwnedFd,
    leaf: &Leaf,
    job: Job,
    descriptors: &[OwnedFd],
) -> Result<(), Failure> {
    let order = Order { leaf: leaf.clone(), job };
    send(socket, &order, descriptors).because(|| "handing the order to the child")
}

/// Waits until a child has become the program that it was ordered to be.
pub(crate) fn heard_exec(socket: &OwnedFd, what: &str) -> Result<(), Failure> {
    let timeout = Some(EXEC_TIME_MAX);
    rustix::net::sockopt::set_socket_timeout(socket, rustix::net::sockopt::Timeout::Recv, timeout)
        .because(|| "setting a time limit")?;
    match receive::<Said>(socket).because(|| what)? {
        None => Ok(()),
        Some((Said::Failed { code, message }, _)) => Err(Failure::new(code, message)),
        Some(_) => Err(Failure::machine(format!("{what}: it said something else"))),
    }
}

impl Confined {
    /// The next thing that happens.
    pub(crate) fn next(
        &mut self,
        connection: &Connection,
        deadline: Instant,
    ) -> Result<Event, Failure> {
        loop {
            let watched = self.socket.as_ref().map_or(self.pidfd.as_fd(), AsFd::as_fd);
            let woken = connection.wait(Some(watched), Some(deadline));
            match woken.because(|| "waiting for a child")? {
                Woken::Ready => {}
                Woken::Closed => return self.leaf.kill().map(|()| Event::Closed),
                Woken::Late => return self.leaf.kill().map(|()| Event::Late),
            }
            let Some(socket) = &self.socket else {
                let status = self.process.wait().because(|| "reaping a child")?;
                return Ok(Event::Ended(status));
            };
            match receive::<Said>(socket).because(|| "listening to a child")? {
                Some((said, descriptors)) => return Ok(Event::Said(said, descriptors)),
                None => self.socket = None,
            }
        }
    }

    /// Waits for the end of work that gives nothing but its counts.
    pub(crate) fn finish(
        mut self,
        connection: &Connection,
        deadline: Instant,
        what: &str,
    ) -> Result<(u64, u64), Failure> {
        let mut done = None;
        loop {
            match self.next(connection, deadline)? {
                Event::Said(Said::Done { entries, bytes }, _) => done = Some((entries, bytes)),
                Event::Said(Said::Failed { code, message }, _) => {
                    return Err(Failure::new(code, message));
                }
                Event::Said(Said::Attached, _) => {}
                Event::Closed => {
                    return Err(Failure::refused(format!("{what}: the caller went away")));
                }
                Event::Late => {
                    let message = format!("{what}: the time was over");
                    return Err(Failure::new(FailureCode::TimedOut, message));
                }
                Event::Ended(status) => {
                    return done.ok_or_else(|| self.ended_early(what, status));
                }
            }
        }
    }

    fn ended_early(&self, what: &str, status: ExitStatus) -> Failure {
        if self.leaf.oom_kills() > 0 {
            let message = format!("{what}: the memory limit of this work was reached");
            return Failure::new(FailureCode::Limit, message);
        }
        Failure::machine(format!("{what}: the process ended unexpectedly ({status})"))
    }

    /// Its control group, for what it used.
    pub(crate) fn leaf(&self) -> &Leaf {
        &self.leaf
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        // Before the order the child is not in its leaf yet; it reads the end of the socket then.
        self.socket = None;
        let _ = self.leaf.kill();
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = self.leaf.remove();
    }
}

/// Removes what the children of an agent that died left; they die with it.
pub(crate) fn sweep(context: &Context) -> Result<(), Failure> {
    for name in context.cgroups.names().iter().filter(|name| name.starts_with(LEAF)) {
        let leaf = context.cgroups.leaf(name);
        leaf.kill()?;
        leaf.remove()?;
    }
    Ok(())
}
