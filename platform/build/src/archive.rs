//! The pushed tree, read out of its archive without unpacking it.
//!
//! One pass over the headers makes an index of paths with the offset of each file's content;
//! everything a buildpack asks of its source is answered from the index and by reads at an offset.
//! Symbolic links are followed inside the tree only, and only to read a file.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;

use berth_blobs::BlobStore;
use berth_blobs::tar::{Caps, Kind, Reader, TarError};
use berth_model::Digest;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use sha2::{Digest as _, Sha256};

/// Most symbolic links between a path and its file.
const LINKS_MAX: usize = 8;
/// Most patterns in one question, and bytes of each.
const PATTERNS_MAX: usize = 256;
const PATTERN_BYTES_MAX: usize = 1024;

/// Why the source could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive is not in the store.
    #[error("cannot open the archived source")]
    Blobs(#[from] berth_blobs::BlobError),
    /// The archive is not one that `push` wrote.
    #[error("cannot read the archived source")]
    Tar(#[from] TarError),
    /// A read failed.
    #[error("cannot read '{path}' of the source")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no such file.
    #[error("'{0}' is not a file of the source")]
    NotAFile(String),
    /// The file is larger than the caller takes.
    #[error("'{path}' has {bytes} bytes, more than the {bytes_max} that are read")]
    TooLarge {
        /// Which file.
        path: String,
        /// Its length.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// A pattern that is not valid.
    #[error("'{pattern}' is not a pattern: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        why: String,
    },
}

/// What a path of the tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Directory,
    File { offset: u64, bytes: u64, executable: bool },
    Symlink { target: Vec<u8> },
}

/// The index of one archive. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Archive {
    file: Arc<File>,
    nodes: Arc<BTreeMap<Vec<u8>, Node>>,
}

/// Counts the bytes that the tar reader took, which is where a content begins.
struct Counting<R> {
    inner: R,
    at: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.at.set(self.at.get() + count as u64);
        Ok(count)
    }
}

impl Archive {
    /// Reads the headers of an archive. Blocks on the file.
    pub(crate) fn open(blobs: &BlobStore, digest: &Digest) -> Result<Self, ArchiveError> {
        let file = blobs.get(digest)?;
        let at = Rc::new(Cell::new(0));
        let mut again = file.try_clone().map_err(TarError::Io)?;
        again.seek(SeekFrom::Start(0)).map_err(TarError::Io)?;
        let input =
            Counting { inner: BufReader::with_capacity(256 << 10, again), at: Rc::clone(&at) };
        let mut reader = Reader::new(input, Caps::SOURCE);
        let mut nodes = BTreeMap::new();
        while let Some(entry) = reader.next()? {
            let node = match &entry.kind {
                Kind::Directory => Node::Directory,
                Kind::File { size } => {
                    Node::File { offset: at.get(), bytes: *size, executable: entry.is_executable() }
                }
                Kind::Symlink { target } => Node::Symlink { target: target.clone() },
                Kind::HardLink { .. } => {
                    return Err(TarError::Damaged("the archived source has a hard link").into());
                }
            };
            nodes.insert(entry.path, node);
        }
        Ok(Self { file: Arc::new(file), nodes: Arc::new(nodes) })
    }

    /// Every path in the order of its bytes.
    pub(crate) fn nodes(&self) -> &BTreeMap<Vec<u8>, Node> {
        &self.nodes
    }

    /// `file`, `executable`, `directory`, `symlink` or `missing`.
    pub(crate) fn kind(&self, path: &str) -> &'static str {
        let path = normal(path);
        match self.nodes.get(path.as_bytes()) {
            _ if path.is_empty() => "directory",
            Some(Node::Directory) => "directory",
            Some(Node::File { executable: true, .. }) => "executable",
            Some(Node::File { .. }) => "file",
            Some(Node::Symlink { .. }) => "symlink",
            None => "missing",
        }
    }

    /// The bytes of a file, through symbolic links that stay in the tree.
    pub(crate) fn read(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, ArchiveError> {
        let (offset, bytes) = self.resolve(path)?;
        if bytes > bytes_max {
            return Err(ArchiveError::TooLarge { path: path.to_owned(), bytes, bytes_max });
        }
        let mut content = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        self.file
            .read_exact_at(&mut content, offset)
            .map_err(|source| ArchiveError::Read { path: path.to_owned(), source })?;
        Ok(content)
    }

    /// A file as text; `None` when there is none.
    pub(crate) fn text(&self, path: &str, bytes_max: u64) -> Result<Option<String>, ArchiveError> {
        match self.read(path, bytes_max) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                Ok(Some(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned()))
            }
            Err(ArchiveError::NotAFile(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A reader over a content of the archive.
    pub(crate) fn content(&self, offset: u64, bytes: u64) -> impl Read + use<> {
        At { file: Arc::clone(&self.file), offset, left: bytes }
    }

    /// Paths of files that match any pattern, in the order of their bytes.
    pub(crate) fn glob(&self, patterns: &[String]) -> Result<Vec<String>, ArchiveError> {
        let files = self.matching(patterns)?;
        Ok(files
            .into_iter()
            .filter(|(_, node)| matches!(node, Node::File { .. }))
            .filter_map(|(path, _)| String::from_utf8(path.clone()).ok())
            .collect())
    }

    /// SHA-256 over path, kind, mode and content of the files and links that match, as hex.
    pub(crate) fn digest(&self, patterns: &[String]) -> Result<String, ArchiveError> {
        let mut sum = Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        for (path, node) in self.matching(patterns)? {
            let (kind, length) = match node {
                Node::File { bytes, executable, .. } => {
                    (if *executable { 'x' } else { 'f' }, *bytes)
                }
                Node::Symlink { target } => ('l', target.len() as u64),
                Node::Directory => continue,
            };
            sum.update((path.len() as u64).to_be_bytes());
            sum.update(path);
            sum.update([kind as u8]);
            sum.update(length.to_be_bytes());
            match node {
                Node::File { offset, bytes, .. } => {
                    let mut content = self.content(*offset, *bytes);
                    loop {
                        let count =
                            content.read(&mut buffer).map_err(|source| ArchiveError::Read {
                                path: String::from_utf8_lossy(path).into_owned(),
                                source,
                            })?;
                        if count == 0 {
                            break;
                        }
                        sum.update(&buffer[..count]);
                    }
                }
                Node::Symlink { target } => sum.update(target),
                Node::Directory => {}
            }
        }
        Ok(hex::encode(sum.finalize()))
    }

    /// Files and links whose path matches.
    pub(crate) fn matching(
        &self,
        patterns: &[String],
    ) -> Result<Vec<(&Vec<u8>, &Node)>, ArchiveError> {
        let plain = |pattern: &String| !pattern.contains(['*', '?', '[', '{', '\\']);
        if patterns.len() <= PATTERNS_MAX && patterns.iter().all(plain) {
            let mut found: BTreeMap<&Vec<u8>, &Node> = BTreeMap::new();
            for pattern in patterns {
                found.extend(self.nodes.get_key_value(normal(pattern).as_bytes()));
            }
            return Ok(found.into_iter().filter(|(_, node)| **node != Node::Directory).collect());
        }
        let set = patterns_of(patterns)?;
        Ok(self
            .nodes
            .iter()
            .filter(|(_, node)| **node != Node::Directory)
            .filter(|(path, _)| set.is_match(as_path(path)))
            .collect())
    }

    /// Where the content of a file lies.
    fn resolve(&self, path: &str) -> Result<(u64, u64), ArchiveError> {
        let refuse = || ArchiveError::NotAFile(path.chars().take(300).collect());
        let mut at = normal(path).as_bytes().to_vec();
        for _ in 0..=LINKS_MAX {
            match self.nodes.get(&at) {
                Some(Node::File { offset, bytes, .. }) => return Ok((*offset, *bytes)),
                Some(Node::Symlink { target }) => at = follow(&at, target).ok_or_else(refuse)?,
                _ => return Err(refuse()),
            }
        }
        Err(refuse())
    }
}

/// The target of a link relative to the root of the tree; nothing when it leaves the tree.
fn follow(link: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    if target.starts_with(b"/") {
        return None;
    }
    let mut parts: Vec<&[u8]> = link.split(|byte| *byte == b'/').collect();
    parts.pop();
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

/// A set of patterns where `*` stays within a directory and `**` does not.
pub(crate) fn patterns_of(patterns: &[String]) -> Result<GlobSet, ArchiveError> {
    let refuse = |pattern: &str, why: String| ArchiveError::Pattern {
        pattern: pattern.chars().take(200).collect(),
        why,
    };
    if patterns.len() > PATTERNS_MAX {
        return Err(refuse("", format!("there are more than {PATTERNS_MAX}")));
    }
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(refuse(pattern, format!("it is longer than {PATTERN_BYTES_MAX} bytes")));
        }
        let glob = GlobBuilder::new(normal(pattern)).literal_separator(true).build();
        set.add(glob.map_err(|error| refuse(pattern, error.to_string()))?);
    }
    set.build().map_err(|error| refuse("", error.to_string()))
}

pub(crate) fn as_path(path: &[u8]) -> &std::path::Path {
    use std::os::unix::ffi::OsStrExt;
    std::path::Path::new(std::ffi::OsStr::from_bytes(path))
}

fn normal(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    let path = path.strip_prefix("./").unwrap_or(path);
    if path == "." { "" } else { path }
}

/// Reads a range of a shared file.
struct At {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.file.read_at(&mut buffer[..most], self.offset)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
