//! A disk as a folder of the data folder's file system.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;

use super::Size;
use crate::failure::{Because, Failure};

/// Directories in one another that are still looked into; each is a descriptor. What lies deeper
/// counts as everything that a disk may hold.
const DEPTH_MAX: usize = 256;

pub(super) fn make(path: &Path) -> Result<(), Failure> {
    DirBuilder::new().mode(0o755).create(path).because(|| format!("making {}", path.display()))
}

/// What lies in a folder at this moment: bytes on disk and files, hard links counted once. Never
/// follows a link or enters another file system. What comes and goes meanwhile may be missed.
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
        let Ok(entry) = entry else { continue };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(stat) = statat(&*folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
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
            if let Some(next) = enter(folder, name.to_owned()) {
                open.push(next);
            }
        }
    }
}

const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// None when it is gone, or something else, by now.
fn enter(folder: &OwnedFd, name: CString) -> Option<(Dir, OwnedFd)> {
    let opened: Result<OwnedFd, Errno> = openat(folder, name, FLAGS, Mode::empty());
    let opened = opened.ok()?;
    Some((Dir::read_from(&opened).ok()?, opened))
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
