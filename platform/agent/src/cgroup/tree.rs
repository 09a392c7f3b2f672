//! Where leaves lie, and what is done with them.

mod read;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::LeafLimits;
use crate::failure::{Because, Failure};

const ROOT: &str = "/sys/fs/cgroup";
/// The controllers that leaves are made in on v1; a machine without one of the first three is
/// refused.
const V1_CONTROLLERS: [&str; 5] = ["memory", "cpu", "pids", "cpuacct", "freezer"];
const V1_NEEDED: usize = 3;
/// How long the kernel may take to empty a leaf whose processes are killed.
const EMPTY_WAIT_MAX: Duration = Duration::from_secs(10);

/// The folder of one data folder's leaves.
#[derive(Debug, Clone)]
pub(crate) struct Hierarchy {
    version: Version,
    /// From the root of a tree to the folder that holds the leaves, such as `berth/<data-id>`.
    base: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
enum Version {
    V1,
    V2,
}

/// One leaf. Nothing is there before `create`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Leaf {
    version: Version,
    path: PathBuf,
}

impl Hierarchy {
    /// Finds out which version this machine has and makes the folder of the data folder's leaves.
    pub(crate) fn open(data_id: &str) -> Result<Self, Failure> {
        let unified = Path::new(ROOT).join("cgroup.controllers").exists();
        if unified {
            let base = delegated_base()?.join("berth").join(data_id);
            enable_controllers(&base)?;
            return Ok(Self { version: Version::V2, base });
        }
        for controller in &V1_CONTROLLERS[..V1_NEEDED] {
            if !Path::new(ROOT).join(controller).join("cgroup.procs").exists() {
                return Err(Failure::machine(format!(
                    "the kernel's {controller} controller is not mounted at {ROOT}/{controller}: \
                     mount it, or boot with cgroup v2"
                )));
            }
        }
        Ok(Self { version: Version::V1, base: Path::new("berth").join(data_id) })
    }

    /// The leaf of this name: letters, digits, `-` and `_` only, chosen by the agent.
    pub(crate) fn leaf(&self, name: &str) -> Leaf {
        Leaf { version: self.version, path: self.base.join(name) }
    }

    /// Names of all leaves that are there.
    pub(crate) fn names(&self) -> Vec<String> {
        let tree = match self.version {
            Version::V1 => Path::new(ROOT).join("memory").join(&self.base),
            Version::V2 => Path::new(ROOT).join(&self.base),
        };
        let entries = fs::read_dir(tree).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    /// Removes the emptied folder itself.
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        remove_everywhere(self.version, &self.base)
    }
}

impl Leaf {
    /// Makes the leaf with its limits; a leaf that is there gets them anew.
    pub(crate) fn create(&self, limits: LeafLimits) -> Result<(), Failure> {
        self.create_unlimited()?;
        match self.version {
            Version::V1 => {
                for (controller, file, value) in limits.v1() {
                    self.write(&self.v1(controller).join(file), &value, file.contains("memsw"))?;
                }
            }
            Version::V2 => {
                for (file, value) in limits.v2() {
                    self.write(&self.v2().join(file), &value, file.contains("swap"))?;
                }
            }
        }
        Ok(())
    }

    /// Makes the leaf without limits, for the platform's own processes.
    pub(crate) fn create_unlimited(&self) -> Result<(), Failure> {
        self.folders().iter().try_for_each(|folder| make_folder(folder))
    }

    /// `optional`: a kernel without swap accounting has no such file.
    fn write(&self, path: &Path, value: &str, optional: bool) -> Result<(), Failure> {
        if optional && !path.exists() {
            return Ok(());
        }
        fs::write(path, value).because(|| format!("writing {value} to {}", path.display()))
    }

    /// Moves a process into the leaf.
    pub(crate) fn add(&self, pid: u32) -> Result<(), Failure> {
        for mut file in self.entrances()? {
            file.write_all(pid.to_string().as_bytes())
                .because(|| format!("moving process {pid} into {}", self.path.display()))?;
        }
        Ok(())
    }

    /// The files that a process writes `0` to in order to move itself into the leaf, for use
    /// between fork and exec.
    pub(crate) fn entrances(&self) -> Result<Vec<File>, Failure> {
        self.folders()
            .into_iter()
            .map(|folder| {
                let path = folder.join("cgroup.procs");
                OpenOptions::new()
                    .write(true)
                    .open(&path)
                    .because(|| format!("opening {}", path.display()))
            })
            .collect()
    }

    /// The path from the root of each tree, as an OCI specification names it.
    pub(crate) fn oci_path(&self) -> PathBuf {
        Path::new("/").join(&self.path)
    }

    /// Folders that show a container its own leaf, and where it looks for them: programs read
    /// their limits there.
    pub(crate) fn shown(&self) -> Vec<(PathBuf, PathBuf)> {
        match self.version {
            Version::V2 => vec![(self.v2(), ROOT.into())],
            Version::V1 => V1_CONTROLLERS
                .iter()
                .map(|name| (self.v1(name), Path::new(ROOT).join(name)))
                .filter(|(folder, _)| folder.is_dir())
                .collect(),
        }
    }

    /// Processes in the leaf and in leaves within it, as this process's pid namespace names them.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut found = Vec::new();
        for folder in std::iter::once(self.main()).chain(children(&self.main())) {
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        }
        found
    }

    /// Kills every process in the leaf and waits until none is left. A process that forks while
    /// it is killed is stopped by a limit of no processes.
    pub(crate) fn kill(&self) -> Result<(), Failure> {
        let main = self.main();
        if !main.exists() {
            return Ok(());
        }
        let _ = fs::write(self.file("pids", "pids.max"), "0");
        let _ = fs::write(main.join("cgroup.kill"), "1");
        let deadline = Instant::now() + EMPTY_WAIT_MAX;
        let mut pause = Duration::from_micros(200);
        loop {
            let processes = self.processes();
            if processes.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::machine(format!(
                    "{} processes in {} do not end",
                    processes.len(),
                    self.path.display()
                )));
            }
            for pid in processes {
                self.kill_member(pid);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// The pid may have been given to another process since it was read; the pidfd is compared
    /// with the leaf again before it is used.
    fn kill_member(&self, pid: u32) {
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
        let Ok(process) = pidfd_open(number, PidfdFlags::empty()) else { return };
        if self.processes().contains(&pid) {
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    }

    /// A leaf within this one, for processes that are ended together. Without limits of its own:
    /// those of this leaf hold for both.
    pub(crate) fn child(&self, name: &str) -> Leaf {
        Leaf { version: self.version, path: self.path.join(name) }
    }

    /// A descriptor that becomes readable when memory is short. Only v1 has and needs one: on v2
    /// the kernel ends the whole leaf.
    pub(crate) fn oom_event(&self) -> Option<OwnedFd> {
        if self.version == Version::V2 {
            return None;
        }
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let event = eventfd(0, flags).ok()?;
        let control = File::open(self.v1("memory").join("memory.oom_control")).ok()?;
        let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
        fs::write(self.v1("memory").join("cgroup.event_control"), line).ok()?;
        Some(event)
    }

    /// Removes the emptied leaf; one that is not there is fine.
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        remove_everywhere(self.version, &self.path)
    }

    fn file(&self, controller: &str, file: &str) -> PathBuf {
        match self.version {
            Version::V1 => self.v1(controller).join(file),
            Version::V2 => self.v2().join(file),
        }
    }

    fn v1(&self, controller: &str) -> PathBuf {
        Path::new(ROOT).join(controller).join(&self.path)
    }

    fn v2(&self) -> PathBuf {
        Path::new(ROOT).join(&self.path)
    }

    /// The folder whose list of processes counts.
    fn main(&self) -> PathBuf {
        if self.version == Version::V1 { self.v1("memory") } else { self.v2() }
    }

    fn folders(&self) -> Vec<PathBuf> {
        match self.version {
            Version::V1 => V1_CONTROLLERS
                .iter()
                .filter(|name| Path::new(ROOT).join(name).join("cgroup.procs").exists())
                .map(|name| self.v1(name))
                .collect(),
            Version::V2 => vec![self.v2()],
        }
    }
}

/// Makes a folder and those above it that are missing. Everybody may look into them, whatever the
/// umask is: a container sees its own, and its root is no one here.
fn make_folder(folder: &Path) -> Result<(), Failure> {
    let because = || format!("making {}", folder.display());
    fs::create_dir_all(folder).because(because)?;
    for level in folder.ancestors().take_while(|level| *level != Path::new(ROOT)) {
        let mode = fs::metadata(level).because(because)?.permissions().mode();
        if mode & 0o055 != 0o055 {
            fs::set_permissions(level, fs::Permissions::from_mode(0o755)).because(because)?;
        }
    }
    Ok(())
}

/// Removes `path` in every tree; the container runtime makes it in trees that we do not use.
fn remove_everywhere(version: Version, path: &Path) -> Result<(), Failure> {
    let trees: Vec<PathBuf> = match version {
        Version::V2 => vec![PathBuf::from(ROOT)],
        Version::V1 => fs::read_dir(ROOT)
            .because(|| format!("listing {ROOT}"))?
            .flatten()
            .map(|entry| entry.path())
            .collect(),
    };
    for folder in trees.iter().map(|tree| tree.join(path)) {
        for child in children(&folder) {
            remove_folder(&child)?;
        }
        remove_folder(&folder)?;
    }
    Ok(())
}

/// Leaves are at most two deep.
fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// A leaf whose last process was just reaped may be busy for a moment.
fn remove_folder(folder: &Path) -> Result<(), Failure> {
    let deadline = Instant::now() + EMPTY_WAIT_MAX;
    loop {
        match fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error)
                if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => {
                return Err(Failure::machine(format!("removing {}: {error}", folder.display())));
            }
        }
    }
}

/// On v2 under a delegating service manager berthd moved itself to `…/control`; everything else
/// goes beside it. Elsewhere the folder lies at the root, as other container engines do it.
fn delegated_base() -> Result<PathBuf, Failure> {
    let own = fs::read_to_string("/proc/self/cgroup").because(|| "reading /proc/self/cgroup")?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    Ok(path.strip_suffix("/control").unwrap_or("/").trim_start_matches('/').into())
}

/// Hands the controllers down from the root to `base`, level by level, as v2 wants it.
fn enable_controllers(base: &Path) -> Result<(), Failure> {
    make_folder(&Path::new(ROOT).join(base))?;
    let mut level = PathBuf::from(ROOT);
    for part in std::iter::once(Path::new("")).chain(base.iter().map(Path::new)) {
        level.push(part);
        let file = level.join("cgroup.subtree_control");
        fs::write(&file, "+memory +cpu +pids").because(|| {
            format!("enabling the memory, cpu and pids controllers in {}", file.display())
        })?;
    }
    Ok(())
}
