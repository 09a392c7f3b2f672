//! `berth-agent serve`: finds or makes everything of a data folder, takes its containers back,
//! says `ready`, and serves until it is told to end.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_container::{FailureCode, NetworkSettings};
use rustix::fs::{FlockOperation, flock, fstatfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::agent_log::AgentLog;
use crate::cgroup::Hierarchy;
use crate::context::Context;
use crate::failure::{Because, Failure};
use crate::instances::{self, Instances};
use crate::layers::{self, Trees};
use crate::machine::{Asked, Share};
use crate::network::{self, Addresses, Net};
use crate::worker::{self, Workers};
use crate::{confined, disk, machine, server, tool};

/// `TMPFS_MAGIC` of linux/magic.h.
const TMPFS_MAGIC: i64 = 0x0102_1994;
/// Where all run folders lie.
const RUN: &str = "/run/berth";
/// How often the host's network is put in order again.
const RECONCILE: Duration = Duration::from_secs(3);
/// An address rests this long; tests set another time in `BERTH_AGENT_ADDRESS_QUARANTINE_MS`.
const QUARANTINE_MS: i64 = 60_000;

/// The whole life of the agent.
pub(crate) fn serve(data: &Path, settings: NetworkSettings) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::refused("berth-agent serve needs root"));
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let data = fs::canonicalize(data).because(|| format!("finding {}", data.display()))?;
    let data_id = read_id(&data)?;
    let _lock = lock(&data)?;
    let context = Arc::new(open(data, data_id, settings)?);
    context.log.line(format_args!("agent {} begins", std::process::id()));
    context.log.line(format_args!("disks are {}", disk::kind(&context.disks())));
    instances::adopt_all(&context)?;
    crate::start::say_neighbours(&context)?;
    confined::sweep(&context)?;
    tool::prepare(&context)?;
    layers::sweep(&context)?;
    worker::adopt(&context)?;
    keep_network(&context)?;
    let listener = server::bind_socket(&context.run)?;
    println!("ready");
    std::io::stdout().flush().because(|| "saying that the agent is ready")?;
    server::serve(&context, &listener).because(|| "serving")
}

/// 16 hex digits in DATA/id, which berthd makes.
fn read_id(data: &Path) -> Result<String, Failure> {
    let path = data.join("id");
    let text = fs::read_to_string(&path).because(|| format!("reading {}", path.display()))?;
    let id = text.trim();
    let valid = id.len() == 16 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !valid {
        return Err(Failure::refused(format!("{} is not 16 hex digits", path.display())));
    }
    Ok(id.to_owned())
}

/// How long an agent that retires may take to let go of the data folder after its answer.
const LOCK_WAIT: Duration = Duration::from_secs(10);
const LOCK_LOOK: Duration = Duration::from_millis(10);

/// Only one agent per data folder. One that is just leaving is waited for.
fn lock(data: &Path) -> Result<OwnedFd, Failure> {
    let path = data.join("agent.lock");
    let file: File = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .because(|| format!("opening {}", path.display()))?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file.into()),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(LOCK_LOOK),
            Err(error) => {
                let path = path.display();
                let message = format!("{path} is locked: another agent serves it ({error})");
                return Err(Failure::new(FailureCode::Conflict, message));
            }
        }
    }
}

fn open(data: PathBuf, data_id: String, settings: NetworkSettings) -> Result<Context, Failure> {
    let log = AgentLog::open(&data.join("agent.log"));
    let in_place = network::is_there(&Path::new(RUN).join(&data_id));
    let asked = Asked { data_id: &data_id, data: &data, range: settings.range, in_place };
    let share = machine::share(&asked, collect)?;
    let run = run_folder(&data_id)?;
    for (folder, mode) in [
        (run.join("i"), 0o711),
        (run.join("ctl"), 0o711),
        (data.join("trees"), 0o700),
        (data.join("disks"), 0o700),
        (data.join("logs"), 0o700),
    ] {
        make_folder(&folder, mode)?;
    }
    let ids = share.ids();
    let control = Some(ids.control);
    std::os::unix::fs::chown(run.join("ctl"), control, control)
        .because(|| "giving the control sockets' folder to berthd")?;
    let net = Net::open(&run, &data_id, share, settings.private_ranges)?;
    let cgroups = Hierarchy::open(&data_id)?;
    cgroups.leaf("runs").create_unlimited()?;
    let own = std::env::current_exe().because(|| "finding this program")?;
    let bin = own.parent().map(Path::to_path_buf).unwrap_or_default();
    let build = bin.file_name().map(|name| name.to_string_lossy().into_owned());
    let addresses = Addresses::open(&run, share.network(), quarantine_ms());
    Ok(Context {
        build: build.unwrap_or_default(),
        bin,
        uid_base: share.uid_base(),
        network: net.facts(),
        instances: Instances::new(addresses),
        trees: Trees::default(),
        workers: Workers::default(),
        data,
        run,
        ids,
        net,
        cgroups,
        log,
    })
}

/// Clears away what a data folder that is gone left behind: its agent, if one runs, cannot be
/// asked any more.
fn collect(data_id: &str, share: Share) -> Result<(), Failure> {
    let run = Path::new(RUN).join(data_id);
    let cgroups = Hierarchy::open(data_id)?;
    for name in cgroups.names() {
        let leaf = cgroups.leaf(&name);
        leaf.kill()?;
        leaf.remove()?;
    }
    cgroups.remove()?;
    network::remove_traces(&run, data_id, share)?;
    remove_run_folder(&run)
}

/// Takes a run folder away, and its tmpfs.
pub(crate) fn remove_run_folder(run: &Path) -> Result<(), Failure> {
    if is_mount(run) {
        unmount(run, UnmountFlags::DETACH).because(|| format!("unmounting {}", run.display()))?;
    }
    instances::remove_folder(run)
}

fn quarantine_ms() -> i64 {
    let set = std::env::var("BERTH_AGENT_ADDRESS_QUARANTINE_MS").ok();
    set.and_then(|text| text.parse().ok()).filter(|ms| *ms >= 0).unwrap_or(QUARANTINE_MS)
}

/// `/run/berth/<data-id>`: always on a tmpfs, because what lies there must not outlive the
/// machine's start or reach a disk.
fn run_folder(data_id: &str) -> Result<PathBuf, Failure> {
    let base = Path::new(RUN);
    make_folder(base, 0o755)?;
    let run = base.join(data_id);
    make_folder(&run, 0o755)?;
    let folder = File::open(&run).because(|| format!("opening {}", run.display()))?;
    let kind = fstatfs(&folder).because(|| format!("looking at {}", run.display()))?;
    if kind.f_type != TMPFS_MAGIC {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("berth", &run, "tmpfs", flags, c"mode=0755,size=256m")
            .because(|| format!("mounting a tmpfs at {}", run.display()))?;
    }
    Ok(run)
}

fn make_folder(path: &Path, mode: u32) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .because(|| format!("making {}", path.display()))
}

/// Whether a folder is there and is the root of a mount.
fn is_mount(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    let outside = path.parent().and_then(device);
    device(path).is_some_and(|own| Some(own) != outside)
}

/// Puts the host's network in order again and again, because Docker, firewalls and operators
/// change it without telling.
fn keep_network(context: &Arc<Context>) -> Result<(), Failure> {
    let context = Arc::clone(context);
    std::thread::Builder::new()
        .name("network".into())
        .spawn(move || {
            let mut said = String::new();
            loop {
                std::thread::sleep(RECONCILE);
                match context.net.reconcile() {
                    Ok(()) => said.clear(),
                    Err(failure) if failure.message != said => {
                        context.log.line(format_args!("network: {failure}"));
                        said = failure.message;
                    }
                    Err(_) => {}
                }
            }
        })
        .because(|| "starting a thread")
        .map(|_| ())
}
