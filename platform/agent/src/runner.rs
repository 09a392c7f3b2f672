//! `berth-agent run`: one process per container, with one thread, from start to end.
//!
//! It owns the container's mounts, its standard streams, its restarts and its commands; the agent
//! only asks. It outlives the agent and is found again by the next one. When it dies, the
//! container dies with it. It must never have a second thread while it calls the container
//! runtime, and never interprets what the app wrote.

mod bundle;
mod commands;
mod join;
mod launch;
mod oom;
mod output;
mod restart;
pub(crate) mod root;
pub(crate) mod seccomp;
mod supervise;
mod terminal;
mod volume;
mod watchdog;

pub(crate) use bundle::CORE_BYTES_MAX;
pub(crate) use launch::reset_signals;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use berth_container::Role;
use rustix::fs::{FlockOperation, flock};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use crate::failure::{Because, Failure};
use crate::run_wire::{Ask, RunSpec, Tell, receive, send};

/// The whole life of the process. The agent's end of the start is descriptor 0.
pub(crate) fn run(folder: PathBuf) -> Result<(), Failure> {
    detach()?;
    // What the runtime makes in the container's root is for the app to pass through; files of our
    // own say their modes.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let start = take_stdin()?;
    give_up_limitlessness()?;
    let outcome = begin(&folder, &start);
    match outcome {
        Ok(supervisor) => {
            drop(start);
            supervisor.run()
        }
        Err(failure) => {
            let told = Tell::from(failure.clone());
            let _ = send(&start, &told, &[]);
            Err(failure)
        }
    }
}

/// Becomes nobody's child: the agent may end, this process stays.
fn detach() -> Result<(), Failure> {
    #[expect(unsafe_code, reason = "this process has one thread and no state yet")]
    let fork = unsafe { nix::unistd::fork() }.because(|| "forking")?;
    if let nix::unistd::ForkResult::Parent { .. } = fork {
        std::process::exit(0);
    }
    nix::unistd::setsid().because(|| "making a session").map(|_| ())
}

/// The container's writes are carried out with the rights of whoever mounted its root: with this
/// one they would pass every quota.
fn give_up_limitlessness() -> Result<(), Failure> {
    let because = || "giving up a capability";
    let mut sets = rustix::thread::capabilities(None).because(because)?;
    sets.effective.remove(rustix::thread::CapabilitySet::SYS_RESOURCE);
    sets.permitted.remove(rustix::thread::CapabilitySet::SYS_RESOURCE);
    sets.inheritable.remove(rustix::thread::CapabilitySet::SYS_RESOURCE);
    rustix::thread::set_capabilities(None, sets).because(because)
}

/// The start's socket, out of the way of the container's standard streams.
fn take_stdin() -> Result<OwnedFd, Failure> {
    let socket = rustix::io::fcntl_dupfd_cloexec(std::io::stdin().as_fd(), 3)
        .because(|| "taking the start's socket")?;
    let null = std::fs::File::open("/dev/null").because(|| "opening /dev/null")?;
    rustix::stdio::dup2_stdin(&null).because(|| "closing standard input")?;
    Ok(socket)
}

fn begin(folder: &Path, start: &OwnedFd) -> Result<supervise::Supervisor, Failure> {
    let spec = RunSpec::read(folder)?;
    let runs = spec.runs.clone();
    let lock = lock(folder)?;
    let (_, descriptors) = receive::<Ask>(start)
        .because(|| "waiting for the start")?
        .ok_or_else(|| Failure::machine("the agent closed the start"))?;
    let mut descriptors = descriptors.into_iter();
    let mut next = |what: &str| {
        descriptors.next().ok_or_else(|| Failure::refused(format!("no descriptor for {what}")))
    };
    let network = next("the network")?;
    let payload = match spec.role {
        Role::Build => None,
        Role::Instance | Role::Run => Some(Rc::new(launch::keep_payload(next("the payload")?)?)),
    };
    let stdin = if spec.stdin { Some(next("standard input")?) } else { None };
    root::own_mounts()?;
    let layout = root::Layout::make(folder)?;
    layout.mount_lowers(&spec)?;
    let caches = match &spec.caches {
        Some(disk) => Some(layout.mount_caches(disk, spec.ids)?),
        None => None,
    };
    let volumes = volume::mount_all(folder, &spec)?;
    let listener = listener(folder)?;
    let folder = folder.to_path_buf();
    let launcher = launch::Launcher { spec, folder, layout, payload, network, caches, volumes };
    let (supervisor, attached) = supervise::Supervisor::begin(launcher, listener, lock, stdin)?;
    let attached: Vec<OwnedFd> = attached.into_iter().collect();
    // An agent that died meanwhile does not hear it; the next one finds the container.
    let _ = send(start, &Tell::Started(supervisor.report()), &attached);
    // Last: on v1 it waits for a grace period of RCU, 10 ms and more, and nobody waits for it now.
    runs.add(std::process::id())?;
    Ok(supervisor)
}

/// Held for this process's life: whoever can take it knows that this process is gone.
fn lock(folder: &Path) -> Result<OwnedFd, Failure> {
    let path = folder.join("lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .because(|| format!("opening {}", path.display()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .because(|| format!("locking {} (the container has a run process)", path.display()))?;
    Ok(file.into())
}

fn listener(folder: &Path) -> Result<OwnedFd, Failure> {
    let path = folder.join("sock");
    let address = SocketAddrUnix::new(&path).because(|| format!("naming {}", path.display()))?;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .because(|| "making the control socket")?;
    bind(&socket, &address).because(|| format!("binding {}", path.display()))?;
    listen(&socket, 64).because(|| format!("listening on {}", path.display()))?;
    Ok(socket)
}
