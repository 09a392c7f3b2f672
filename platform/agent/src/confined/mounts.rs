//! What a child sees of the file systems.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount,
    open_tree, unmount,
};
use rustix::thread::UnshareFlags;

use crate::failure::{Because, Failure};

/// What a mount allows. Devices and set-user-id programs never.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Attributes<'a> {
    pub(crate) writable: bool,
    pub(crate) executable: bool,
    /// Ids are shown as this user namespace maps them.
    pub(crate) shift: Option<&'a OwnedFd>,
}

/// Leaves the host's mount namespace; nothing goes back.
pub(crate) fn own_root() -> Result<(), Failure> {
    #[expect(unsafe_code, reason = "this process has one thread")]
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
        .because(|| "making a mount namespace")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).because(|| "detaching the mounts from the host's")
}

/// A copy of the mounts at `path`, attached nowhere yet.
pub(crate) fn clone_tree(path: &Path, attributes: Attributes<'_>) -> Result<OwnedFd, Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, path, flags).because(|| format!("opening {}", path.display()))?;
    set(&tree, attributes).because(|| format!("closing the mount of {}", path.display()))?;
    Ok(tree)
}

/// Puts a copy of mounts where `target` is.
pub(crate) fn attach(tree: &OwnedFd, target: &Path) -> Result<(), Failure> {
    move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .because(|| format!("mounting at {}", target.display()))
}

/// Makes a mount point the root, and lets go of everything else.
pub(crate) fn become_root(path: &Path) -> Result<(), Failure> {
    rustix::process::chdir(path).because(|| format!("entering {}", path.display()))?;
    rustix::process::pivot_root(".", ".").because(|| format!("changing to {}", path.display()))?;
    unmount(".", UnmountFlags::DETACH).because(|| "letting go of the host's files")?;
    rustix::process::chdir("/").because(|| "entering the new root")
}

fn set(tree: &OwnedFd, attributes: Attributes<'_>) -> std::io::Result<()> {
    let mut set = libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID;
    if !attributes.writable {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    if !attributes.executable {
        set |= libc::MOUNT_ATTR_NOEXEC;
    }
    if attributes.shift.is_some() {
        set |= libc::MOUNT_ATTR_IDMAP;
    }
    let shift = attributes.shift.map_or(0, AsRawFd::as_raw_fd);
    let wanted = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(shift).map_err(std::io::Error::other)?,
    };
    let empty = CString::default();
    #[expect(unsafe_code, reason = "the structure has the kernel's layout and outlives the call")]
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            empty.as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const wanted,
            size_of::<libc::mount_attr>(),
        )
    };
    if outcome == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
