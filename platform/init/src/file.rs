//! File calls in a build container, on behalf of a buildpack.
//!
//! Paths are resolved by the kernel beneath their start and through no symbolic link, because
//! what lies in the container was written by others. Whatever goes wrong is one line on standard
//! error and exit code 1.

mod remove;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use berth_blobs::extract::{Owners, extract};
use berth_blobs::tar::Caps;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat, openat2, symlinkat, unlinkat,
};
use rustix::io::Errno;

/// Does one file call; gives the exit code.
pub(crate) fn run(verb: &str, words: &[OsString]) -> i32 {
    let done = match (verb, words) {
        ("write", [path, mode]) => write(path, mode),
        ("symlink", [path, target]) => symlink(path, target),
        ("remove", [path]) => remove(path),
        ("extract", [folder]) => extract_into(folder),
        _ => {
            eprintln!("{}", crate::USAGE);
            return crate::EXIT_USAGE;
        }
    };
    match done {
        Ok(()) => 0,
        Err(message) => {
            eprintln!("berth-init: {message}");
            1
        }
    }
}

/// The directory that a path lies in, open, and its last part.
struct Place {
    parent: OwnedFd,
    name: OsString,
}

/// Standard input becomes the file, in place of a file or link that is there.
fn write(path: &OsStr, mode: &OsStr) -> Result<(), String> {
    let failed = failed("write", path);
    let mode = mode
        .to_str()
        .and_then(|text| u32::from_str_radix(text, 8).ok())
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("'{}' is not an octal mode of at most 777", mode.display()))?;
    let place = place(path, true).map_err(&failed)?;
    clear(&place).map_err(&failed)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&place.parent, &place.name, flags, Mode::from_raw_mode(0o600));
    let file = file.map_err(&failed)?;
    fchmod(&file, Mode::from_raw_mode(mode)).map_err(&failed)?;
    let copied = io::copy(&mut io::stdin().lock(), &mut File::from(file));
    copied.map(drop).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// A symbolic link, in place of a file or link that is there; its target is taken as it is.
fn symlink(path: &OsStr, target: &OsStr) -> Result<(), String> {
    let failed = failed("make the link", path);
    let place = place(path, true).map_err(&failed)?;
    clear(&place).map_err(&failed)?;
    symlinkat(target, &place.parent, &place.name).map_err(&failed)
}

/// Whatever is there, with all that is in it; nothing there is fine.
fn remove(path: &OsStr) -> Result<(), String> {
    let failed = failed("remove", path);
    match place(path, false) {
        Ok(place) => remove::all(place.parent.as_fd(), &place.name).map_err(&failed),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// Standard input is a tar whose entries are made in the directory, made if it is missing.
fn extract_into(folder: &OsStr) -> Result<(), String> {
    let failed = failed("open", folder);
    let place = place(folder, true).map_err(&failed)?;
    let directory = directory(&place.parent, &place.name).map_err(&failed)?;
    let input = BufReader::with_capacity(128 * 1024, io::stdin().lock());
    extract(input, &directory, Caps::LAYER, Owners::Mine).map(drop).map_err(|error| {
        let cause = std::error::Error::source(&error);
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("cannot extract into {}: {error}{cause}", folder.display())
    })
}

/// Opens the parent of a path; absolute paths start at the root, others at the working directory.
fn place(path: &OsStr, make: bool) -> Result<Place, Errno> {
    let bytes = path.as_bytes();
    let start = if bytes.starts_with(b"/") { OsStr::new("/") } else { OsStr::new(".") };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut parent = openat(CWD, start, flags, Mode::empty())?;
    let mut parts = bytes.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    if bytes.split(|byte| *byte == b'/').any(|part| part == b"..") {
        return Err(Errno::XDEV);
    }
    let mut name = parts.next().ok_or(Errno::INVAL)?;
    for next in parts {
        parent = match beneath(&parent, OsStr::from_bytes(name), flags) {
            Err(Errno::NOENT) if make => directory(&parent, OsStr::from_bytes(name))?,
            other => other?,
        };
        name = next;
    }
    Ok(Place { parent, name: OsStr::from_bytes(name).to_owned() })
}

/// Opens a directory, made if it is missing.
fn directory(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    beneath(parent, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)
}

fn beneath(parent: &OwnedFd, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(parent, name, flags, Mode::empty(), resolve)
}

/// Removes a file or link; a directory is refused by the kernel.
fn clear(place: &Place) -> Result<(), Errno> {
    match unlinkat(&place.parent, &place.name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

fn failed(action: &'static str, path: &OsStr) -> impl Fn(Errno) -> String {
    let path = path.to_owned();
    move |error| {
        let why = match error {
            Errno::LOOP => {
                "a part of the path is a symbolic link, which is not followed".to_owned()
            }
            Errno::XDEV => "'..' is not allowed in the path".to_owned(),
            Errno::ISDIR => "it is a directory".to_owned(),
            Errno::INVAL => "it is not the path of a file".to_owned(),
            other => io::Error::from(other).to_string(),
        };
        format!("cannot {action} {}: {why}", path.display())
    }
}
