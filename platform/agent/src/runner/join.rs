//! A command in a running container: a child that enters every namespace of it, gives up
//! everything that the container's own process gave up, and only then reads what it is to run.
//!
//! Two forks: the first enters, the second is the first process that the container can see. It
//! is a child of the run process, so that its exit code is read here, and dies with it.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use berth_container::{FailureCode, Terminal};
use libcontainer::oci_spec::runtime::LinuxSeccomp;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{PidfdFlags, Resource, Rlimit, getrlimit, pidfd_open, setrlimit};
use rustix::thread::ThreadNameSpaceType;
use serde::{Deserialize, Serialize};

use super::launch::{c_strings, environment, read_payload, reset_signals};
use super::{seccomp, terminal};
use crate::cgroup::Leaf;
use crate::failure::{Because, Failure};
use crate::run_wire::{APP_USER, receive, send};

/// What a shell answers for a command that is not there, or cannot be run.
const NOT_FOUND: i32 = 127;
const NOT_RUNNABLE: i32 = 126;

/// A command to run.
pub(crate) struct Command {
    pub(crate) payload: File,
    pub(crate) stdio: Stdio,
    /// Where its processes go: within the container's leaf.
    pub(crate) leaf: Leaf,
}

/// Where its standard streams lead.
pub(crate) enum Stdio {
    Terminal(Terminal),
    Descriptors([OwnedFd; 3]),
}

/// A command that runs.
pub(crate) struct Joined {
    pub(crate) pid: i32,
    pub(crate) process: OwnedFd,
    pub(crate) terminal: Option<OwnedFd>,
}

/// What the children say before the command takes over.
#[derive(Serialize, Deserialize)]
enum Word {
    /// From the first: the second one's pid.
    Pid(i32),
    /// From the second, with the master.
    Terminal,
    /// From either.
    Failed(String),
}

/// Starts the command in the container whose process 1 is `init`, a child of ours.
pub(crate) fn join(init: u32, command: Command) -> Result<Joined, Failure> {
    let filter: LinuxSeccomp =
        serde_json::from_value(seccomp::profile()).because(|| "reading the list of calls")?;
    let init = i32::try_from(init)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .ok_or_else(|| Failure::not_found("the container has no process"))?;
    let container =
        pidfd_open(init, PidfdFlags::empty()).because(|| "opening the container's process")?;
    command.leaf.create_unlimited()?;
    let entrances = command.leaf.entrances()?;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .because(|| "making a socket pair")?;
    #[expect(unsafe_code, reason = "this process has one thread")]
    let fork = unsafe { nix::unistd::fork() }.because(|| "forking")?;
    match fork {
        nix::unistd::ForkResult::Parent { child } => {
            drop(theirs);
            let heard = listen(&ours);
            let _ = nix::sys::wait::waitpid(child, None);
            heard
        }
        nix::unistd::ForkResult::Child => {
            drop(ours);
            let outcome = enter(&container, entrances).and_then(|()| second(&theirs));
            match outcome {
                Ok(true) => {}
                Ok(false) => end(0),
                Err(failure) => {
                    let _ = send(&theirs, &Word::Failed(failure.message), &[]);
                    end(1);
                }
            }
            let failure = confine_and_run(&theirs, command, &filter);
            let _ = send(&theirs, &Word::Failed(failure.message), &[]);
            end(if failure.code == FailureCode::NotFound { NOT_FOUND } else { NOT_RUNNABLE });
        }
    }
}

/// Ends a forked child at once: what it inherited is not its own to clean up.
fn end(code: i32) -> ! {
    #[expect(unsafe_code, reason = "_exit only ends this process")]
    unsafe {
        libc::_exit(code)
    }
}

/// Hears both children out: the socket is closed when the command took over.
fn listen(socket: &OwnedFd) -> Result<Joined, Failure> {
    let (mut pid, mut terminal, mut failed) = (None, None, None);
    while let Some((word, descriptors)) =
        receive::<Word>(socket).because(|| "starting the command")?
    {
        match word {
            Word::Pid(number) => pid = Some(number),
            Word::Terminal => terminal = descriptors.into_iter().next(),
            Word::Failed(message) => failed = Some(message),
        }
    }
    // A command that could not be run ends like one that ran: with a code and a line of text.
    let pid = match (pid, failed) {
        (Some(pid), _) => pid,
        (None, message) => {
            let message = message.unwrap_or_else(|| "the child ended".into());
            return Err(Failure::machine(format!("entering the container failed: {message}")));
        }
    };
    let number = rustix::process::Pid::from_raw(pid)
        .ok_or_else(|| Failure::machine("entering the container gave no process"))?;
    let process = pidfd_open(number, PidfdFlags::empty()).because(|| "opening the command")?;
    Ok(Joined { pid, process, terminal })
}

/// In the first child: into the leaf, then into the namespaces, as their root.
fn enter(container: &OwnedFd, entrances: Vec<File>) -> Result<(), Failure> {
    for mut entrance in entrances {
        entrance.write_all(b"0").because(|| "entering the control group")?;
    }
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .because(|| "hiding from the container")?;
    let all = ThreadNameSpaceType::USER
        | ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP;
    rustix::thread::move_into_thread_name_spaces(container.as_fd(), all)
        .because(|| "entering the namespaces")?;
    // The host's root is no one in there, and what no one makes cannot be handed over.
    let root = (nix::unistd::Gid::from_raw(0), nix::unistd::Uid::from_raw(0));
    nix::unistd::setgroups(&[]).because(|| "giving up groups")?;
    nix::unistd::setresgid(root.0, root.0, root.0).because(|| "becoming the inner root")?;
    nix::unistd::setresuid(root.1, root.1, root.1).because(|| "becoming the inner root")
}

/// Makes the second child; `true` in it. It is the run process's child, not the first one's.
fn second(socket: &OwnedFd) -> Result<bool, Failure> {
    #[expect(
        unsafe_code,
        reason = "like fork, in a process with one thread; CLONE_PARENT alone differs"
    )]
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_PARENT, 0, 0, 0, 0) };
    match i32::try_from(pid) {
        Ok(0) => Ok(true),
        Ok(pid) if pid > 0 => {
            send(socket, &Word::Pid(pid), &[]).because(|| "telling the command's process")?;
            Ok(false)
        }
        _ => Err(Failure::machine(format!(
            "forking in the container failed: {}",
            std::io::Error::last_os_error()
        ))),
    }
}

/// In the second child: gives up everything and becomes the command. Returns only on failure.
fn confine_and_run(socket: &OwnedFd, command: Command, filter: &LinuxSeccomp) -> Failure {
    let attempt = || -> Result<(), Failure> {
        nix::unistd::setsid().because(|| "making a session")?;
        streams(socket, command.stdio)?;
        limits()?;
        become_app_user()?;
        let payload = read_payload(&command.payload).because(|| "reading the command")?;
        let arguments = c_strings(&payload.argv).because(|| "reading the arguments")?;
        let variables = environment(&payload).because(|| "reading the environment")?;
        rustix::process::chdir(&payload.working_dir)
            .because(|| format!("entering {}", payload.working_dir))?;
        let path = payload.env.iter().find(|(name, _)| name == "PATH");
        let path = path.map_or("/usr/local/bin:/usr/bin:/bin", |(_, value)| value.as_str());
        let candidates = candidates(&payload.argv[0], path)?;
        libcontainer::seccomp::initialize_seccomp(filter).because(|| "loading the filter")?;
        reset_signals();
        Err(run(&candidates, &arguments, &variables))
    };
    match attempt() {
        Ok(()) => Failure::machine("the command did not take over"),
        Err(failure) => {
            // The caller of a command sees its standard error, as from a shell.
            let _ = writeln!(std::io::stderr(), "berth: {failure}");
            failure
        }
    }
}

fn streams(socket: &OwnedFd, stdio: Stdio) -> Result<(), Failure> {
    let place = |descriptors: [BorrowedFd<'_>; 3]| -> Result<(), Failure> {
        use std::os::fd::AsRawFd;
        for (number, descriptor) in (0..).zip(descriptors) {
            nix::unistd::dup2(descriptor.as_raw_fd(), number)
                .because(|| "placing the standard streams")?;
        }
        Ok(())
    };
    match stdio {
        Stdio::Terminal(size) => {
            let (master, end) = terminal::open(size)?;
            let owner = rustix::fs::Uid::from_raw(u32::from(APP_USER));
            rustix::fs::fchown(&end, Some(owner), None).because(|| "handing over the terminal")?;
            rustix::process::ioctl_tiocsctty(&end).because(|| "taking the terminal")?;
            place([end.as_fd(), end.as_fd(), end.as_fd()])?;
            send(socket, &Word::Terminal, &[master]).because(|| "handing over the terminal")?;
        }
        Stdio::Descriptors([stdin, stdout, stderr]) => {
            place([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
        }
    }
    #[expect(unsafe_code, reason = "marks descriptors for closing at exec; none is closed now")]
    let marked = unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    if marked == 0 { Ok(()) } else { Err(Failure::machine("closing descriptors failed")) }
}

/// The same limits as the container's own process.
fn limits() -> Result<(), Failure> {
    let own = getrlimit(Resource::Nofile).maximum.unwrap_or(super::bundle::OPEN_FILES_MAX);
    let files = Some(own.min(super::bundle::OPEN_FILES_MAX));
    setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files })
        .because(|| "limiting open files")?;
    let core = Some(super::bundle::CORE_BYTES_MAX);
    setrlimit(Resource::Core, Rlimit { current: core, maximum: core })
        .because(|| "limiting core files")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(())
}

fn become_app_user() -> Result<(), Failure> {
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
    rustix::thread::set_no_new_privs(true).because(|| "giving up new privileges")?;
    for capability in 0..64 {
        #[expect(unsafe_code, reason = "prctl with numbers alone")]
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if dropped != 0 {
            break;
        }
    }
    let id = u32::from(APP_USER);
    setgroups(&[]).because(|| "giving up groups")?;
    setresgid(Gid::from_raw(id), Gid::from_raw(id), Gid::from_raw(id))
        .because(|| "becoming the app's group")?;
    // Leaving user 0 takes every capability along.
    setresuid(Uid::from_raw(id), Uid::from_raw(id), Uid::from_raw(id))
        .because(|| "becoming the app's user")?;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .because(|| "binding the command's life to the run process")?;
    let left = rustix::thread::capabilities(None).because(|| "reading the capabilities")?;
    if left.permitted.is_empty() && left.effective.is_empty() && left.inheritable.is_empty() {
        Ok(())
    } else {
        Err(Failure::machine("capabilities are left"))
    }
}

/// The paths at which a command may be, in the order of PATH.
fn candidates(command: &str, path: &str) -> Result<Vec<CString>, Failure> {
    let texts = if command.contains('/') {
        vec![command.into()]
    } else {
        std::env::split_paths(path).map(|folder| folder.join(command)).collect()
    };
    texts
        .iter()
        .map(|path: &std::path::PathBuf| CString::new(path.as_os_str().as_bytes()))
        .collect::<Result<_, _>>()
        .because(|| "reading the command")
}

fn run(candidates: &[CString], arguments: &[CString], variables: &[CString]) -> Failure {
    let mut denied = None;
    for path in candidates {
        match nix::unistd::execve(path, arguments, variables) {
            Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => {}
            Err(error) => denied = Some(error),
            Ok(_) => {}
        }
    }
    let name = arguments.first().map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    match denied {
        Some(error) => Failure::machine(format!("{name}: cannot be run: {error}")),
        None => Failure::not_found(format!("{name}: command not found")),
    }
}
