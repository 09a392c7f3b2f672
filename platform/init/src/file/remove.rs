//! Removes a tree through descriptors, so that no link is followed and no path grows too long.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

/// Directories in one another that are removed; each holds a descriptor.
const DEPTH_MAX: u32 = 400;

/// Removes `name` in `parent` and everything in it; nothing there is fine.
pub(super) fn all(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    tree(parent, name, DEPTH_MAX)
}

fn tree(parent: BorrowedFd<'_>, name: &OsStr, depth: u32) -> Result<(), Errno> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) if depth > 0 => {}
        Err(error) => return Err(error),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    // Read to the end before anything is removed: a listing may skip entries when others go.
    let entries: Vec<_> = Dir::read_from(&directory)?.collect::<Result<_, _>>()?;
    for entry in entries {
        let inside = entry.file_name().to_bytes();
        if !matches!(inside, b"." | b"..") {
            tree(directory.as_fd(), OsStr::from_bytes(inside), depth - 1)?;
        }
    }
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}
