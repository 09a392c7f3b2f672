//! Stacks that were made on this machine, for every data folder of it.
//!
//! The bytes are what the sealed child wrote; they are copied, never interpreted. A file is named
//! after its packages, written beside its place and renamed, so that one that is there is whole.
//! Whoever makes a stack holds a lock, so that another platform waits for it instead of making it
//! a second time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use berth_container::FailureCode;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use super::packages;
use crate::failure::{Because, Failure};

const FOLDER: &str = "/var/lib/berth-machine/stacks";
/// Raised when stacks are made in another way.
const VERSION: u8 = 1;
const BUFFER_BYTES: usize = 256 * 1024;

/// The place of one stack, locked.
pub(super) struct Place {
    path: PathBuf,
    _lock: File,
}

impl Place {
    /// Waits until nobody makes this stack.
    pub(super) fn lock(packages: &[String]) -> Result<Self, Failure> {
        let folder = Path::new(FOLDER);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .because(|| format!("making {FOLDER}"))?;
        let path = folder.join(name(packages));
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.with_extension("lock"))
            .because(|| format!("opening the lock of {}", path.display()))?;
        flock(&lock, FlockOperation::LockExclusive).because(|| "waiting for a stack")?;
        Ok(Self { path, _lock: lock })
    }

    /// Copies the stack to `archive`, if there is one.
    pub(super) fn give(&self, archive: OwnedFd) -> Result<(), Failure> {
        let mut kept = match File::open(&self.path) {
            Ok(kept) => kept,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let message = "this stack was not made on this machine yet";
                return Err(Failure::new(FailureCode::NotFound, message));
            }
            Err(error) => return Err(error).because(|| format!("opening {}", self.path.display())),
        };
        io::copy(&mut kept, &mut File::from(archive)).because(|| "handing a stack over").map(drop)
    }

    /// A descriptor whose bytes go to `archive` and into the place.
    pub(super) fn tee(self, archive: OwnedFd) -> Result<(OwnedFd, Tee), Failure> {
        let (bytes, end) = io::pipe().because(|| "making a pipe")?;
        let beside = self.path.with_extension("new");
        let kept = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&beside)
            .because(|| format!("making {}", beside.display()))?;
        let copy = std::thread::Builder::new()
            .name("tee".into())
            .spawn(move || copy(bytes, File::from(archive), kept))
            .because(|| "starting a thread")?;
        Ok((end.into(), Tee { place: self, beside, copy: Some(copy) }))
    }
}

/// A copy that is being made; dropped unfinished, nothing of it is kept.
pub(super) struct Tee {
    place: Place,
    beside: PathBuf,
    copy: Option<JoinHandle<io::Result<()>>>,
}

impl Tee {
    /// The child has ended well: what it wrote is kept.
    pub(super) fn keep(mut self) -> Result<(), Failure> {
        let copied = self.copy.take().map(JoinHandle::join);
        match copied {
            Some(Ok(copied)) => copied.because(|| "handing a stack over")?,
            _ => return Err(Failure::machine("the copy of a stack was lost")),
        }
        fs::rename(&self.beside, &self.place.path).because(|| "keeping a stack")
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        // The child is gone, so the copy meets the end of its input.
        if let Some(copy) = self.copy.take() {
            let _ = copy.join();
        }
        let _ = fs::remove_file(&self.beside);
    }
}

fn copy(mut from: io::PipeReader, mut archive: File, mut kept: File) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return kept.sync_all();
        }
        archive.write_all(&buffer[..count])?;
        kept.write_all(&buffer[..count])?;
    }
}

/// Which packages, from which release, made how.
fn name(packages: &[String]) -> String {
    let mut sum = Sha256::new();
    sum.update([VERSION]);
    sum.update(packages::RELEASE);
    for package in packages {
        sum.update([0]);
        sum.update(package);
    }
    format!("{}.tar", hex::encode(&sum.finalize()[..12]))
}
