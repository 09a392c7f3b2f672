//! `Stack`: a root file system from Debian packages, as the same tar for the same packages.
//!
//! mmdebstrap runs as the root of a user namespace in the block kept for stacks, sees the host's
//! programs and package sources read-only and a bounded scratch disk, and reaches the world only
//! through a proxy that berthd serves on the listener it is handed. What differs from one making
//! to the next is taken out before the tree is written.

mod clean;
mod debootstrap;
mod kept;
mod packages;
mod sources;

use std::fs::{self, File};
use std::io::BufWriter;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use berth_blobs::tar::{Rules, Writer};
use berth_container::{FailureCode, PROXY_PORT, Reply};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use crate::cgroup::LeafLimits;
use crate::confined::{self, Attributes, Event, Job, Kept, Limits, Said, View};
use crate::connection::Connection;
use crate::context::{Context, IdBlock};
use crate::disk::{self, Life};
use crate::failure::{Because, Failure};
use crate::layers::{Bounds, Odd, walk};
use crate::network::bring_up_loopback;
use crate::run_wire::send;
use crate::runner::root::user_namespace;
use crate::server::Answer;

pub(crate) use packages::{packages_of, packages_of_addon};

const LIMITS: LeafLimits = LeafLimits { memory_bytes: 3 << 30, cpu_milli: 64_000, pids: 512 };
/// For slow lines and disks.
const TIME_MAX: Duration = Duration::from_secs(40 * 60);
const DISK_MIB: u32 = 6 * 1024;
const BOUNDS: Bounds = Bounds { bytes_max: 4 << 30, entries_max: 400_000, depth_max: 100 };
/// Where the scratch disk is in the view, and the new root on it.
const SCRATCH: &str = "scratch";
const ROOT: &str = "/scratch/root";
/// What mmdebstrap and apt read of the host.
const HOST: [&str; 10] = [
    "etc/alternatives",
    "etc/apt",
    "etc/debian_version",
    "etc/dpkg",
    "etc/group",
    "etc/nsswitch.conf",
    "etc/passwd",
    "etc/perl",
    "etc/ssl",
    "var/lib/dpkg",
];

/// One at a time: they share their ids.
static BUSY: Mutex<()> = Mutex::new(());

/// What the child is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StackJob {
    /// Beside what Debian calls essential.
    packages: Vec<String>,
    ids: IdBlock,
    /// The scratch disk and where it is mounted.
    disk: PathBuf,
    mount: PathBuf,
    /// An empty folder to build the view on.
    view: PathBuf,
}

/// The verb.
pub(crate) fn make(
    context: &Arc<Context>,
    connection: &Connection,
    packages: Vec<String>,
    descriptors: Vec<OwnedFd>,
) -> Answer {
    let [archive, progress] = <[OwnedFd; 2]>::try_from(descriptors).map_err(|_| {
        Failure::refused("a stack takes two descriptors: where its tar and its progress go")
    })?;
    let _turn = match BUSY.try_lock() {
        Ok(turn) => turn,
        Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
        Err(TryLockError::WouldBlock) => {
            let message = "a stack is being made; wait for its end";
            return Err(Failure::new(FailureCode::Conflict, message));
        }
    };
    let (archive, kept) = kept::Place::lock(&packages)?.tee(archive)?;
    let scratch = Scratch::make(context)?;
    let job = Job::Stack(StackJob {
        packages,
        ids: context.stack_block(),
        disk: scratch.disk.clone(),
        mount: scratch.mount.clone(),
        view: crate::tool::view(context),
    });
    let mut child = confined::start(context, LIMITS, job, &[archive, progress])?;
    let deadline = Instant::now() + TIME_MAX;
    let what = "making the stack";
    match child.next(connection, deadline)? {
        Event::Said(Said::Attached, listener) => {
            let told = connection.reply(&Reply::Attached {}, &listener);
            told.because(|| "handing over the proxy's listener")?;
        }
        Event::Said(Said::Failed { code, message }, _) => return Err(Failure::new(code, message)),
        Event::Said(Said::Done { .. }, _) | Event::Ended(_) => {
            return Err(Failure::machine(format!("{what}: it ended before it began")));
        }
        Event::Closed => return Err(Failure::refused(format!("{what}: the caller went away"))),
        Event::Late => {
            let message = format!("{what}: the time was over");
            return Err(Failure::new(FailureCode::TimedOut, message));
        }
    }
    child.finish(connection, deadline, what)?;
    kept.keep()?;
    Ok((Reply::Done {}, Vec::new()))
}

/// The verb that gives what was made on this machine before.
pub(crate) fn find(packages: &[String], descriptors: Vec<OwnedFd>) -> Answer {
    let [archive] = <[OwnedFd; 1]>::try_from(descriptors)
        .map_err(|_| Failure::refused("a stack is given to one descriptor"))?;
    kept::Place::lock(packages)?.give(archive)?;
    Ok((Reply::Done {}, Vec::new()))
}

/// The scratch disk, removed with this.
struct Scratch {
    disk: PathBuf,
    mount: PathBuf,
}

impl Scratch {
    fn make(context: &Context) -> Result<Self, Failure> {
        let scratch =
            Self { disk: context.disks().join("stack"), mount: context.run.join("stack") };
        fs::create_dir_all(&scratch.mount)
            .because(|| format!("making {}", scratch.mount.display()))?;
        disk::remove(&scratch.disk)?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = disk::remove(&self.disk);
        let _ = fs::remove_dir(&self.mount);
    }
}

/// In the child.
pub(crate) fn child(
    job: &StackJob,
    socket: &OwnedFd,
    descriptors: Vec<OwnedFd>,
) -> Result<(u64, u64), Failure> {
    let [archive, progress] = <[OwnedFd; 2]>::try_from(descriptors)
        .map_err(|_| Failure::refused("a stack takes two descriptors"))?;
    let namespace = user_namespace(job.ids)?;
    confined::own_root()?;
    enter_view(job)?;
    confined::leave_network()?;
    send(socket, &Said::Attached, &[listener()?]).because(|| "handing over the listener")?;
    enter_namespaces(&namespace)?;
    #[expect(unsafe_code, reason = "this process has one thread")]
    match unsafe { nix::unistd::fork() }.because(|| "forking")? {
        nix::unistd::ForkResult::Parent { child } => confined::wait(child),
        nix::unistd::ForkResult::Child => {
            confined::bind_to_agent()?;
            let mut progress = debootstrap::Progress::new(File::from(progress));
            debootstrap::run(&job.packages, &mut progress)?;
            progress.line("Removing what differs from one making to the next");
            rustix::process::chroot(ROOT).because(|| "entering the new root")?;
            rustix::process::chdir("/").because(|| "entering the new root")?;
            clean::clean(Path::new("/"))?;
            progress.line("Packing");
            pack(archive)
        }
    }
}

/// The host's programs and package sources, and a scratch disk that the namespace's root owns.
fn enter_view(job: &StackJob) -> Result<(), Failure> {
    // What is written here comes from Debian's packages: nobody has to watch it.
    let _bound = disk::fresh(&job.disk, DISK_MIB, Life::OneContainer, &job.mount)?;
    let root = Some(job.ids.host(0));
    let own =
        |path: &Path| chown(path, root, root).because(|| format!("giving {} away", path.display()));
    let _ = fs::remove_dir(job.mount.join("lost+found"));
    let temporary = job.mount.join("tmp");
    fs::create_dir(&temporary).because(|| "making a folder on the scratch disk")?;
    own(&job.mount)?;
    own(&temporary)?;
    let view = View::begin(&job.view)?;
    for path in HOST {
        view.host(path)?;
    }
    for device in ["null", "zero", "full", "random", "urandom", "tty"] {
        view.device(device)?;
    }
    let writable = Attributes { writable: true, executable: true, shift: None };
    view.folder(&job.mount, SCRATCH, writable)?;
    // A process namespace may only show its own processes where these can be seen whole.
    let processes = Attributes { writable: true, ..Attributes::default() };
    view.folder(Path::new("/proc"), "proc", processes)?;
    view.link(Path::new("scratch/tmp"), "tmp")?;
    view.enter()
}

/// Where the proxy is spoken to: the only address there is.
fn listener() -> Result<OwnedFd, Failure> {
    let namespace =
        File::open("/proc/self/ns/net").because(|| "opening the network namespace")?.into();
    bring_up_loopback(&namespace)?;
    let listener = TcpListener::bind(("127.0.0.1", PROXY_PORT));
    Ok(listener.because(|| "listening for the proxy")?.into())
}

/// The root of the user namespace, with mounts and (from the next fork) processes of its own.
fn enter_namespaces(namespace: &OwnedFd) -> Result<(), Failure> {
    rustix::thread::move_into_link_name_space(
        std::os::fd::AsFd::as_fd(namespace),
        Some(rustix::thread::LinkNameSpaceType::User),
    )
    .because(|| "entering a user namespace")?;
    confined::become_inner_root()?;
    rustix::thread::set_no_new_privs(true).because(|| "giving up new privileges")?;
    let flags =
        UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
    #[expect(unsafe_code, reason = "this process has one thread")]
    unsafe { rustix::thread::unshare_unsafe(flags) }.because(|| "making namespaces")
}

/// Writes the tree as a tar; nothing but reading is left to this process.
fn pack(archive: OwnedFd) -> Result<(u64, u64), Failure> {
    let limits = Limits { file_bytes: 8 << 30, cpu_s: TIME_MAX.as_secs(), files: 512 };
    confined::drop_to(0, Kept::Reading, limits)?;
    let out = BufWriter::with_capacity(256 * 1024, File::from(archive));
    let mut out = Writer::new(out, Rules::Stack);
    walk("", BOUNDS, Odd::LeftOut, &mut out)?;
    let (_, written) = out.finish().because(|| "writing the stack")?;
    Ok((written.entries, written.bytes))
}
