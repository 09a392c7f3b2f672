//! The content store: one folder, one file per digest.
//!
//! Layout: `<dir>/sha256/<64 hex digits>` (as in an OCI image layout, mode 0400) and `<dir>/tmp/`
//! for what is being written. A blob appears by rename after its bytes are on disk, so a file that
//! exists is whole. One process writes a folder; its clones share the leases.

mod lease;

use std::collections::HashSet;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_model::Digest;
use tempfile::NamedTempFile;

use crate::Hashing;
pub use lease::Lease;
use lease::Leases;

/// A file in `tmp/` that nobody has written to for this long belongs to a process that died.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// Why a blob could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Whoever gives the bytes failed.
    #[error("cannot read the bytes to store")]
    Input(#[source] io::Error),
    /// More bytes than allowed.
    #[error("the content is larger than the {bytes_max} bytes allowed here")]
    TooLarge {
        /// The limit.
        bytes_max: u64,
    },
    /// The bytes are not the ones that were announced.
    #[error(
        "the content has digest {actual}, not {expected}: it was damaged or replaced on its way"
    )]
    Mismatch {
        /// What was announced.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// There is no such blob.
    #[error("no blob {0} in the store")]
    NotFound(Digest),
}

/// What a garbage collection did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blobs removed.
    pub removed: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Blobs kept.
    pub kept: u64,
}

/// A folder of blobs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BlobStore {
    folder: Arc<Path>,
    leases: Leases,
}

impl BlobStore {
    /// Opens the store in a folder, made if it is missing, and removes what a process that died
    /// left half-written.
    ///
    /// # Errors
    /// `Io` when the folder cannot be made or listed.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, BlobError> {
        let folder: PathBuf = folder.into();
        for part in ["sha256", "tmp"] {
            let path = folder.join(part);
            fs::create_dir_all(&path).map_err(failed("create", &path))?;
        }
        let store = Self { folder: folder.into(), leases: Leases::default() };
        store.sweep_older(ABANDONED_AFTER)?;
        Ok(store)
    }

    /// Removes everything that is half-written, however young. Only where nobody else writes: at the
    /// start of the one process that does.
    ///
    /// # Errors
    /// `Io` when the folder cannot be listed, or a file not removed.
    pub fn clear_unfinished(&self) -> Result<(), BlobError> {
        self.sweep_older(Duration::ZERO)
    }

    /// Stores what `reader` gives and says its digest and length in bytes.
    ///
    /// # Errors
    /// `TooLarge` beyond `bytes_max`, `Input` when reading fails, `Io`.
    pub fn put(&self, reader: impl Read, bytes_max: u64) -> Result<(Digest, u64), BlobError> {
        let mut writer = self.writer(bytes_max)?;
        writer.fill(reader)?;
        writer.finish()
    }

    /// Stores what `reader` gives if it has the digest `expected`; nothing is kept otherwise.
    ///
    /// # Errors
    /// As [`Self::put`], and `Mismatch`.
    pub fn put_expected(
        &self,
        reader: impl Read,
        expected: Digest,
        bytes_max: u64,
    ) -> Result<u64, BlobError> {
        let mut writer = self.writer(bytes_max)?;
        writer.fill(reader)?;
        writer.finish_expected(expected)
    }

    /// A blob that is written piece by piece and exists after [`BlobWriter::finish`].
    ///
    /// # Errors
    /// `Io`.
    pub fn writer(&self, bytes_max: u64) -> Result<BlobWriter, BlobError> {
        let folder = self.folder.join("tmp");
        let file = NamedTempFile::new_in(&folder).map_err(failed("create a file in", &folder))?;
        Ok(BlobWriter { store: self.clone(), file: Hashing::new(file), bytes_max })
    }

    /// The blob, open for reading.
    ///
    /// # Errors
    /// `NotFound`, `Io`.
    pub fn get(&self, digest: &Digest) -> Result<File, BlobError> {
        let path = self.path(digest);
        File::open(&path).map_err(|e| missing(*digest, "open", &path, e))
    }

    /// The whole blob, if it has at most `bytes_max` bytes.
    ///
    /// # Errors
    /// `NotFound`, `TooLarge`, `Io`.
    pub fn read(&self, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>, BlobError> {
        let file = self.get(digest)?;
        let mut bytes = Vec::new();
        file.take(bytes_max.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(failed("read", &self.path(digest)))?;
        if bytes.len() as u64 > bytes_max {
            return Err(BlobError::TooLarge { bytes_max });
        }
        Ok(bytes)
    }

    /// Length of a blob in bytes.
    ///
    /// # Errors
    /// `NotFound`, `Io`.
    pub fn len(&self, digest: &Digest) -> Result<u64, BlobError> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(e) => Err(missing(*digest, "look at", &path, e)),
        }
    }

    /// Whether the blob is there. Take a [`Self::lease`] first if it must stay.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// Removes a blob, lease or not; `false` if it was not there.
    ///
    /// # Errors
    /// `Io`.
    pub fn remove(&self, digest: &Digest) -> Result<bool, BlobError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(failed("remove", &path)(e)),
        }
    }

    /// Every blob and its length in bytes, in no particular order.
    ///
    /// # Errors
    /// `Io`.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>, BlobError> {
        let found = self.entries()?;
        Ok(found.into_iter().map(|(digest, metadata)| (digest, metadata.len())).collect())
    }

    /// Protects blobs, there or still to come, from [`Self::gc`] until the lease is dropped.
    pub fn lease(&self, digests: impl IntoIterator<Item = Digest>) -> Lease {
        self.leases.take(digests)
    }

    /// Removes the blobs that are not in `live`, not leased, and not put within the last `grace`
    /// (between a `put` and the row that names the blob there is nothing else to see).
    ///
    /// # Errors
    /// `Io`; what was removed until then stays removed.
    pub fn gc(&self, live: &HashSet<Digest>, grace: Duration) -> Result<Swept, BlobError> {
        self.sweep_older(ABANDONED_AFTER)?;
        let now = SystemTime::now();
        let mut swept = Swept::default();
        for (digest, metadata) in self.entries()? {
            let stale = age(&metadata, now) >= grace && !live.contains(&digest);
            let remove = || self.remove_old(&digest, grace);
            if stale && self.leases.unless_leased(&digest, remove).transpose()? == Some(true) {
                swept.removed += 1;
                swept.removed_bytes += metadata.len();
            } else {
                swept.kept += 1;
            }
        }
        Ok(swept)
    }

    /// Removes a blob that has not become young again since it was listed.
    fn remove_old(&self, digest: &Digest, grace: Duration) -> Result<bool, BlobError> {
        let now = SystemTime::now();
        match fs::metadata(self.path(digest)) {
            Ok(metadata) if age(&metadata, now) >= grace => self.remove(digest),
            _ => Ok(false),
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("sha256").join(digest.hex())
    }

    fn entries(&self) -> Result<Vec<(Digest, fs::Metadata)>, BlobError> {
        let folder = self.folder.join("sha256");
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed("list", &folder))? {
            let entry = entry.map_err(failed("list", &folder))?;
            let name = entry.file_name();
            // A file of another name is not ours; it is left alone.
            let Ok(digest) = format!("sha256:{}", name.to_string_lossy()).parse() else {
                continue;
            };
            match entry.metadata() {
                Ok(metadata) => found.push((digest, metadata)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(failed("look at", &entry.path())(e)),
            }
        }
        Ok(found)
    }

    fn sweep_older(&self, than: Duration) -> Result<(), BlobError> {
        let folder = self.folder.join("tmp");
        let now = SystemTime::now();
        for entry in fs::read_dir(&folder).map_err(failed("list", &folder))? {
            let entry = entry.map_err(failed("list", &folder))?;
            let Ok(metadata) = entry.metadata() else { continue };
            if age(&metadata, now) >= than {
                let path = entry.path();
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Moves a finished file to its place. Bytes that are there already only become young again.
    fn keep(&self, file: NamedTempFile, digest: Digest, bytes: u64) -> Result<(), BlobError> {
        let path = self.path(&digest);
        // The lock that gc removes under: a blob found here cannot vanish before it is young.
        let _lease = self.lease([digest]);
        if self.len(&digest).is_ok_and(|there| there == bytes) {
            let now = FileTimes::new().set_modified(SystemTime::now());
            let there = File::open(&path).map_err(failed("open", &path))?;
            return there.set_times(now).map_err(failed("touch", &path));
        }
        let written = file.as_file();
        written
            .set_permissions(Permissions::from_mode(0o400))
            .and_then(|()| written.sync_all())
            .map_err(failed("write", &path))?;
        file.persist(&path).map_err(|e| failed("rename a file to", &path)(e.error))?;
        let folder = self.folder.join("sha256");
        File::open(&folder).and_then(|f| f.sync_all()).map_err(failed("sync", &folder))
    }
}

/// A blob that is being written. Dropping it leaves nothing.
pub struct BlobWriter {
    store: BlobStore,
    file: Hashing<NamedTempFile>,
    bytes_max: u64,
}

impl BlobWriter {
    /// Makes the blob exist and says its digest and length in bytes.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish(self) -> Result<(Digest, u64), BlobError> {
        let (file, digest, bytes) = self.file.finish();
        self.store.keep(file, digest, bytes)?;
        Ok((digest, bytes))
    }

    /// Makes the blob exist if it has the digest `expected`, and says its length in bytes.
    ///
    /// # Errors
    /// `Mismatch`, `Io`.
    pub fn finish_expected(self, expected: Digest) -> Result<u64, BlobError> {
        let (file, actual, bytes) = self.file.finish();
        if actual != expected {
            return Err(BlobError::Mismatch { expected, actual });
        }
        self.store.keep(file, actual, bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, mut reader: impl Read) -> Result<(), BlobError> {
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(BlobError::Input(e)),
            };
            if self.file.passed_bytes() + count as u64 > self.bytes_max {
                return Err(BlobError::TooLarge { bytes_max: self.bytes_max });
            }
            let folder = self.store.folder.join("tmp");
            self.file.write_all(&buffer[..count]).map_err(failed("write to", &folder))?;
        }
    }
}

impl Write for BlobWriter {
    /// Beyond the limit the error is of kind `FileTooLarge` and holds [`BlobError::TooLarge`].
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.file.passed_bytes() + buffer.len() as u64 > self.bytes_max {
            let error = BlobError::TooLarge { bytes_max: self.bytes_max };
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, error));
        }
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn age(metadata: &fs::Metadata, now: SystemTime) -> Duration {
    // A time in the future (a clock that was set back) counts as now: keep.
    metadata.modified().ok().and_then(|at| now.duration_since(at).ok()).unwrap_or_default()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    let path = path.to_owned();
    move |source| BlobError::Io { action, path, source }
}

fn missing(digest: Digest, action: &'static str, path: &Path, error: io::Error) -> BlobError {
    if error.kind() == io::ErrorKind::NotFound {
        BlobError::NotFound(digest)
    } else {
        failed(action, path)(error)
    }
}
