//! The container's root file system, in the run process's own mount namespace.
//!
//! Layers are stored once, owned by root, and shown shifted into the container's block of ids.
//! What the container writes goes to its own bounded disk. With the run process and the container
//! the namespace ends, and with it every mount.

use std::fs::{self, DirBuilder};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, move_mount, open_tree, unmount,
};
use rustix::thread::UnshareFlags;

use super::watchdog::Watched;
use crate::context::IdBlock;
use crate::disk::{self, Bound, Life, Size};
use crate::failure::{Because, Failure};
use crate::run_wire::{APP_USER, RunSpec};

/// Size of an app's named build caches together.
const CACHES_MIB: u32 = 4096;

/// Leaves the host's mount namespace. Mounts of the host go on arriving and, more important,
/// leaving; nothing goes back.
pub(crate) fn own_mounts() -> Result<(), Failure> {
    #[expect(unsafe_code, reason = "this process has one thread")]
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
        .because(|| "making a mount namespace")?;
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", slave).because(|| "detaching the mounts from the host's")
}

/// Paths in a run folder.
pub(crate) struct Layout {
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    disk: PathBuf,
    lowers: PathBuf,
    caches: PathBuf,
}

impl Layout {
    /// Makes the folders. The container's init passes through them as the root of its user
    /// namespace, which is no one here: they are searchable, and the run folder lets its group in.
    pub(crate) fn make(folder: &Path) -> Result<Self, Failure> {
        let layout = Self {
            bundle: folder.join("b"),
            rootfs: folder.join("b/r"),
            disk: folder.join("d"),
            lowers: folder.join("L"),
            caches: folder.join("c"),
        };
        for path in [&layout.bundle, &layout.rootfs, &layout.disk, &layout.lowers, &layout.caches] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(path)
                .because(|| format!("making {}", path.display()))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o711))
                .because(|| format!("opening {}", path.display()))?;
        }
        Ok(layout)
    }

    /// Where the app's caches are mounted.
    pub(crate) fn caches(&self) -> &Path {
        &self.caches
    }

    /// Shows the layers in the container's ids. Once for all attempts.
    pub(crate) fn mount_lowers(&self, spec: &RunSpec) -> Result<(), Failure> {
        let shift = user_namespace(spec.ids)?;
        for (index, layer) in spec.layers.iter().enumerate() {
            let tree = spec.data.join("trees").join(layer.hex());
            let target = self.lowers.join(short(index));
            DirBuilder::new().create(&target).because(|| format!("making {}", target.display()))?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let detached =
                open_tree(CWD, &tree, flags).because(|| format!("opening layer {layer}"))?;
            shift_ids(&detached, &shift, Shown::ReadOnly).because(|| {
                format!("shifting the ids of layer {layer} (needs Linux 5.12 and a file system that can)")
            })?;
            move_mount(detached, "", CWD, &target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                .because(|| format!("mounting layer {layer}"))?;
        }
        Ok(())
    }

    /// A fresh root for one attempt: nothing of an earlier one is in it. Gives the folder that has
    /// to be watched, if its disk is one.
    pub(crate) fn mount_root(&self, spec: &RunSpec) -> Result<Option<Watched>, Failure> {
        for path in [&self.rootfs, &self.disk] {
            match unmount(path, UnmountFlags::DETACH) {
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => {
                    return Err(error).because(|| format!("unmounting {}", path.display()));
                }
            }
        }
        let bound = disk::fresh(&spec.disk, spec.limits.disk_mib, Life::OneContainer, &self.disk)?;
        for name in ["u", "w"] {
            let path = self.disk.join(name);
            DirBuilder::new()
                .mode(0o755)
                .create(&path)
                .because(|| format!("making {}", path.display()))?;
        }
        let upper = self.disk.join("u");
        own(&upper, spec.ids, 0)?;
        self.app_folders(spec, &upper)?;
        self.overlay(spec.layers.len())?;
        Ok((bound == Bound::Watched).then(|| Watched {
            what: "disk",
            path: self.disk.clone(),
            root: true,
            size: Size::of(spec.limits.disk_mib),
        }))
    }

    /// `/workspace` belongs to the app; a build container has `/layers` and `/caches` too. They
    /// are made in the upper layer only where no layer brings them, or would hide its mode.
    fn app_folders(&self, spec: &RunSpec, upper: &Path) -> Result<(), Failure> {
        let names: &[&str] = match spec.role {
            berth_container::Role::Build => &["workspace", "layers", "caches"],
            _ => &["workspace"],
        };
        for name in names {
            let brought = spec.layers.iter().enumerate().any(|(index, _)| {
                self.lowers.join(short(index)).join(name).symlink_metadata().is_ok()
            });
            if !brought {
                let path = upper.join(name);
                DirBuilder::new()
                    .mode(0o755)
                    .create(&path)
                    .because(|| format!("making /{name}"))?;
                own(&path, spec.ids, APP_USER)?;
            }
        }
        Ok(())
    }

    /// Short relative names: absolute ones overflow the kernel's page of options at some 60
    /// layers, with a misleading ELOOP.
    fn overlay(&self, layers: usize) -> Result<(), Failure> {
        let folder = self.lowers.parent().unwrap_or(Path::new("/"));
        let here = openat(CWD, folder, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .because(|| format!("opening {}", folder.display()))?;
        rustix::process::fchdir(&here).because(|| format!("entering {}", folder.display()))?;
        let lowers: Vec<String> = (0..layers).rev().map(|i| format!("L/{}", short(i))).collect();
        let options = format!("lowerdir={},upperdir=d/u,workdir=d/w", lowers.join(":"));
        let options =
            std::ffi::CString::new(options).because(|| "writing the overlay's options")?;
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        let mounted = mount("overlay", "b/r", "overlay", flags, options.as_c_str());
        rustix::process::chdir("/").because(|| "entering /")?;
        mounted.because(|| format!("mounting {layers} layers and a disk as one root"))
    }

    /// Mounts the app's caches: those of its last build, unless they cannot be read, are almost
    /// full, or belong to other user ids (those of a data folder that was copied or moved). Then they
    /// begin anew, as a whole. Whether they have to be watched.
    pub(crate) fn mount_caches(&self, disk: &Path, ids: IdBlock) -> Result<Bound, Failure> {
        let again =
            if disk.exists() { disk::again(disk, CACHES_MIB, &self.caches).ok() } else { None };
        if let Some(bound) = again {
            let own = fs::metadata(&self.caches).is_ok_and(|it| it.uid() == ids.host(APP_USER));
            if own && matches!(almost_full(&self.caches, bound), Ok(false)) {
                return Ok(bound);
            }
            unmount(&self.caches, UnmountFlags::empty()).because(|| "emptying the caches")?;
        }
        let bound = disk::fresh(disk, CACHES_MIB, Life::Kept, &self.caches)?;
        own(&self.caches, ids, APP_USER)?;
        let _ = fs::remove_dir(self.caches.join("lost+found"));
        fs::set_permissions(&self.caches, fs::Permissions::from_mode(0o755))
            .because(|| "opening the caches to the app")?;
        Ok(bound)
    }

    /// The caches as a folder that has to be watched.
    pub(crate) fn watched_caches(&self) -> Watched {
        let size = Size::of(CACHES_MIB);
        Watched { what: "caches", path: self.caches.clone(), root: false, size }
    }
}

/// Less than a twentieth of the space or of the files is left.
fn almost_full(folder: &Path, bound: Bound) -> Result<bool, Failure> {
    if bound == Bound::Watched {
        let most = Size::of(CACHES_MIB);
        let now = disk::measure(folder).because(|| "measuring the caches")?;
        let full = |now: u64, most: u64| now > most - most / 20;
        return Ok(full(now.bytes, most.bytes) || full(now.files, most.files));
    }
    let left = rustix::fs::statvfs(folder).because(|| "measuring the caches")?;
    Ok(left.f_bavail < left.f_blocks / 20 || left.f_favail < left.f_files / 20)
}

fn short(index: usize) -> String {
    format!("{index:x}")
}

fn own(path: &Path, ids: IdBlock, inside: u16) -> Result<(), Failure> {
    let id = ids.host(inside);
    chown(path, Some(id), Some(id)).because(|| format!("giving {} to {id}", path.display()))
}

/// A user namespace with the block's mapping, held by nothing but this descriptor.
pub(crate) fn user_namespace(ids: IdBlock) -> Result<OwnedFd, Failure> {
    let (ready_read, ready_write) = rustix::pipe::pipe().because(|| "making a pipe")?;
    let (end_read, end_write) = rustix::pipe::pipe().because(|| "making a pipe")?;
    #[expect(unsafe_code, reason = "this process has one thread; the child only makes calls")]
    let fork = unsafe { nix::unistd::fork() }.because(|| "forking")?;
    let child = match fork {
        nix::unistd::ForkResult::Parent { child } => child,
        nix::unistd::ForkResult::Child => {
            drop(end_write);
            #[expect(unsafe_code, reason = "one thread; the child ends without cleaning up")]
            unsafe {
                let made = rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER).is_ok();
                let _ = rustix::io::write(&ready_write, &[u8::from(made)]);
                let _ = rustix::io::read(&end_read, &mut [0_u8; 1]);
                libc::_exit(0);
            }
        }
    };
    drop(ready_write);
    let mut answer = [0_u8; 1];
    let _ = rustix::io::read(&ready_read, &mut answer);
    let opened = map_and_open(child, ids, answer[0] == 1);
    drop(end_write);
    let _ = nix::sys::wait::waitpid(child, None);
    opened
}

fn map_and_open(child: nix::unistd::Pid, ids: IdBlock, made: bool) -> Result<OwnedFd, Failure> {
    if !made {
        return Err(Failure::machine("the kernel refuses a user namespace"));
    }
    let line = format!("0 {} {}\n", ids.base, crate::context::BLOCK_IDS);
    for name in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{child}/{name}"), &line).because(|| format!("writing {name}"))?;
    }
    fs::File::open(format!("/proc/{child}/ns/user"))
        .map(OwnedFd::from)
        .because(|| "opening a user namespace")
}

/// Whether a tree that is shown with other ids can be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    ReadOnly,
    Writable,
}

/// No devices, no set-user-id, ids shifted as `shift` maps them.
pub(crate) fn shift_ids(tree: &OwnedFd, shift: &OwnedFd, shown: Shown) -> std::io::Result<()> {
    let read_only = if shown == Shown::ReadOnly { libc::MOUNT_ATTR_RDONLY } else { 0 };
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP
            | read_only
            | libc::MOUNT_ATTR_NODEV
            | libc::MOUNT_ATTR_NOSUID,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(shift.as_raw_fd()).map_err(std::io::Error::other)?,
    };
    #[expect(unsafe_code, reason = "the structure has the kernel's layout and outlives the call")]
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if outcome == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Whether a path inside the root exists, whatever links the image has on the way.
pub(crate) fn has(rootfs: BorrowedFd<'_>, path: &str) -> bool {
    use rustix::fs::{ResolveFlags, openat2};
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    openat2(rootfs, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).is_ok()
}
