//! Trees as tar archives.
//!
//! [`Writer`] gives the same bytes for the same tree: names in bytewise order, every parent
//! explicit, one modification time, no user names, no extended attributes, PAX records only where
//! a field is too small. [`Tree`] collects entries that come in any order. [`Reader`] reads
//! archives that others wrote (ustar, PAX, GNU long names), entry by entry, within [`Caps`], and
//! refuses what must never reach a file system: absolute paths, `..`, devices, sparse files.
//!
//! A path here is the bytes of a relative path without `.`, `..`, empty parts or a final slash.
//! Nothing in here touches a file system.

mod header;
mod reader;
mod tree;
mod writer;

use std::io;

pub use reader::{Caps, Entry, Kind, Reader};
pub use tree::Tree;
pub use writer::{Attributes, Rules, Writer, Written};

/// The modification time of every entry, Unix seconds: 1980-01-01T00:00:01Z, because zip cannot
/// hold an earlier date.
pub const MTIME_S: u64 = 315_532_801;

/// Longest path, and longest target of a symbolic link, that a [`Writer`] takes: Linux's PATH_MAX.
pub const PATH_BYTES_MAX: usize = 4096;

/// Why an archive was refused.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The archive could not be read or written.
    #[error("cannot read or write the archive")]
    Io(#[from] io::Error),
    /// The content of a file could not be read.
    #[error("cannot read the content of '{path}'")]
    Content {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A path that is empty, absolute, has `.`, `..`, an empty part or a zero byte, or is too long.
    #[error("'{path}' is refused as a path in an archive: {why}")]
    Path {
        /// The path, escaped.
        path: String,
        /// The rule.
        why: &'static str,
    },
    /// A device, FIFO, socket, sparse or unknown kind of entry.
    #[error("'{path}' is a {kind}, which is refused in an archive")]
    Kind {
        /// Which entry.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// The writer needs bytewise order.
    #[error("'{path}' comes after '{after}', which is not their order by bytes")]
    Order {
        /// The entry that is too late, or there twice.
        path: String,
        /// The entry before it.
        after: String,
    },
    /// A file that changed while it was read.
    #[error("'{path}' gave {actual} bytes, not the {expected} that were announced")]
    Length {
        /// Which file.
        path: String,
        /// What was announced.
        expected: u64,
        /// What came; at most one more than announced.
        actual: u64,
    },
    /// A limit.
    #[error("the archive has more than {max} {what}, the limit here (at '{path}')")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        max: u64,
        /// Where it was reached.
        path: String,
    },
    /// Not a tar archive, or one that ends too early.
    #[error("the archive is damaged: {0}")]
    Damaged(&'static str),
}

/// Text of path bytes for messages: control characters and bytes that are not UTF-8 escaped.
pub(crate) fn shown(path: &[u8]) -> String {
    path.utf8_chunks().fold(String::new(), |mut text, chunk| {
        chunk.valid().chars().for_each(|c| {
            if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
        });
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
        text
    })
}

/// Checks that `path` is a path as the module's comment says.
pub(crate) fn check_path(path: &[u8], bytes_max: usize) -> Result<(), TarError> {
    let why = if path.is_empty() {
        "it is empty"
    } else if path[0] == b'/' {
        "it is absolute"
    } else if path.len() > bytes_max {
        "it is too long"
    } else if path.contains(&0) {
        "it has a zero byte"
    } else if path.split(|b| *b == b'/').any(|part| part.len() > 255) {
        "a part of it has more than 255 bytes"
    } else if path.split(|b| *b == b'/').any(|part| matches!(part, b"" | b"." | b"..")) {
        "it has a part that is empty, '.' or '..'"
    } else {
        return Ok(());
    };
    Err(TarError::Path { path: shown(&path[..path.len().min(300)]), why })
}
