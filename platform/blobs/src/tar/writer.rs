//! The canonical writer: a function from a tree to bytes.

use std::io::{self, Read, Write};

use super::header::{self, BLOCK, NAME_BYTES, OCTAL_ID_MAX, OCTAL_SIZE_MAX};
use super::{PATH_BYTES_MAX, TarError, check_path, shown};

/// Files of the app, and whoever owns `/workspace` and `/layers` in a container.
const APP_ID: u32 = 1000;

/// What the writer does with owners and modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// Source archives and build layers: everything belongs to 1000:1000; 0755 for directories and
    /// for files that their owner may execute, else 0644.
    App,
    /// Stack layers: numeric owners and permission bits are kept, setuid and setgid bits of files
    /// removed.
    Stack,
}

/// Mode and numeric owner of an entry as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits; others are ignored.
    pub mode: u32,
    /// Numeric user id.
    pub uid: u32,
    /// Numeric group id.
    pub gid: u32,
}

impl Attributes {
    /// A directory, or a file that may be executed.
    pub const EXECUTABLE: Self = Self { mode: 0o755, uid: 0, gid: 0 };
    /// Any other file.
    pub const PLAIN: Self = Self { mode: 0o644, uid: 0, gid: 0 };
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the archive.
    pub bytes: u64,
    /// Entries, directories included.
    pub entries: u64,
}

/// Writes entries that come in bytewise order of their names, where a directory's name ends with a
/// slash (`a-b`, `a/`, `a/b`: the order of git's trees, and of a walk that sorts each directory).
/// Directories on the way to an entry are written when they were not.
pub struct Writer<W> {
    out: W,
    rules: Rules,
    /// Name of the last entry, with the slash of a directory.
    last: Vec<u8>,
    /// Files and links whose names begin the current name: `a` stays while `a-b` and `a/b` may come.
    above: Vec<Vec<u8>>,
    written: Written,
}

impl<W: Write> Writer<W> {
    /// Nothing is written before the first entry. Buffer `out`: headers are 512 bytes.
    pub fn new(out: W, rules: Rules) -> Self {
        let written = Written { bytes: 0, entries: 0 };
        Self { out, rules, last: Vec::new(), above: Vec::new(), written }
    }

    /// Bytes and entries so far, for limits.
    pub fn written(&self) -> Written {
        self.written
    }

    /// A directory. One that was written only as a parent cannot come again.
    ///
    /// # Errors
    /// `Path`, `Order`, `Io`.
    pub fn directory(&mut self, path: &[u8], attributes: Attributes) -> Result<(), TarError> {
        let mut name = path.to_vec();
        name.push(b'/');
        self.start(path, &name)?;
        let mode = match self.rules {
            Rules::App => 0o755,
            Rules::Stack => attributes.mode & 0o1777,
        };
        self.header(&name, b"", b'5', mode, attributes, 0)
    }

    /// A file of exactly `size` bytes, read from `content`.
    ///
    /// # Errors
    /// `Path`, `Order`, `Content`, `Length` when `content` has more or fewer bytes, `Io`. After an
    /// error the archive is unusable.
    pub fn file(
        &mut self,
        path: &[u8],
        attributes: Attributes,
        size: u64,
        content: impl Read,
    ) -> Result<(), TarError> {
        self.start(path, path)?;
        let mode = match self.rules {
            Rules::App if attributes.mode & 0o100 != 0 => 0o755,
            Rules::App => 0o644,
            Rules::Stack => attributes.mode & 0o777,
        };
        self.header(path, b"", b'0', mode, attributes, size)?;
        self.copy(path, size, content)?;
        self.pad(size)
    }

    /// A symbolic link; its target is kept as it is.
    ///
    /// # Errors
    /// `Path` (also for an empty or too long target), `Order`, `Io`.
    pub fn symlink(
        &mut self,
        path: &[u8],
        target: &[u8],
        attributes: Attributes,
    ) -> Result<(), TarError> {
        if target.is_empty() || target.len() >= PATH_BYTES_MAX || target.contains(&0) {
            let why = "the target of the symbolic link is empty, too long or has a zero byte";
            return Err(TarError::Path { path: shown(path), why });
        }
        self.start(path, path)?;
        self.header(path, target, b'2', 0o777, attributes, 0)
    }

    /// Ends the archive and flushes it.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish(mut self) -> Result<(W, Written), TarError> {
        self.put(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok((self.out, self.written))
    }

    /// Checks the order and writes the directories on the way to `path`.
    fn start(&mut self, path: &[u8], name: &[u8]) -> Result<(), TarError> {
        check_path(path, PATH_BYTES_MAX - 1)?;
        let file_name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if file_name.starts_with(b".wh.") {
            let why = "names that begin with '.wh.' mean removal in image layers; rename it";
            return Err(TarError::Path { path: shown(path), why });
        }
        if name <= self.last.as_slice() {
            return Err(TarError::Order { path: shown(name), after: shown(&self.last) });
        }
        self.above.retain(|leaf| name.starts_with(leaf));
        if self.above.iter().any(|leaf| name[leaf.len()] == b'/') {
            let why = "a part of it is a file or a symbolic link";
            return Err(TarError::Path { path: shown(path), why });
        }
        if !name.ends_with(b"/") {
            self.above.push(name.to_vec());
        }
        let shared = self.last.iter().zip(name).take_while(|(a, b)| a == b).count();
        let parents: Vec<usize> = path
            .iter()
            .enumerate()
            .filter(|(at, byte)| **byte == b'/' && *at >= shared)
            .map(|(at, _)| at)
            .collect();
        for at in parents {
            let parent = name[..=at].to_vec();
            self.header(&parent, b"", b'5', 0o755, Attributes::EXECUTABLE, 0)?;
        }
        self.last = name.to_vec();
        Ok(())
    }

    fn header(
        &mut self,
        name: &[u8],
        target: &[u8],
        type_flag: u8,
        mode: u32,
        attributes: Attributes,
        size: u64,
    ) -> Result<(), TarError> {
        let owner = match self.rules {
            Rules::App => (APP_ID, APP_ID),
            Rules::Stack => (attributes.uid, attributes.gid),
        };
        if owner.0.max(owner.1) > OCTAL_ID_MAX {
            return Err(TarError::Path {
                path: shown(name),
                why: "its numeric owner is too large",
            });
        }
        let records = pax(name, target, size);
        if !records.is_empty() {
            let length = records.len() as u64;
            let block = header::encode(b"././@PaxHeader", b"", b'x', 0o644, (0, 0), length);
            self.put(&block)?;
            self.put(&records)?;
            self.pad(length)?;
        }
        self.written.entries += 1;
        self.put(&header::encode(name, target, type_flag, mode, owner, size))
    }

    fn copy(&mut self, path: &[u8], size: u64, mut content: impl Read) -> Result<(), TarError> {
        let mut buffer = vec![0; (size.min(128 * 1024) as usize).max(1)];
        let mut left = size;
        let length = |actual| TarError::Length { path: shown(path), expected: size, actual };
        while left > 0 {
            let most = left.min(buffer.len() as u64) as usize;
            match content.read(&mut buffer[..most]) {
                Ok(0) => return Err(length(size - left)),
                Ok(count) => {
                    self.put(&buffer[..count])?;
                    left -= count as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Content { path: shown(path), source }),
            }
        }
        match content.read(&mut buffer[..1]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(length(size + 1)),
            Err(source) => Err(TarError::Content { path: shown(path), source }),
        }
    }

    fn pad(&mut self, size: u64) -> Result<(), TarError> {
        let over = (size % BLOCK as u64) as usize;
        if over == 0 { Ok(()) } else { self.put(&[0; BLOCK][over..]) }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        self.out.write_all(bytes)?;
        self.written.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// PAX records for what does not fit a ustar header, in a fixed order; empty when all fits.
fn pax(name: &[u8], target: &[u8], size: u64) -> Vec<u8> {
    let mut records = Vec::new();
    if target.len() > NAME_BYTES {
        record(&mut records, b"linkpath", target);
    }
    if name.len() > NAME_BYTES {
        record(&mut records, b"path", name);
    }
    if size > OCTAL_SIZE_MAX {
        record(&mut records, b"size", size.to_string().as_bytes());
    }
    records
}

/// `<length> <key>=<value>\n`, where the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}
