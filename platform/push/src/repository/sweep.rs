//! Removes what processes that were killed left behind.

use std::fs::{self, DirEntry};
use std::path::Path;

use crate::PushError;

pub(super) fn sweep(folder: &Path) -> Result<usize, PushError> {
    let mut removed = 0;
    for entry in fs::read_dir(folder).map_err(PushError::io("list", folder))?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = entry.path();
        if name.ends_with(".new") {
            removed += remove(&entry);
        } else if name.ends_with(".git") {
            // git's own temporary names; locks of refs are libgit2's, in this process.
            removed += sweep_in(&path, &|n| n.ends_with(".lock") || n.starts_with("shallow_"));
            removed += sweep_in(&path.join("objects"), &|n| {
                n.starts_with("tmp_objdir-") || n.starts_with("incoming-")
            });
            removed += sweep_in(&path.join("objects/pack"), &|n| {
                n.starts_with("tmp_") || n.starts_with(".tmp-") || n.ends_with(".keep")
            });
            removed += sweep_locks(&path.join("refs"));
        }
    }
    Ok(removed)
}

fn sweep_in(folder: &Path, stale: &dyn Fn(&str) -> bool) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .filter(|entry| stale(&entry.file_name().to_string_lossy()))
        .map(|entry| remove(&entry))
        .sum()
}

fn sweep_locks(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => sweep_locks(&entry.path()),
            // No ref ends so: git forbids it.
            Ok(_) if entry.file_name().to_string_lossy().ends_with(".lock") => remove(&entry),
            _ => 0,
        })
        .sum()
}

/// Follows no symbolic link: the tool id may have left one.
fn remove(entry: &DirEntry) -> usize {
    let path = entry.path();
    let removed = match entry.file_type() {
        Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
        _ => fs::remove_file(&path),
    };
    match removed {
        Ok(()) => 1,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a left-over cannot be removed");
            0
        }
    }
}
