//! Bounded disks: what a build, an instance or an app's caches write to, and nothing else.
//!
//! Where the machine has loop devices a disk is a file with a file system of its own, and the bound
//! is the kernel's. Elsewhere it is a folder: bounded by a project quota where the data folder's
//! file system enforces them, else by the watchdog of the container's run process, which looks
//! every second and ends what is over. What a container left in a folder is hostile: it is
//! measured and removed without following links and without a stack of its depth.

mod folder;
mod loop_file;
mod quota;
mod removal;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount_bind, mount_remount};

use crate::failure::{Because, Failure};

pub(crate) use folder::{measure, nameless};

/// The mounts of an ended container are waited for this long.
const FREE_WAIT: Duration = Duration::from_secs(20);
const FREE_LOOK: Duration = Duration::from_millis(5);

/// What happens to a disk after a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// It is thrown away: no journal.
    OneContainer,
    /// It is used again: with a journal.
    Kept,
}

/// What keeps a disk within its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// The kernel.
    Kernel,
    /// Nobody, unless somebody looks.
    Watched,
}

/// Bytes and files that a disk may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

impl Size {
    /// Of a disk of `mib` MiB.
    pub(crate) fn of(mib: u32) -> Self {
        Self { bytes: u64::from(mib) << 20, files: inodes(mib) }
    }
}

/// One inode for 4 KiB, so that `node_modules` with many small files fit.
fn inodes(mib: u32) -> u64 {
    (u64::from(mib) * 256).clamp(1024, 4_000_000)
}

/// Makes an empty disk of `mib` MiB at `path`, in place of what is there, and mounts it in the
/// caller's mount namespace.
pub(crate) fn fresh(path: &Path, mib: u32, life: Life, target: &Path) -> Result<Bound, Failure> {
    remove(path)?;
    if loop_file::is_possible() {
        loop_file::make(path, mib, life)?;
        loop_file::attach(path, target)?;
        return Ok(Bound::Kernel);
    }
    folder::make(path)?;
    let bound = quota::bound(path, Size::of(mib));
    show(path, target).map(|()| bound)
}

/// Mounts a disk that `fresh` made before, as it was left.
pub(crate) fn again(path: &Path, mib: u32, target: &Path) -> Result<Bound, Failure> {
    let found = fs::symlink_metadata(path).because(|| format!("looking at {}", path.display()))?;
    if !found.is_dir() {
        return loop_file::attach(path, target).map(|()| Bound::Kernel);
    }
    let bound = quota::bound(path, Size::of(mib));
    show(path, target).map(|()| bound)
}

/// The name of a disk that is being made.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Waits until no mount has a disk any more: a container's mounts may end a moment after its last
/// process, and two mounts of one file system would destroy it.
pub(crate) fn wait_until_free(path: &Path) -> Result<(), Failure> {
    let deadline = Instant::now() + FREE_WAIT;
    while loop_file::is_attached(path)? {
        if Instant::now() >= deadline {
            return Err(Failure::machine(format!(
                "{} is still mounted, {} s after its container ended: look at `losetup -j`",
                path.display(),
                FREE_WAIT.as_secs()
            )));
        }
        std::thread::sleep(FREE_LOOK);
    }
    Ok(())
}

fn show(path: &Path, target: &Path) -> Result<(), Failure> {
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOATIME;
    mount_bind(path, target)
        .and_then(|()| mount_remount(target, MountFlags::BIND | flags, c""))
        .because(|| format!("mounting the folder {} on {}", path.display(), target.display()))
}

/// Removes a disk, whatever it is and whatever is in it; one that is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).because(|| format!("looking at {}", path.display())),
        Ok(found) if found.is_dir() => {
            quota::release(path);
            removal::remove(path).because(|| format!("removing {}", path.display()))
        }
        Ok(_) => fs::remove_file(path).because(|| format!("removing {}", path.display())),
    }
}

/// How disks are bounded on this machine, for the agent's log.
pub(crate) fn kind(disks: &Path) -> &'static str {
    if loop_file::is_possible() {
        "loop files"
    } else if quota::is_enforced(disks) {
        "folders with project quotas (there are no loop devices)"
    } else {
        "folders that are looked at each second (there are neither loop devices nor project quotas)"
    }
}
