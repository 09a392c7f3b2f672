//! A disk as a folder of the data folder's file system.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, stat, statat, statfs};
use rustix::io::Errno;

use super::Size;
use crate::failure::{Because, Failure};

/// Directories in one another that are still looked into; each is two descriptors. What lies deeper
/// counts as everything that a disk may hold.
const DEPTH_MAX: usize = 256;
/// `OVERLAYFS_SUPER_MAGIC` of linux/magic.h.
const OVERLAY_MAGIC: i64 = 0x794c_7630;

pub(super) fn make(path: &Path) -> Result<(), Failure> {
    DirBuilder::new().mode(0o755).create(path).because(|| format!("making {}", path.display()))
}

/// What lies in a folder at this moment: bytes on disk and files, hard links counted once. Never
/// follows a link or enters another file system. What comes and goes meanwhile may be missed, and
/// what has no name any more is: see [`nameless`]. Fails where something cannot be looked at.
pub(crate) fn measure(path: &Path) -> std::io::Result<Size> {
    let root = openat(CWD, path, FLAGS, Mode::empty())?;
    let device = fstat(&root)?.st_dev;
    let mut found = Size { bytes: 0, files: 0 };
    let mut linked = HashSet::new();
    let mut open = vec![(Dir::read_from(&root)?, root)];
    loop {
        let depth = open.len();
        let Some((entries, folder)) = open.last_mut() else { return Ok(found) };
        let Some(entry) = entries.next() else {
            open.pop();
            continue;
        };
        let Some(entry) = unless_gone(entry)? else { continue };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(&*folder, name, AtFlags::SYMLINK_NOFOLLOW);
        let Some(stat) = unless_gone(stat)? else { continue };
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !directory && stat.st_nlink > 1 && !linked.insert(stat.st_ino) {
            continue;
        }
        found.files += 1;
        found.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        if directory && stat.st_dev == device {
            if depth >= DEPTH_MAX {
                return Ok(Size { bytes: u64::MAX, files: u64::MAX });
            }
            if let Some(next) = unless_gone(enter(folder, name.to_owned()))? {
                open.push(next);
            }
        }
    }
}

const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn enter(folder: &OwnedFd, name: CString) -> Result<(Dir, OwnedFd), Errno> {
    let opened = openat(folder, name, FLAGS, Mode::empty())?;
    Ok((Dir::read_from(&opened)?, opened))
}

/// None when it is gone, or something else, by now.
fn unless_gone<T>(found: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What processes hold open or mapped of files that have no name any more: bytes on disk and files,
/// each counted once. Of an overlay (`root`), or else of the file system that `folder` lies in.
/// Looks at no more than makes `most`. What only a message in a socket holds is not seen.
pub(crate) fn nameless(pids: &[u32], folder: &Path, root: bool, most: Size) -> Size {
    let device = stat(folder).map(|found| found.st_dev).ok();
    let mut found = Size { bytes: 0, files: 0 };
    let mut seen = HashSet::new();
    let held = pids
        .iter()
        .flat_map(|pid| ["fd", "map_files"].map(|held| format!("/proc/{pid}/{held}")))
        .filter_map(|held| std::fs::read_dir(held).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()));
    for path in held {
        // Whoever ended meanwhile holds nothing.
        let Ok(file) = stat(&path) else { continue };
        let regular = FileType::from_raw_mode(file.st_mode) == FileType::RegularFile;
        if !regular || file.st_nlink > 0 {
            continue;
        }
        // Memory has such files too, in its own bound.
        let overlay = statfs(&path).is_ok_and(|system| system.f_type == OVERLAY_MAGIC);
        let ours = if root { overlay } else { !overlay && device == Some(file.st_dev) };
        if ours && seen.insert((file.st_dev, file.st_ino)) {
            found.files += 1;
            found.bytes += u64::try_from(file.st_blocks).unwrap_or(0) * 512;
            if found.bytes > most.bytes || found.files > most.files {
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn bytes_on_disk_are_counted_once_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("inner")).unwrap();
        fs::write(at("inner/file"), vec![1; 100_000]).unwrap();
        fs::hard_link(at("inner/file"), at("again")).unwrap();
        symlink("/usr", at("link")).unwrap();
        fs::File::create(at("sparse")).unwrap().set_len(1 << 30).unwrap();
        let found = measure(folder.path()).unwrap();
        assert_eq!(found.files, 4);
        assert!((100_000..200_000).contains(&found.bytes), "{found:?}");
    }

    #[test]
    fn what_lies_too_deep_to_look_at_counts_as_too_much() {
        let folder = tempfile::tempdir().unwrap();
        let deep = ["d"; DEPTH_MAX + 1].join("/");
        fs::create_dir_all(folder.path().join(&deep)).unwrap();
        assert_eq!(measure(folder.path()).unwrap().bytes, u64::MAX);
    }
}
