//! The bytes of a blob, without holding a large one in memory where that can be avoided.

use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use git2::{Odb, Oid};

use super::packed;

/// Blobs up to this size are read at once.
const WHOLE_BYTES_MAX: u64 = 4 << 20;

/// libgit2 reads a blob that is packed as a delta only as a whole, its base beside it. One at a
/// time: this many bytes may be 512 MB.
static LARGE_DELTA: Mutex<()> = Mutex::new(());

/// Reads a blob of `bytes` bytes in the repository at `repository`.
pub(super) fn open<'a>(
    odb: &'a Odb<'_>,
    repository: &Path,
    blob: Oid,
    bytes: u64,
) -> io::Result<Box<dyn Read + 'a>> {
    if bytes <= WHOLE_BYTES_MAX {
        return Ok(Box::new(Cursor::new(whole(odb, blob)?)));
    }
    if let Some(stream) = packed::open(repository, blob, bytes)? {
        return Ok(Box::new(stream));
    }
    // Loose objects are the only ones that libgit2 streams.
    if let Ok((stream, ..)) = odb.reader(blob) {
        return Ok(Box::new(stream));
    }
    let _one_at_a_time = LARGE_DELTA.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Box::new(Cursor::new(whole(odb, blob)?)))
}

/// The whole blob.
pub(super) fn whole(odb: &Odb<'_>, blob: Oid) -> io::Result<Vec<u8>> {
    odb.read(blob).map(|object| object.data().to_vec()).map_err(|e| io::Error::other(e.message().to_owned()))
}
