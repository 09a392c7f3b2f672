//! The volumes of a container, in the run process's own mount namespace.
//!
//! On their disks files have the ids that the container sees, as in layers; each volume is shown
//! shifted into the container's block, so that what it holds does not depend on which block that
//! is. A disk is made once, under another name until it is whole, and never again.

use std::fs::{self, DirBuilder, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::root::{Shown, shift_ids, user_namespace};
use super::watchdog::Watched;
use crate::disk::{self, Bound, Life, Size};
use crate::failure::{Because, Failure};
use crate::run_wire::{APP_USER, RunSpec, RunVolume};

/// Mounts all volumes, each in a folder of `folder`; gives those that have to be watched.
pub(crate) fn mount_all(folder: &Path, spec: &RunSpec) -> Result<Vec<PathBuf>, Failure> {
    if spec.volumes.is_empty() {
        return Ok(Vec::new());
    }
    let shift = user_namespace(spec.ids)?;
    let mut watched = Vec::new();
    for (index, volume) in spec.volumes.iter().enumerate() {
        let target = place(folder, index);
        make_folder(&folder.join("v"))?;
        make_folder(&target)?;
        if mount(volume, &target, &shift)? == Bound::Watched {
            watched.push(target);
        }
    }
    Ok(watched)
}

/// Where the volume of this index is mounted.
pub(crate) fn place(folder: &Path, index: usize) -> PathBuf {
    folder.join("v").join(index.to_string())
}

/// A volume as a folder that has to be watched.
pub(crate) fn watched(spec: &RunSpec, folder: &Path, path: &Path) -> Option<Watched> {
    let volumes = spec.volumes.iter().enumerate();
    let mut own = volumes.filter(|(index, _)| place(folder, *index) == path);
    let (_, volume) = own.next()?;
    let size = Size::of(volume.size_mib);
    Some(Watched { what: "volume", path: path.to_path_buf(), root: false, size })
}

/// The container's init passes through.
fn make_folder(path: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o711)))
        .because(|| format!("making {}", path.display()))
}

fn mount(volume: &RunVolume, target: &Path, shift: &OwnedFd) -> Result<Bound, Failure> {
    let bound = match fs::symlink_metadata(&volume.disk) {
        Ok(_) => {
            disk::wait_until_free(&volume.disk)?;
            disk::again(&volume.disk, volume.size_mib, target)?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && volume.fresh => {
            make(volume, target)?
        }
        Err(error) => {
            return Err(error).because(|| {
                format!(
                    "looking for what the volume {} held, in {} (it is not made anew: bring the \
                     file back, or remove the volume)",
                    volume.volume,
                    volume.disk.display()
                )
            });
        }
    };
    // Over the mount that shows the ids as they are; both end with the namespace.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let shown = open_tree(CWD, target, flags).because(|| "opening a volume")?;
    shift_ids(&shown, shift, Shown::Writable)
        .because(|| format!("shifting the ids of the volume {}", volume.volume))?;
    move_mount(shown, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .because(|| format!("mounting the volume {}", volume.volume))?;
    Ok(bound)
}

/// An empty disk that belongs to the container's user. Until it is whole it has another name: a
/// crash in between costs nothing, and never leaves half a file system under the volume's name.
fn make(volume: &RunVolume, target: &Path) -> Result<Bound, Failure> {
    let unfinished = disk::unfinished(&volume.disk);
    let bound = disk::fresh(&unfinished, volume.size_mib, Life::Kept, target)?;
    let _ = fs::remove_dir(target.join("lost+found"));
    let user = Some(u32::from(APP_USER));
    chown(target, user, user)
        .and_then(|()| fs::set_permissions(target, Permissions::from_mode(0o755)))
        .because(|| format!("giving the volume {} to its user", volume.volume))?;
    let root = File::open(target).because(|| "opening a volume")?;
    rustix::fs::syncfs(&root).because(|| "writing a volume down")?;
    fs::rename(&unfinished, &volume.disk)
        .because(|| format!("naming {}", volume.disk.display()))?;
    let folder = volume.disk.parent().unwrap_or(Path::new("/"));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .because(|| format!("writing {} down", folder.display()))?;
    Ok(bound)
}
