//! Disks of volumes, from outside: which there are, how much they take, and their end.
//!
//! A container's own run process makes and mounts them (`runner::volume`). Nothing here ever
//! removes one that was not named by its id; the collection of garbage does not know them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use berth_container::{Reply, Role, Start, VolumeMount, VolumeStatus};
use berth_model::VolumeId;
use berth_model::volume::{SIZE_MIB_MAX, SIZE_MIB_MIN, VOLUMES_MAX};

use crate::context::Context;
use crate::disk;
use crate::failure::{Because, Failure};
use crate::run_wire::RunVolume;
use crate::server::Answer;

/// Every number of a start's volumes; paths were checked when they were read.
pub(crate) fn check(start: &Start) -> Result<(), Failure> {
    let refuse = |what: String| Err(Failure::refused(format!("{}: {what}", start.instance)));
    if !start.volumes.is_empty() && start.role != Role::Instance {
        return refuse("only an instance mounts volumes".into());
    }
    if start.volumes.len() > VOLUMES_MAX {
        return refuse(format!("{} volumes; {VOLUMES_MAX} are possible", start.volumes.len()));
    }
    for (index, mount) in start.volumes.iter().enumerate() {
        if !(SIZE_MIB_MIN..=SIZE_MIB_MAX).contains(&mount.size_mib) {
            let size = mount.size_mib;
            return refuse(format!(
                "size_mib {size} is not between {SIZE_MIB_MIN} and {SIZE_MIB_MAX}"
            ));
        }
        let clash =
            |other: &VolumeMount| other.volume == mount.volume || other.path.overlaps(&mount.path);
        if start.volumes[..index].iter().any(clash) {
            return refuse(format!(
                "two volumes are one, or lie in one another, at {}",
                mount.path
            ));
        }
    }
    Ok(())
}

/// What the run process is told of a volume.
pub(crate) fn run_volume(context: &Context, mount: &VolumeMount) -> RunVolume {
    RunVolume {
        volume: mount.volume,
        disk: context.volume_disk(mount.volume),
        size_mib: mount.size_mib,
        path: mount.path.clone(),
        fresh: mount.fresh,
    }
}

/// Every volume that has a disk.
pub(crate) fn list(context: &Context) -> Answer {
    let folder = context.disks();
    let entries = fs::read_dir(&folder).because(|| format!("listing {}", folder.display()))?;
    let mut volumes = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix("volume-"));
        let Some(volume) = id.and_then(|id| id.parse::<VolumeId>().ok()) else { continue };
        let instance = context.instances.holder(volume);
        // One that is being removed takes nothing any more.
        let used_bytes = used(&entry.path()).unwrap_or(0);
        volumes.push(VolumeStatus { volume, used_bytes, instance });
    }
    Ok((Reply::Volumes { volumes }, Vec::new()))
}

fn used(disk: &Path) -> std::io::Result<u64> {
    let found = fs::symlink_metadata(disk)?;
    if found.is_dir() {
        return disk::measure(disk).map(|size| size.bytes);
    }
    Ok(found.blocks() * 512)
}

/// Removes the disk of a volume that no container has.
pub(crate) fn remove(context: &Context, volume: VolumeId) -> Answer {
    let path = context.volume_disk(volume);
    // Out of every start's way at once; its removal may take a while.
    let removed = path.with_extension("removed");
    context.instances.with_free_volume(volume, || match fs::rename(&path, &removed) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).because(|| format!("renaming {}", path.display()))
        }
        _ => Ok(()),
    })?;
    disk::remove(&removed)?;
    disk::remove(&disk::unfinished(&path))?;
    Ok((Reply::Done {}, Vec::new()))
}
