//! Trees that the host knows whole: what a buildpack wrote into a layer, and the app's tree with
//! the changes that buildpacks made to it. They become layers without a build container.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Read, Write};

use berth_blobs::BlobStore;
use berth_blobs::tar::{Attributes, Rules, TarError, Tree};

use crate::BuildError;
use crate::archive::{Archive, Node, as_path, patterns_of};
use crate::container::{LAYER_BYTES_MAX, Sealed};
use crate::dated::Dated;

/// Most bytes that buildpacks write themselves in one build: they write configuration, tools bring
/// the rest.
const WRITTEN_BYTES_MAX: usize = 64 << 20;
const WRITTEN_FILES_MAX: usize = 20_000;

/// A file or link that a buildpack wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written {
    File { data: Vec<u8>, executable: bool },
    Symlink { target: String },
}

/// Files by their path below a layer or the workspace.
pub(crate) type Files = BTreeMap<String, Written>;

/// Where the bytes of a file are.
enum Content {
    Bytes(Vec<u8>),
    Archived { offset: u64, bytes: u64 },
}

/// Counts what buildpacks wrote.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    bytes: usize,
    files: usize,
}

impl Budget {
    /// Whether one more file of `bytes` fits.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.files <= WRITTEN_FILES_MAX && self.bytes <= WRITTEN_BYTES_MAX
    }
}

/// A path that a buildpack may name: relative, without `.`, `..` and empty parts.
pub(crate) fn is_relative(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 1024
        && !path.contains('\0')
        && path.split('/').all(|part| !matches!(part, "" | "." | "..") && part.len() <= 255)
}

/// Changes of the app's tree.
#[derive(Debug, Clone, Default)]
pub(crate) struct Workspace {
    /// Paths of the archive that are gone, with what lies below them.
    removed: BTreeSet<Vec<u8>>,
    written: Files,
}

impl Workspace {
    /// Adds a file or link, in place of what stood there or in the way of it.
    pub(crate) fn write(&mut self, archive: &Archive, path: &str, written: Written) {
        let in_the_way =
            |above: &[u8]| archive.nodes().get(above).is_some_and(|node| *node != Node::Directory);
        self.removed
            .extend(parents(path.as_bytes()).filter(|above| in_the_way(above)).map(<[u8]>::to_vec));
        self.removed.insert(path.as_bytes().to_vec());
        self.written.retain(|known, _| !is_below(known, path) && !is_below(path, known));
        self.written.insert(path.to_owned(), written);
    }

    /// Removes what matches; gives the top-most paths that went, for a container that has the tree.
    pub(crate) fn remove(
        &mut self,
        archive: &Archive,
        patterns: &[String],
    ) -> Result<Vec<String>, BuildError> {
        let set = patterns_of(patterns)?;
        let archived =
            archive.nodes().keys().filter(|path| !covers(&self.removed, path)).map(Vec::as_slice);
        let mut gone: BTreeSet<Vec<u8>> = BTreeSet::new();
        for path in archived.chain(self.written.keys().map(String::as_bytes)) {
            if set.is_match(as_path(path)) && !covers(&gone, path) {
                gone.insert(path.to_vec());
            }
        }
        self.written.retain(|path, _| !covers(&gone, path.as_bytes()));
        self.removed.extend(gone.iter().cloned());
        Ok(gone.into_iter().filter_map(|path| String::from_utf8(path).ok()).collect())
    }

    /// Writes the tree as a tar below `prefix`.
    pub(crate) fn write_tar<W: Write>(
        &self,
        archive: &Archive,
        prefix: &str,
        out: W,
    ) -> io::Result<W> {
        let mut tree = Tree::new();
        for (path, node) in archive.nodes() {
            if covers(&self.removed, path) {
                continue;
            }
            let name = [prefix.as_bytes(), path].concat();
            match node {
                Node::Directory => tree.directory(&name, Attributes::EXECUTABLE),
                Node::Symlink { target } => tree.symlink(&name, target, Attributes::PLAIN),
                Node::File { offset, bytes, executable } => tree.file(
                    &name,
                    mode(*executable),
                    *bytes,
                    Content::Archived { offset: *offset, bytes: *bytes },
                ),
            }
            .map_err(broken)?;
        }
        add(&mut tree, prefix, &self.written).map_err(broken)?;
        if !prefix.is_empty() {
            tree.directory(prefix.trim_end_matches('/').as_bytes(), Attributes::EXECUTABLE)
                .map_err(broken)?;
        }
        finish(tree, Some(archive), out)
    }

    /// The layer of the app's tree, dated with the commit.
    pub(crate) fn seal(
        &self,
        archive: &Archive,
        blobs: &BlobStore,
        mtime_s: u64,
    ) -> Result<Sealed, BuildError> {
        store(blobs, Some(mtime_s), Vec::new(), |out| self.write_tar(archive, "workspace/", out))
    }
}

/// Only the matching files of the source, for a step with inputs.
pub(crate) fn write_inputs<W: Write>(
    archive: &Archive,
    patterns: &[String],
    out: W,
) -> Result<W, BuildError> {
    let mut tree = Tree::new();
    for (path, node) in archive.matching(patterns)? {
        let added = match node {
            Node::Directory => Ok(()),
            Node::Symlink { target } => tree.symlink(path, target, Attributes::PLAIN),
            Node::File { offset, bytes, executable } => tree.file(
                path,
                mode(*executable),
                *bytes,
                Content::Archived { offset: *offset, bytes: *bytes },
            ),
        };
        added.map_err(BuildError::platform("copy the inputs of a step"))?;
    }
    finish(tree, Some(archive), out).map_err(BuildError::platform("copy the inputs of a step"))
}

/// A layer of files that a buildpack wrote.
pub(crate) fn seal_files(
    path: &str,
    files: &Files,
    tops: Vec<String>,
    blobs: &BlobStore,
) -> Result<Sealed, BuildError> {
    let prefix = format!("{}/", path.trim_start_matches('/'));
    store(blobs, None, tops, |out| write_files(&[(prefix.clone(), files)], out))
}

/// Files below several directories as one tar; the directories are there even without files.
pub(crate) fn write_files<W: Write>(groups: &[(String, &Files)], out: W) -> io::Result<W> {
    let mut tree = Tree::new();
    for (prefix, files) in groups {
        if !prefix.is_empty() {
            tree.directory(prefix.trim_end_matches('/').as_bytes(), Attributes::EXECUTABLE)
                .map_err(broken)?;
        }
        add(&mut tree, prefix, files).map_err(broken)?;
    }
    finish(tree, None, out)
}

fn add(tree: &mut Tree<Content>, prefix: &str, files: &Files) -> Result<(), TarError> {
    for (path, written) in files {
        let name = format!("{prefix}{path}");
        match written {
            Written::File { data, executable } => {
                tree.file(
                    name.as_bytes(),
                    mode(*executable),
                    data.len() as u64,
                    Content::Bytes(data.clone()),
                )?;
            }
            Written::Symlink { target } => {
                tree.symlink(name.as_bytes(), target.as_bytes(), Attributes::PLAIN)?;
            }
        }
    }
    Ok(())
}

fn finish<W: Write>(tree: Tree<Content>, archive: Option<&Archive>, out: W) -> io::Result<W> {
    let open = |content| -> io::Result<Box<dyn Read>> {
        match (content, archive) {
            (Content::Bytes(bytes), _) => Ok(Box::new(io::Cursor::new(bytes))),
            (Content::Archived { offset, bytes }, Some(archive)) => {
                Ok(Box::new(archive.content(offset, bytes)))
            }
            (Content::Archived { .. }, None) => Err(io::ErrorKind::NotFound.into()),
        }
    };
    tree.write(out, Rules::App, open).map(|(out, _)| out).map_err(broken)
}

fn store(
    blobs: &BlobStore,
    mtime_s: Option<u64>,
    looking_for: Vec<String>,
    write: impl FnOnce(
        Dated<BufWriter<berth_blobs::BlobWriter>>,
    ) -> io::Result<Dated<BufWriter<berth_blobs::BlobWriter>>>,
) -> Result<Sealed, BuildError> {
    let failed = || BuildError::platform("write a layer");
    let out = BufWriter::with_capacity(256 << 10, blobs.writer(LAYER_BYTES_MAX)?);
    let dated = write(Dated::new(out, mtime_s).looking_for(looking_for)).map_err(failed())?;
    let (buffered, tops) = dated.finish().map_err(failed())?;
    let writer = buffered.into_inner().map_err(|error| failed()(error.into_error()))?;
    let (diff_id, bytes) = writer.finish()?;
    Ok(Sealed { diff_id, bytes, tops })
}

fn mode(executable: bool) -> Attributes {
    if executable { Attributes::EXECUTABLE } else { Attributes::PLAIN }
}

/// The directories that a path lies in, from the top.
fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

/// Whether a path, or a directory that it lies in, is in the set.
fn covers(set: &BTreeSet<Vec<u8>>, path: &[u8]) -> bool {
    !set.is_empty() && (set.contains(path) || parents(path).any(|above| set.contains(above)))
}

/// Whether `path` is `top` or lies below it.
fn is_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn broken(error: TarError) -> io::Error {
    match error {
        TarError::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(paths: &[&str]) -> (tempfile::TempDir, BlobStore, Archive) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(folder.path()).unwrap();
        let mut tree = Tree::new();
        for path in paths {
            tree.file(path.as_bytes(), Attributes::PLAIN, 3, b"old".to_vec()).unwrap();
        }
        let (bytes, _) =
            tree.write(Vec::new(), Rules::App, |content| Ok(io::Cursor::new(content))).unwrap();
        let (digest, _) = blobs.put(bytes.as_slice(), 1 << 20).unwrap();
        let archive = Archive::open(&blobs, &digest).unwrap();
        (folder, blobs, archive)
    }

    fn file(text: &str) -> Written {
        Written::File { data: text.as_bytes().to_vec(), executable: false }
    }

    /// `path=content` or `path->target` of everything but directories.
    fn listing(bytes: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(bytes);
        let mut lines = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            if entry.header().entry_type().is_symlink() {
                lines.push(format!("{path}->{}", entry.link_name().unwrap().unwrap().display()));
            } else if entry.header().entry_type().is_file() {
                let mut text = String::new();
                entry.read_to_string(&mut text).unwrap();
                lines.push(format!("{path}={text}"));
            }
        }
        lines
    }

    fn shown(workspace: &Workspace, archive: &Archive) -> Vec<String> {
        listing(&workspace.write_tar(archive, "", Vec::new()).unwrap())
    }

    #[test]
    fn a_write_replaces_what_stood_there_or_in_its_way() {
        let (_folder, _, archive) = archive(&["a", "b/c", "d/e/f"]);
        let mut workspace = Workspace::default();
        workspace.write(&archive, "a", file("new"));
        workspace.write(&archive, "b/c/deep", file("new"));
        workspace.write(&archive, "d", Written::Symlink { target: "/layers/x".to_owned() });
        assert_eq!(shown(&workspace, &archive), ["a=new", "b/c/deep=new", "d->/layers/x"]);
        workspace.write(&archive, "d/x", file("in place of the link"));
        assert_eq!(
            shown(&workspace, &archive),
            ["a=new", "b/c/deep=new", "d/x=in place of the link"]
        );
    }

    #[test]
    fn removal_takes_directories_whole_and_counts_their_top() {
        let (_folder, _, archive) = archive(&["a.pyc", "m/x/1", "m/y/2", "m-n", "s/b.pyc"]);
        let mut workspace = Workspace::default();
        workspace.write(&archive, "w/new", file("x"));
        assert_eq!(
            workspace.remove(&archive, &["m".to_owned(), "**/*.pyc".to_owned()]).unwrap(),
            ["a.pyc", "m", "s/b.pyc"]
        );
        assert_eq!(shown(&workspace, &archive), ["m-n=old", "w/new=x"]);
        assert_eq!(workspace.remove(&archive, &["m".to_owned()]).unwrap(), Vec::<String>::new());
        assert_eq!(
            workspace.remove(&archive, &["w".to_owned(), "w/**".to_owned()]).unwrap(),
            ["w/new"]
        );
        assert_eq!(shown(&workspace, &archive), ["m-n=old"]);
    }

    #[test]
    fn the_same_tree_is_the_same_layer_dated_with_the_commit() {
        let (_folder, blobs, archive) = archive(&["a", "b/c"]);
        let workspace = Workspace::default();
        let first = workspace.seal(&archive, &blobs, 1_700_000_000).unwrap();
        let second = workspace.seal(&archive, &blobs, 1_700_000_000).unwrap();
        let later = workspace.seal(&archive, &blobs, 1_700_000_001).unwrap();
        assert_eq!(first.diff_id, second.diff_id);
        assert_ne!(first.diff_id, later.diff_id);
        let bytes = blobs.read(&first.diff_id, 1 << 20).unwrap();
        assert_eq!(listing(&bytes), ["workspace/a=old", "workspace/b/c=old"]);
        let mut entries = tar::Archive::new(bytes.as_slice());
        for entry in entries.entries().unwrap() {
            let header = entry.unwrap().header().clone();
            assert_eq!(
                (header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()),
                (1_700_000_000, 1000, 1000)
            );
        }
    }

    #[test]
    fn an_empty_tree_and_an_empty_layer_still_have_their_directory() {
        let (_folder, blobs, archive) = archive(&["a"]);
        let mut workspace = Workspace::default();
        workspace.remove(&archive, &["a".to_owned()]).unwrap();
        let sealed = workspace.seal(&archive, &blobs, 1).unwrap();
        let bytes = blobs.read(&sealed.diff_id, 1 << 20).unwrap();
        assert_eq!(tar::Archive::new(bytes.as_slice()).entries().unwrap().count(), 1);
        let files = Files::from([("bin/run".to_owned(), file("x"))]);
        let sealed =
            seal_files("/layers/x/y", &files, vec!["layers/x/y/bin/".to_owned()], &blobs).unwrap();
        assert_eq!(sealed.tops, ["layers/x/y/bin/"]);
    }

    #[test]
    fn only_plain_relative_paths_are_taken() {
        for good in ["a", "a/b.c", "ä", ".env"] {
            assert!(is_relative(good), "{good}");
        }
        for bad in ["", "/a", "a//b", "../a", "a/..", "./a", "a/", "a\0b", &"x".repeat(256)] {
            assert!(!is_relative(bad), "{bad:?}");
        }
    }
}
