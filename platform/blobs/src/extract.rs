//! Puts an archive into a directory.
//!
//! Every path is resolved by the kernel beneath the directory and through no symbolic link, so
//! that neither the archive nor a process that works in the directory meanwhile leads anywhere
//! else. Setuid and setgid bits are dropped, whiteouts refused. Needs Linux 5.6 (openat2).

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, chownat, fchmod, futimens,
    linkat, mkdirat, openat2, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::tar::{Caps, Entry, Kind, Reader, TarError, shown};

/// Why an archive was not put into its directory. What was written until then stays.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The archive was refused.
    #[error(transparent)]
    Archive(#[from] TarError),
    /// A file could not be made.
    #[error("cannot make '{path}'")]
    File {
        /// Path in the archive.
        path: String,
        /// Why. `ELOOP`: a part of the path is a symbolic link.
        #[source]
        source: io::Error,
    },
    /// A name that means removal in an image layer.
    #[error("'{path}' is a whiteout, which is refused")]
    Whiteout {
        /// Path in the archive.
        path: String,
    },
}

/// Whose the files become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Of the process that extracts.
    Mine,
    /// Of the numeric ids in the archive, if they are below this number.
    Numeric {
        /// First number that is refused.
        below: u32,
    },
}

/// What was extracted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Entries.
    pub entries: u64,
    /// Sum of the lengths of all files.
    pub bytes: u64,
}

/// Reads the archive to the end of `input` and makes its entries in `directory`. A file replaces a
/// file or link of the same name; directories are kept. Modification times are the archive's.
///
/// # Errors
/// `Archive`, `File`, `Whiteout`.
pub fn extract(
    input: impl Read,
    directory: impl AsFd,
    caps: Caps,
    owners: Owners,
) -> Result<Extracted, ExtractError> {
    let mut reader = Reader::new(input, caps);
    let mut target = Target { root: directory.as_fd(), owners, parent: None };
    let mut directories = Vec::new();
    let mut extracted = Extracted::default();
    while let Some(mut entry) = reader.next()? {
        extracted.entries += 1;
        if let Kind::File { size } = entry.kind {
            extracted.bytes += size;
        }
        target.make(&mut entry)?;
        if entry.kind == Kind::Directory {
            directories.push((entry.path.clone(), entry.mtime_s));
        }
    }
    reader.finish()?;
    // Last, because each entry in a directory changes its time.
    for (path, mtime_s) in directories {
        let done =
            target.resolve(&path, OFlags::DIRECTORY).and_then(|d| futimens(&d, &times(mtime_s)));
        done.map_err(file_error(&path))?;
    }
    Ok(extracted)
}

struct Target<'a> {
    root: BorrowedFd<'a>,
    owners: Owners,
    /// The directory of the last entry: most entries follow others of the same one.
    parent: Option<(Vec<u8>, OwnedFd)>,
}

impl Target<'_> {
    fn make<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), ExtractError> {
        let path = entry.path.clone();
        if path.split(|byte| *byte == b'/').any(|part| part.starts_with(b".wh.")) {
            return Err(ExtractError::Whiteout { path: shown(&path) });
        }
        let (parent, name) = split(&path);
        let owner = self.owner(entry)?;
        self.enter(parent).map_err(file_error(&path))?;
        let root = self.root;
        let parent = self.parent.as_ref().map_or(root, |(_, fd)| fd.as_fd());
        match entry.kind.clone() {
            Kind::Directory => directory(parent, name, entry, owner),
            Kind::File { .. } => return file(parent, name, entry, owner),
            Kind::Symlink { target } => {
                replacing(parent, name, || symlinkat(target.as_slice(), parent, name)).and_then(
                    |()| {
                        own(parent, name, owner)?;
                        let no_follow = AtFlags::SYMLINK_NOFOLLOW;
                        utimensat(parent, name, &times(entry.mtime_s), no_follow)
                    },
                )
            }
            Kind::HardLink { target } => self.hard_link(&target, parent, name),
        }
        .map_err(file_error(&path))
    }

    fn owner<R>(&self, entry: &Entry<'_, R>) -> Result<Option<(Uid, Gid)>, ExtractError> {
        match self.owners {
            Owners::Mine => Ok(None),
            Owners::Numeric { below } if entry.uid < below && entry.gid < below => {
                Ok(Some((Uid::from_raw(entry.uid), Gid::from_raw(entry.gid))))
            }
            Owners::Numeric { .. } => {
                let why = "its numeric owner is too large";
                Err(TarError::Path { path: shown(&entry.path), why }.into())
            }
        }
    }

    /// Opens the directory of an entry, making what is missing of it.
    fn enter(&mut self, path: &[u8]) -> Result<(), Errno> {
        if self.parent.as_ref().is_some_and(|(open, _)| open == path) {
            return Ok(());
        }
        self.parent = None;
        if path.is_empty() {
            return Ok(());
        }
        let opened = match self.resolve(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => self.make_parents(path)?,
            other => other?,
        };
        self.parent = Some((path.to_vec(), opened));
        Ok(())
    }

    fn make_parents(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let mut opened: Option<OwnedFd> = None;
        for part in path.split(|byte| *byte == b'/') {
            let parent = opened.as_ref().map_or(self.root, AsFd::as_fd);
            match mkdirat(parent, part, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            opened = Some(beneath(parent, part, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?);
        }
        opened.ok_or(Errno::INVAL)
    }

    /// A link to a symbolic link is another symbolic link; nothing is followed.
    fn hard_link(&self, target: &[u8], at: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        let (parent, file) = split(target);
        let opened;
        let from = if parent.is_empty() {
            self.root
        } else {
            opened = self.resolve(parent, OFlags::PATH | OFlags::DIRECTORY)?;
            opened.as_fd()
        };
        replacing(at, name, || linkat(from, file, at, name, AtFlags::empty()))
    }

    fn resolve(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        beneath(self.root, path, flags, Mode::empty())
    }
}

/// Opens a path below a directory, through no symbolic link and into no other file system's magic.
fn beneath(at: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(at, path, flags | OFlags::CLOEXEC, mode, resolve) {
            // A rename went on meanwhile.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

fn directory<R>(
    parent: BorrowedFd<'_>,
    name: &[u8],
    entry: &Entry<'_, R>,
    owner: Option<(Uid, Gid)>,
) -> Result<(), Errno> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let opened = beneath(parent, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    own(parent, name, owner)?;
    fchmod(&opened, Mode::from_raw_mode(entry.mode & 0o1777))
}

fn file<R: Read>(
    parent: BorrowedFd<'_>,
    name: &[u8],
    entry: &mut Entry<'_, R>,
    owner: Option<(Uid, Gid)>,
) -> Result<(), ExtractError> {
    let path = entry.path.clone();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let mut opened = None;
    replacing(parent, name, || {
        opened = Some(beneath(parent, name, flags, Mode::from_raw_mode(0o600))?);
        Ok(())
    })
    .map_err(file_error(&path))?;
    let Some(opened) = opened else { return Err(file_error(&path)(Errno::INVAL)) };
    let mut opened = std::fs::File::from(opened);
    io::copy(entry, &mut opened)
        .map_err(|source| ExtractError::File { path: shown(&path), source })?;
    own(parent, name, owner)
        .and_then(|()| fchmod(&opened, Mode::from_raw_mode(entry.mode & 0o777)))
        .and_then(|()| futimens(&opened, &times(entry.mtime_s)))
        .map_err(file_error(&path))
}

/// Makes something that may be there already, as a file or a link; a directory stays.
fn replacing(
    parent: BorrowedFd<'_>,
    name: &[u8],
    mut make: impl FnMut() -> Result<(), Errno>,
) -> Result<(), Errno> {
    match make() {
        Err(Errno::EXIST) => {
            unlinkat(parent, name, AtFlags::empty())?;
            make()
        }
        other => other,
    }
}

fn own(parent: BorrowedFd<'_>, name: &[u8], owner: Option<(Uid, Gid)>) -> Result<(), Errno> {
    let Some((uid, gid)) = owner else { return Ok(()) };
    chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// The directory of a path, empty at the root, and the last part.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    slash.map_or((b"", path), |at| (&path[..at], &path[at + 1..]))
}

fn times(mtime_s: u64) -> Timestamps {
    let at = Timespec { tv_sec: i64::try_from(mtime_s).unwrap_or(i64::MAX), tv_nsec: 0 };
    Timestamps { last_access: at, last_modification: at }
}

fn file_error(path: &[u8]) -> impl FnOnce(Errno) -> ExtractError {
    let path = shown(path);
    move |error| ExtractError::File { path, source: error.into() }
}
