//! Starting a program: what it is given, and what is written down of it.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use berth_container::Program;
use rustix::net::sockopt;
use serde::{Deserialize, Serialize};

use super::process::Process;
use crate::cgroup::LeafLimits;
use crate::confined::{self, Job, Kept, Limits};
use crate::context::Context;
use crate::failure::{Because, Failure};
use crate::run_wire::Identity;

/// Descriptors that may travel beside one message, less the two of the log and the agent's own.
const LISTENERS_MAX: usize = 4;
/// The first listener in the program.
pub(super) const FIRST: u32 = 3;
/// A log is emptied beyond this; the part before is kept once.
const LOG_BYTES_MAX: u64 = 4 << 20;
/// More cores than a machine has: no bound but the machine's.
const CPU_MILLI: u32 = 1_024_000;

/// What the child is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WorkerJob {
    program: PathBuf,
    word: String,
    data: PathBuf,
    id: u32,
}

/// What is written down of a running program, for the next agent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) identity: Identity,
    pub(super) build: String,
    /// Name of its control group.
    pub(super) leaf: String,
    pub(super) listeners: u32,
    /// Sockets after them that the agent opened; none in what an older agent wrote.
    #[serde(default)]
    pub(super) own: u32,
}

/// The program's word on the command line, in file names and in messages.
pub(crate) fn word(program: Program) -> &'static str {
    match program {
        Program::Route => "route",
        Program::Wasm => "wasm",
    }
}

/// How the names of a program's control groups begin.
pub(super) fn leaf_prefix(program: Program) -> String {
    format!("worker-{}-", word(program))
}

pub(super) fn note_path(context: &Context, program: Program) -> PathBuf {
    context.run.join(format!("worker-{}.json", word(program)))
}

/// Removes what was written down.
pub(super) fn forget(context: &Context, program: Program) -> Result<(), Failure> {
    match fs::remove_file(note_path(context, program)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).because(|| format!("forgetting {}", word(program)))
        }
        _ => Ok(()),
    }
}

fn limits(program: Program) -> LeafLimits {
    match program {
        Program::Route => LeafLimits { memory_bytes: 2 << 30, cpu_milli: CPU_MILLI, pids: 1024 },
        Program::Wasm => LeafLimits { memory_bytes: 1 << 30, cpu_milli: CPU_MILLI, pids: 1024 },
    }
}

/// Only sockets that listen are taken for listeners.
pub(super) fn check(program: Program, descriptors: &[OwnedFd]) -> Result<(), Failure> {
    if !(2..=LISTENERS_MAX).contains(&descriptors.len()) {
        return Err(Failure::refused(format!(
            "{} listeners came for {}; it takes 2 to {LISTENERS_MAX}",
            descriptors.len(),
            word(program)
        )));
    }
    for (number, descriptor) in descriptors.iter().enumerate() {
        if !matches!(sockopt::socket_acceptconn(descriptor), Ok(true)) {
            return Err(Failure::refused(format!(
                "descriptor {number} for {} is not a listening socket",
                word(program)
            )));
        }
    }
    Ok(())
}

/// Whether two lists are the same open sockets.
pub(super) fn same_sockets(one: &[OwnedFd], other: &[OwnedFd]) -> bool {
    let identity = |fd: &OwnedFd| sockopt::socket_cookie(fd).ok();
    one.len() == other.len()
        && one.iter().zip(other).all(|(a, b)| identity(a).is_some() && identity(a) == identity(b))
}

/// Starts the program and writes it down.
pub(super) fn launch(
    context: &Context,
    program: Program,
    listeners: &[OwnedFd],
    own: &[OwnedFd],
) -> Result<Arc<Process>, Failure> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}{}-{number}", leaf_prefix(program), std::process::id());
    let leaf = context.cgroups.leaf(&name);
    leaf.create(limits(program))?;
    let sockets: Vec<&OwnedFd> = listeners.iter().chain(own).collect();
    let started = begin(context, program, &sockets, &leaf).and_then(|child| {
        let pid = child.id();
        let identity = Identity::of(pid).because(|| format!("looking at {}", word(program)));
        let process = Process::open(pid, Some(child), leaf.clone(), context.build.clone())?;
        let count = |sockets: &[OwnedFd]| u32::try_from(sockets.len()).unwrap_or(0);
        let note = Note {
            identity: identity?,
            build: context.build.clone(),
            leaf: name,
            listeners: count(listeners),
            own: count(own),
        };
        write_note(&note_path(context, program), &note)?;
        Ok(Arc::new(process))
    });
    if started.is_err() {
        let _ = leaf.kill().and_then(|()| leaf.remove());
    }
    started
}

fn begin(
    context: &Context,
    program: Program,
    sockets: &[&OwnedFd],
    leaf: &crate::cgroup::Leaf,
) -> Result<std::process::Child, Failure> {
    let null = File::open("/dev/null").because(|| "opening /dev/null")?;
    let log = log(context, program)?;
    let mut descriptors = vec![OwnedFd::from(null), OwnedFd::from(log)];
    for socket in sockets {
        descriptors.push(socket.try_clone().because(|| "duplicating a listener")?);
    }
    let id = match program {
        Program::Route => context.ids.route,
        Program::Wasm => context.ids.wasm,
    };
    let job = Job::Worker(WorkerJob {
        program: context.program("berthd"),
        word: word(program).into(),
        data: context.data.clone(),
        id,
    });
    let (mut child, socket) = confined::spawn(context)?;
    let heard = confined::give(&socket, leaf, job, &descriptors).and_then(|()| {
        confined::heard_exec(&socket, &format!("starting berthd {}", word(program)))
    });
    if heard.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    heard.map(|()| child)
}

fn log_path(context: &Context, program: Program) -> PathBuf {
    context.data.join(format!("worker-{}.log", word(program)))
}

/// What the program says of itself, root's.
fn log(context: &Context, program: Program) -> Result<File, Failure> {
    cut_log(context, program);
    let path = log_path(context, program);
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)
        .because(|| format!("opening {}", path.display()))
}

/// Keeps the log within its bound. The program has it open for appending and goes on writing.
pub(super) fn cut_log(context: &Context, program: Program) {
    let path = log_path(context, program);
    let long = fs::metadata(&path).is_ok_and(|found| found.len() > LOG_BYTES_MAX);
    if long && fs::copy(&path, path.with_extension("log.1")).is_ok() {
        let _ = OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(0));
    }
}

fn write_note(path: &Path, note: &Note) -> Result<(), Failure> {
    let text = serde_json::to_vec(note).because(|| "writing down a worker")?;
    let fresh = path.with_extension("new");
    fs::write(&fresh, text)
        .and_then(|()| fs::rename(&fresh, path))
        .because(|| format!("writing {}", path.display()))
}

/// In the child: becomes the program. Returns only on failure.
pub(crate) fn child(job: &WorkerJob, mut descriptors: Vec<OwnedFd>) -> Result<(), Failure> {
    nix::unistd::setsid().because(|| "making a session")?;
    if descriptors.len() < 2 {
        return Err(Failure::refused("a worker takes its log and its listeners"));
    }
    let log = descriptors[1].as_fd().try_clone_to_owned().because(|| "duplicating the log")?;
    descriptors.insert(2, log);
    let limits = Limits { file_bytes: u64::MAX, cpu_s: u64::MAX, files: 1 << 20 };
    let path = nix_text(job.program.as_os_str().as_encoded_bytes())?;
    let first = FIRST.to_string();
    let words: [&[u8]; 6] = [
        b"berthd",
        job.word.as_bytes(),
        b"--listeners-from-fd",
        first.as_bytes(),
        b"--data",
        job.data.as_os_str().as_encoded_bytes(),
    ];
    let argv = words.map(nix_text).into_iter().collect::<Result<Vec<_>, _>>()?;
    let env = [
        c"PATH=/usr/bin:/bin".to_owned(),
        c"HOME=/nonexistent".to_owned(),
        c"LC_ALL=C.UTF-8".to_owned(),
    ];
    rustix::process::chdir("/").because(|| "entering /")?;
    confined::place(descriptors)?;
    confined::drop_to(job.id, Kept::Nothing, limits)?;
    crate::runner::reset_signals();
    match nix::unistd::execve(&path, &argv, &env) {
        Ok(never) => match never {},
        Err(error) => {
            Err(Failure::machine(format!("executing {} failed: {error}", job.program.display())))
        }
    }
}

fn nix_text(bytes: &[u8]) -> Result<std::ffi::CString, Failure> {
    std::ffi::CString::new(bytes).because(|| "preparing the program")
}
