//! The walk over a tree: every entry once, sizes by header, everything counted.

use std::collections::HashSet;

use git2::{ObjectType, Odb, Oid, Repository};
use tokio_util::sync::CancellationToken;

use super::{COMMIT_BYTES_MAX, SourceError, names};
use crate::Limits;

/// Bytes of one tree object: some 300,000 entries of usual names.
const TREE_BYTES_MAX: usize = 16 << 20;
/// Bytes of a symbolic link's target: Linux's PATH_MAX.
const TARGET_BYTES_MAX: usize = 4095;
/// Bytes of one path: what every reader of source archives takes.
const PATH_BYTES_MAX: usize = berth_blobs::tar::Caps::SOURCE.path_bytes_max;

/// A file or symbolic link of a tree. Directories follow from paths; git has no empty ones.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File { blob: Oid, bytes: u64, executable: bool },
    Link { target: Vec<u8> },
}

/// All entries, in bytewise order of their paths with the parts of directories ended by a slash.
pub(super) fn walk(
    repository: &Repository,
    odb: &Odb<'_>,
    tree: Oid,
    limits: &Limits,
    cancel: &CancellationToken,
) -> Result<Vec<Entry>, SourceError> {
    let mut walk = Walk {
        repository,
        odb,
        limits,
        cancel,
        entries: Vec::new(),
        directories: 0,
        bytes: 0,
        path_bytes: 0,
    };
    walk.directory(tree, &mut Vec::new(), 0)?;
    let mut entries = walk.entries;
    // A submodule sorts as a file in its tree and is a directory here.
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

struct Walk<'a> {
    repository: &'a Repository,
    odb: &'a Odb<'a>,
    limits: &'a Limits,
    cancel: &'a CancellationToken,
    entries: Vec<Entry>,
    directories: usize,
    bytes: u64,
    path_bytes: usize,
}

impl Walk<'_> {
    fn directory(&mut self, id: Oid, path: &mut Vec<u8>, depth: usize) -> Result<(), SourceError> {
        if self.cancel.is_cancelled() {
            return Err(SourceError::Cancelled);
        }
        if depth >= self.limits.depth_max {
            let what = format!("'{}' lies too deep", names::shown(path));
            return Err(limit(what, format!("{} parts of a path", self.limits.depth_max)));
        }
        self.directories += 1;
        if self.directories > self.limits.files_max {
            let what = "the tree has too many directories".to_owned();
            return Err(limit(what, self.limits.files_max.to_string()));
        }
        object_size(self.odb, id, ObjectType::Tree, TREE_BYTES_MAX, path)?;
        let tree = self.repository.find_tree(id).map_err(|e| SourceError::object(path, &e))?;
        let mut seen = HashSet::with_capacity(tree.len());
        for entry in tree.iter() {
            let length = path.len();
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(entry.name_bytes());
            let refuse = |why| SourceError::Name { path: names::shown(path), why };
            names::check(entry.name_bytes()).map_err(refuse)?;
            if !seen.insert(entry.name_bytes().to_vec()) {
                return Err(refuse("it is there twice"));
            }
            if path.len() > PATH_BYTES_MAX {
                return Err(refuse("it has more than 1024 bytes"));
            }
            self.entry(entry.id(), entry.filemode_raw(), path, depth)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        id: Oid,
        mode: i32,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), SourceError> {
        // The type bits decide; permissions of old tools (0664) mean what git takes them for.
        match mode & 0o170_000 {
            0o040_000 => self.directory(id, path, depth + 1),
            0o160_000 => self.submodule(id, path, depth),
            0o100_000 => {
                let bytes = self.file_bytes(id, path)?;
                let executable = mode & 0o100 != 0;
                self.keep(path, Kind::File { blob: id, bytes, executable })
            }
            0o120_000 => {
                object_size(self.odb, id, ObjectType::Blob, TARGET_BYTES_MAX, path)?;
                let target =
                    self.odb.read(id).map_err(|e| SourceError::object(path, &e))?.data().to_vec();
                self.keep(path, Kind::Link { target })
            }
            _ => Err(SourceError::Mode { path: names::shown(path), mode }),
        }
    }

    /// The tree of a submodule whose commit was pushed here too takes the submodule's place.
    fn submodule(&mut self, id: Oid, path: &mut Vec<u8>, depth: usize) -> Result<(), SourceError> {
        if !self.odb.exists(id) {
            let commit = id.to_string()[..12].to_owned();
            return Err(SourceError::Submodule { path: names::shown(path), commit });
        }
        object_size(self.odb, id, ObjectType::Commit, COMMIT_BYTES_MAX, path)?;
        let commit = self.repository.find_commit(id).map_err(|e| SourceError::object(path, &e))?;
        self.directory(commit.tree_id(), path, depth + 1)
    }

    fn file_bytes(&mut self, id: Oid, path: &[u8]) -> Result<u64, SourceError> {
        let (bytes, kind) = self.odb.read_header(id).map_err(|e| SourceError::object(path, &e))?;
        if kind != ObjectType::Blob {
            let why = "it is not a file's".to_owned();
            return Err(SourceError::Object { path: names::shown(path), why });
        }
        let bytes = bytes as u64;
        if bytes > self.limits.file_bytes_max {
            let what = format!("the file '{}' has {}", names::shown(path), mib(bytes));
            return Err(limit(what, format!("{} a file", mib(self.limits.file_bytes_max))));
        }
        self.bytes += bytes;
        if self.bytes > self.limits.tree_bytes_max {
            let what = format!("the files of the tree are too large (at '{}')", names::shown(path));
            return Err(limit(what, format!("{} in all", mib(self.limits.tree_bytes_max))));
        }
        Ok(bytes)
    }

    fn keep(&mut self, path: &[u8], kind: Kind) -> Result<(), SourceError> {
        self.path_bytes += path.len();
        if self.path_bytes > self.limits.path_bytes_max {
            let what = "the paths of the tree are too long together".to_owned();
            return Err(limit(what, mib(self.limits.path_bytes_max as u64)));
        }
        if self.entries.len() >= self.limits.files_max {
            let what = "the tree has too many files".to_owned();
            return Err(limit(what, format!("{} files", self.limits.files_max)));
        }
        self.entries.push(Entry { path: path.to_vec(), kind });
        Ok(())
    }
}

/// The size of an object by its header, if it is of `kind` and within `bytes_max`.
pub(crate) fn object_size(
    odb: &Odb<'_>,
    id: Oid,
    kind: ObjectType,
    bytes_max: usize,
    path: &[u8],
) -> Result<usize, SourceError> {
    let (bytes, found) = odb.read_header(id).map_err(|e| SourceError::object(path, &e))?;
    if found != kind {
        let why = format!("it is a {}, not a {}", found.str(), kind.str());
        return Err(SourceError::Object { path: names::shown(path), why });
    }
    if bytes > bytes_max {
        let what = format!("the {} of '{}' has {bytes} bytes", kind.str(), names::shown(path));
        return Err(limit(what, format!("{bytes_max} bytes")));
    }
    Ok(bytes)
}

fn limit(what: String, max: String) -> SourceError {
    SourceError::Limit { what, max }
}

fn mib(bytes: u64) -> String {
    match bytes {
        0..=1_048_575 => format!("{bytes} bytes"),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
