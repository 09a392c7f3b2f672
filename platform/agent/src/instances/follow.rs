//! Listens to run processes, and finds those that an earlier agent started.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_container::{ContainerState, FailureCode};
use berth_model::InstanceId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::clear;
use crate::context::Context;
use crate::disk;
use crate::failure::{Because, Failure};
use crate::run_wire::{Ask, Identity, RUN_PROTOCOL, Report, RunSpec, Tell, receive, send};

/// How long a run process that closed its socket may take to end.
const END_WAIT: Duration = Duration::from_secs(10);
/// How long a run process may take to say who it is: a machine that is busy is no reason to end
/// apps that run. Tests set another time in `BERTH_AGENT_ANSWER_WAIT_MS`.
const ANSWER_WAIT_MS: u64 = 30_000;
/// How long a run process that an earlier agent just started may take to listen.
const LISTEN_WAIT: Duration = Duration::from_secs(30);

/// A connection to a container's run process.
pub(crate) fn connect(folder: &Path) -> Result<OwnedFd, Failure> {
    let path = folder.join("sock");
    let address = SocketAddrUnix::new(&path).because(|| format!("naming {}", path.display()))?;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .because(|| "making a socket")?;
    rustix::net::connect(&socket, &address)
        .because(|| format!("reaching the run process at {}", path.display()))?;
    Ok(socket)
}

/// Watches a run process that listens, on a thread of its own, until it ends; then clears away
/// what is left.
fn follow(context: &Arc<Context>, spec: Arc<RunSpec>) -> Result<(), Missed> {
    let folder = context.instance_run(spec.instance);
    let socket = connect(&folder)?;
    let (process, report) = match introduce(&socket) {
        Ok(introduced) => introduced,
        Err(Missed::Unfit(failure)) => {
            end_silent(&folder, &socket);
            return Err(Missed::Unfit(failure));
        }
        Err(absent) => return Err(absent),
    };
    let process = Arc::new(process);
    context.instances.held_by(spec.instance, Arc::clone(&process));
    if report.state != ContainerState::Exited {
        context.instances.reported(spec.instance, report);
    }
    let context = Arc::clone(context);
    std::thread::Builder::new()
        .name("container".into())
        .spawn(move || {
            listen(&context, &spec, &socket);
            end(&context, &spec, &process);
        })
        .because(|| "starting a thread")?;
    Ok(())
}

/// Why a run process is not followed.
enum Missed {
    /// It does not listen yet, or any more.
    Absent(Failure),
    /// It listens and does not answer, or is not who it says it is.
    Unfit(Failure),
}

impl From<Failure> for Missed {
    fn from(failure: Failure) -> Self {
        Self::Absent(failure)
    }
}

/// Asks who listens, and compares with what the kernel says of it: a pid alone may be another
/// process by now.
fn introduce(socket: &OwnedFd) -> Result<(OwnedFd, Report), Missed> {
    let lost = || Failure::machine("the run process closed the connection");
    limit_receiving(socket, Some(answer_wait()))?;
    send(socket, &Ask::Watch, &[]).because(|| "asking the run process")?;
    let Some(Tell::Hello(identity)) = hear(socket)? else { return Err(lost().into()) };
    let peer = rustix::net::sockopt::socket_peercred(socket).because(|| "reading the peer")?;
    let process =
        pidfd_open(peer.pid, PidfdFlags::empty()).because(|| "opening the run process")?;
    let pid = u32::try_from(peer.pid.as_raw_nonzero().get()).because(|| "reading the peer")?;
    let seen = Identity::of(pid).because(|| "reading the run process")?;
    let expected = Identity { protocol: identity.protocol, ..seen };
    if identity != expected || !is_understood(identity.protocol) {
        return Err(Missed::Unfit(Failure::machine(format!(
            "process {pid} is not the run process that it says it is"
        ))));
    }
    let Some(Tell::Report(report)) = hear(socket)? else { return Err(lost().into()) };
    limit_receiving(socket, None)?;
    Ok((process, report))
}

fn answer_wait() -> Duration {
    let set = std::env::var("BERTH_AGENT_ANSWER_WAIT_MS").ok();
    let set = set.and_then(|text| text.parse().ok()).filter(|ms| *ms > 0);
    Duration::from_millis(set.unwrap_or(ANSWER_WAIT_MS))
}

/// This version of the messages and the one before.
fn is_understood(protocol: u32) -> bool {
    protocol <= RUN_PROTOCOL && protocol + 1 >= RUN_PROTOCOL
}

fn limit_receiving(socket: &OwnedFd, wait: Option<Duration>) -> Result<(), Failure> {
    rustix::net::sockopt::set_socket_timeout(socket, rustix::net::sockopt::Timeout::Recv, wait)
        .because(|| "setting a time limit")
}

fn hear(socket: &OwnedFd) -> Result<Option<Tell>, Missed> {
    match receive::<Tell>(socket) {
        Ok(told) => Ok(told.map(|(tell, _)| tell)),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            let ms = answer_wait().as_millis();
            Err(Missed::Unfit(Failure::new(
                FailureCode::TimedOut,
                format!("the run process does not answer within {ms} ms"),
            )))
        }
        Err(error) => {
            Err(Failure::machine(format!("hearing the run process failed: {error}")).into())
        }
    }
}

/// Ends a run process that listens and does not answer, as one that is stopped or hangs. Whoever
/// made the socket in root's folder is known to the kernel; while it accepts connections it lives,
/// so that a pid which it had before and after is still its own.
fn end_silent(folder: &Path, socket: &OwnedFd) {
    let Ok(peer) = rustix::net::sockopt::socket_peercred(socket) else { return };
    let Ok(process) = pidfd_open(peer.pid, PidfdFlags::empty()) else { return };
    let own = Some(peer.pid) == rustix::process::Pid::from_raw(std::process::id().cast_signed());
    if !own && connect(folder).is_ok() && runs_this_program(peer.pid) {
        let _ = pidfd_send_signal(&process, Signal::KILL);
        ends_within(&process, END_WAIT);
    }
}

/// Whether a process is a run process of some build of this program.
fn runs_this_program(pid: rustix::process::Pid) -> bool {
    let path = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
    let words = fs::read(path).unwrap_or_default();
    let mut words = words.split(|byte| *byte == 0);
    words.next().is_some_and(|program| program.ends_with(b"/berth-agent"))
        && words.next() == Some(b"run")
}

/// Takes reports until the connection closes. The last one waits until all is cleared away.
fn listen(context: &Context, spec: &RunSpec, socket: &OwnedFd) {
    while let Ok(Some((tell, _))) = receive::<Tell>(socket) {
        if let Tell::Report(report) = tell
            && report.state != ContainerState::Exited
        {
            context.instances.reported(spec.instance, report);
        }
    }
}

/// The run process is ending: waits for it, then clears away.
fn end(context: &Context, spec: &RunSpec, process: &OwnedFd) {
    if !ends_within(process, END_WAIT) {
        let _ = pidfd_send_signal(process, Signal::KILL);
        ends_within(process, END_WAIT);
    }
    finish(context, spec);
}

fn ends_within(process: &OwnedFd, wait: Duration) -> bool {
    let mut polled = [PollFd::new(process, PollFlags::IN)];
    let wait = Timespec { tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
    !matches!(poll(&mut polled, Some(&wait)), Ok(0))
}

/// Clears away and writes down the end. What cannot be cleared is logged and tried again by gc.
pub(crate) fn finish(context: &Context, spec: &RunSpec) {
    let cleared = clear::clear(context, spec).and_then(|exit| {
        context.instances.gone(spec.instance, exit)?;
        crate::start::say_neighbours(context)
    });
    if let Err(failure) = cleared {
        context.log.line(format_args!("clearing away {}: {failure}", spec.instance));
        let exit = crate::run_wire::read_exit(&context.instance_run(spec.instance));
        let exit = exit.unwrap_or(berth_container::Exit {
            code: 137,
            oom: false,
            timed_out: false,
            memory_peak_bytes: 0,
        });
        let _ = context.instances.gone(spec.instance, exit);
    }
}

/// Finds every container of an earlier agent, all at once, so that one that hangs does not hold up
/// the others. One that cannot be found again is ended.
pub(crate) fn adopt_all(context: &Arc<Context>) -> Result<(), Failure> {
    let folder = context.run.join("i");
    let entries = fs::read_dir(&folder).because(|| format!("listing {}", folder.display()))?;
    std::thread::scope(|scope| {
        for entry in entries.flatten() {
            let id = entry.file_name().to_str().and_then(|name| name.parse::<InstanceId>().ok());
            let Some(instance) = id else { continue };
            scope.spawn(move || {
                if let Err(failure) = adopt(context, &entry.path()) {
                    context.log.line(format_args!("{instance} is not adopted: {failure}"));
                }
            });
        }
    });
    sweep_leaves(context);
    sweep_disks(context);
    Ok(())
}

fn adopt(context: &Arc<Context>, folder: &Path) -> Result<(), Failure> {
    let Ok(spec) = RunSpec::read(folder) else {
        // The agent died before the container was anything.
        return super::remove_folder(folder);
    };
    let spec = Arc::new(spec);
    let report = Report {
        state: ContainerState::Starting,
        attempt: 1,
        last_exit: None,
        started_at_ms: 0,
        init: None,
    };
    context.instances.adopt(Arc::clone(&spec), report, None);
    take_over(context, &spec)
}

/// Follows a run process that listens, or will soon, or has ended meanwhile: a short command may
/// be over before anyone asks.
pub(crate) fn take_over(context: &Arc<Context>, spec: &Arc<RunSpec>) -> Result<(), Failure> {
    let folder = context.instance_run(spec.instance);
    let deadline = Instant::now() + LISTEN_WAIT;
    loop {
        let missed = match follow(context, Arc::clone(spec)) {
            Ok(()) => return Ok(()),
            Err(missed) => missed,
        };
        if is_free(&folder)? {
            if let Missed::Unfit(failure) = missed {
                context.log.line(format_args!("{} is ended: {failure}", spec.instance));
            }
            finish(context, spec);
            return Ok(());
        }
        match missed {
            Missed::Absent(_) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Missed::Absent(failure) | Missed::Unfit(failure) => {
                finish(context, spec);
                return Err(failure);
            }
        }
    }
}

/// Whether no process holds the run folder's lock.
fn is_free(folder: &Path) -> Result<bool, Failure> {
    let path = folder.join("lock");
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error).because(|| format!("opening {}", path.display())),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error).because(|| format!("testing {}", path.display())),
    }
}

/// Control groups of containers that nobody knows or that are gone.
pub(crate) fn sweep_leaves(context: &Context) {
    for name in context.cgroups.names() {
        let Ok(instance) = name.parse::<InstanceId>() else { continue };
        if context.instances.get(instance).map_or(true, |known| known.is_gone()) {
            let leaf = context.cgroups.leaf(&name);
            if let Err(failure) = leaf.kill().and_then(|()| leaf.remove()) {
                context.log.line(format_args!("sweeping {name}: {failure}"));
            }
        }
    }
}

/// Disks of containers that nobody knows or that are gone.
pub(crate) fn sweep_disks(context: &Context) {
    for entry in fs::read_dir(context.disks()).into_iter().flatten().flatten() {
        let id = entry.file_name().to_str().and_then(|name| name.parse::<InstanceId>().ok());
        let Some(instance) = id else { continue };
        if context.instances.get(instance).is_ok_and(|known| !known.is_gone()) {
            continue;
        }
        if let Err(failure) = disk::remove(&entry.path()) {
            context.log.line(format_args!("the disk of {instance}: {failure}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_version_of_the_messages_and_the_one_before_are_understood() {
        let understood =
            |by: i64| u32::try_from(i64::from(RUN_PROTOCOL) + by).is_ok_and(is_understood);
        assert!(understood(0) && understood(-1));
        assert!(!understood(1) && !understood(-2));
    }
}
