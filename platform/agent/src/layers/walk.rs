//! Walks a directory into a tar writer.
//!
//! The order is the writer's: each directory sorted by bytes, where a directory's name counts with
//! a slash. No link is followed, no other file system entered, nothing opened but directories and
//! regular files.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_blobs::tar::{Attributes, TarError, Writer};
use berth_container::FailureCode;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, readlinkat,
    statat,
};

use crate::failure::{Because, Failure};

/// What is walked at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Sum of the lengths of all files.
    pub(crate) bytes_max: u64,
    pub(crate) entries_max: u64,
    /// Directories in one another.
    pub(crate) depth_max: u32,
}

/// What happens to FIFOs, sockets and devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Odd {
    /// They are refused by name.
    Refused,
    /// They are left out.
    LeftOut,
}

/// Writes the directory `path`, relative to the root of this process, and everything in it.
/// Entries keep that path; the root itself, an empty path, has no entry.
pub(crate) fn walk<W: Write>(
    path: &str,
    bounds: Bounds,
    odd: Odd,
    out: &mut Writer<W>,
) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, "/", flags, Mode::empty()).because(|| "opening the root")?;
    let from = if path.is_empty() { "." } else { path };
    let start = match open(root.as_fd(), from.as_bytes(), OFlags::DIRECTORY) {
        Err(rustix::io::Errno::NOENT) => {
            return Err(Failure::not_found(format!("there is no directory /{path}")));
        }
        other => other.because(|| format!("opening /{path}"))?,
    };
    let mut walk = Walk { bounds, odd, bytes: 0, out };
    if !path.is_empty() {
        let stat = fstat(&start).because(|| format!("looking at /{path}"))?;
        walk.out.directory(path.as_bytes(), attributes(&stat)).map_err(|error| refusal(&error))?;
    }
    walk.directory(&start, path.as_bytes(), 0)
}

struct Walk<'a, W> {
    bounds: Bounds,
    odd: Odd,
    bytes: u64,
    out: &'a mut Writer<W>,
}

/// One name in a directory.
struct Found {
    /// With the slash of a directory.
    name: Vec<u8>,
    stat: Stat,
}

impl<W: Write> Walk<'_, W> {
    fn directory(&mut self, folder: &OwnedFd, path: &[u8], depth: u32) -> Result<(), Failure> {
        if depth >= self.bounds.depth_max {
            let max = self.bounds.depth_max;
            return Err(limit(format!("{} lies deeper than {max} directories", shown(path))));
        }
        for found in self.sorted(folder, path)? {
            let name = found.name.strip_suffix(b"/").unwrap_or(&found.name);
            let inside = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
            self.entry(folder, name, &inside, &found.stat, depth)?;
        }
        Ok(())
    }

    /// The names of a directory in the order of the archive.
    fn sorted(&self, folder: &OwnedFd, path: &[u8]) -> Result<Vec<Found>, Failure> {
        let because = || format!("listing {}", shown(path));
        let mut found = Vec::new();
        for entry in Dir::read_from(folder).because(because)? {
            let entry = entry.because(because)?;
            let mut name = entry.file_name().to_bytes().to_vec();
            if matches!(name.as_slice(), b"." | b"..") {
                continue;
            }
            // A directory with more names than the whole archive may have is not even sorted.
            if found.len() as u64 + self.out.written().entries >= self.bounds.entries_max {
                let max = self.bounds.entries_max;
                return Err(limit(format!("there are more than {max} files (in {})", shown(path))));
            }
            let stat = statat(folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
                .because(|| format!("looking at {} in {}", shown(&name), shown(path)))?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                name.push(b'/');
            }
            found.push(Found { name, stat });
        }
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn entry(
        &mut self,
        folder: &OwnedFd,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
        depth: u32,
    ) -> Result<(), Failure> {
        let because = || format!("reading {}", shown(path));
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let opened = open(folder.as_fd(), name, OFlags::DIRECTORY).because(because)?;
                self.out.directory(path, attributes(stat)).map_err(|error| refusal(&error))?;
                self.directory(&opened, path, depth + 1)
            }
            FileType::RegularFile => self.file(folder, name, path),
            FileType::Symlink => {
                let target = readlinkat(folder, name, Vec::new()).because(because)?;
                let written = self.out.symlink(path, target.as_bytes(), attributes(stat));
                written.map_err(|error| refusal(&error))
            }
            _ if self.odd == Odd::LeftOut => Ok(()),
            other => {
                let kind = kind(other);
                let message =
                    format!("{} is a {kind}, which cannot be in an image: remove it", shown(path));
                Err(Failure::new(FailureCode::Invalid, message))
            }
        }
    }

    fn file(&mut self, folder: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), Failure> {
        let because = || format!("reading {}", shown(path));
        // Whatever it is by now: opening a FIFO would wait otherwise.
        let opened = open(folder.as_fd(), name, OFlags::NONBLOCK).because(because)?;
        let stat = fstat(&opened).because(because)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let message = format!("{} changed while it was read", shown(path));
            return Err(Failure::new(FailureCode::Conflict, message));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.bounds.bytes_max {
            let max = self.bounds.bytes_max >> 20;
            return Err(limit(format!("the files are larger than {max} MiB (at {})", shown(path))));
        }
        let content = std::fs::File::from(opened);
        let written = self.out.file(path, attributes(&stat), size, content);
        written.map_err(|error| refusal(&error))
    }
}

fn open(at: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, rustix::io::Errno> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    openat2(at, path, OFlags::RDONLY | OFlags::CLOEXEC | flags, Mode::empty(), resolve)
}

fn attributes(stat: &Stat) -> Attributes {
    Attributes { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid }
}

fn kind(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::BlockDevice | FileType::CharacterDevice => "device",
        _ => "file of an unknown kind",
    }
}

fn limit(message: String) -> Failure {
    Failure::new(FailureCode::Limit, message)
}

fn refusal(error: &TarError) -> Failure {
    let code = match error {
        TarError::Io(_) | TarError::Content { .. } => FailureCode::Machine,
        TarError::Limit { .. } => FailureCode::Limit,
        TarError::Length { .. } => FailureCode::Conflict,
        _ => FailureCode::Invalid,
    };
    let cause = std::error::Error::source(error);
    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
    Failure::new(code, format!("{error}{cause}"))
}

/// A path for people, from the root.
fn shown(path: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(path).chars().take(300).collect();
    format!("/{}", text.escape_debug())
}
