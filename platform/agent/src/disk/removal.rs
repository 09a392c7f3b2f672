//! Removes a tree that others filled.
//!
//! Two directories are open at any time, however deep the tree is: directories inside a directory
//! are moved up to the top before theirs is removed.

use std::ffi::CString;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat};
use rustix::io::Errno;

/// Names that are read before any of them is removed: a directory that changes is read anew.
const BATCH: usize = 1024;
const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes the directory and everything in it. No link is followed.
pub(super) fn remove(path: &Path) -> Result<(), Errno> {
    let top = openat(CWD, path, FLAGS, Mode::empty())?;
    let mut moved: u64 = 0;
    loop {
        let names = batch(&top)?;
        if names.is_empty() {
            return unlinkat(CWD, path, AtFlags::REMOVEDIR);
        }
        for name in names {
            if discard(&top, &name)? {
                continue;
            }
            let inner = openat(&top, &name, FLAGS, Mode::empty())?;
            loop {
                let inside = batch(&inner)?;
                if inside.is_empty() {
                    break;
                }
                for child in inside {
                    if !discard(&inner, &child)? {
                        move_up(&inner, &child, &top, &mut moved)?;
                    }
                }
            }
            unlinkat(&top, &name, AtFlags::REMOVEDIR)?;
        }
    }
}

fn batch(folder: &impl std::os::fd::AsFd) -> Result<Vec<CString>, Errno> {
    // A descriptor of its own, so that it is read from its start.
    let own = openat(folder, ".", FLAGS, Mode::empty())?;
    let names = Dir::new(own)?
        .filter_map(|entry| entry.ok().map(|entry| entry.file_name().to_owned()))
        .filter(|name| !matches!(name.as_bytes(), b"." | b".."));
    Ok(names.take(BATCH).collect())
}

/// Removes a file or an empty directory; `false` for a directory that is not empty.
fn discard(folder: &impl std::os::fd::AsFd, name: &CString) -> Result<bool, Errno> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    match unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

fn move_up(
    from: &impl std::os::fd::AsFd,
    name: &CString,
    top: &impl std::os::fd::AsFd,
    moved: &mut u64,
) -> Result<(), Errno> {
    loop {
        let free = format!(".{moved:x}");
        *moved += 1;
        match renameat_with(from, name, top, free, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_tree_deeper_than_any_path_or_table_of_descriptors_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join(".0"), "in the way").unwrap();
        let outside = folder.path().join("outside");
        fs::write(&outside, "stays").unwrap();
        let mut at = openat(CWD, &tree, FLAGS, Mode::empty()).unwrap();
        for _ in 0..20_000 {
            rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
            rustix::fs::symlinkat("../../../outside", &at, "link").unwrap();
            at = openat(&at, "d", FLAGS, Mode::empty()).unwrap();
        }
        remove(&tree).unwrap();
        assert!(!tree.exists());
        assert_eq!(fs::read_to_string(outside).unwrap(), "stays");
    }
}
