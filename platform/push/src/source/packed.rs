//! Streams a large blob out of a pack file, which libgit2 does not do.
//!
//! Only blobs that a pack holds whole (git packs a new large file so); for a delta there is no
//! stream, and the answer is `None`. Formats: gitformat-pack, "pack-*.idx files have version 2".
//! The index and the pack were written by a tool that read hostile input: every number in them is
//! bounded by the file's length, and the stream by the size that the caller was told.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use flate2::bufread::ZlibDecoder;
use git2::Oid;

const MAGIC: [u8; 8] = [0xff, b't', b'O', b'c', 0, 0, 0, 2];
const FANOUT: u64 = 8;
const NAMES: u64 = FANOUT + 256 * 4;
/// Type of a whole blob in a pack entry's first byte.
const BLOB: u8 = 3;

/// The content of a blob of `bytes` bytes, if some pack of the repository holds it whole.
pub(super) fn open(
    repository: &Path,
    blob: Oid,
    bytes: u64,
) -> io::Result<Option<impl Read + use<>>> {
    for entry in fs::read_dir(repository.join("objects/pack"))? {
        let index = entry?.path();
        if index.extension().is_none_or(|extension| extension != "idx") {
            continue;
        }
        let Some(offset) = find(&File::open(&index)?, blob.as_bytes())? else { continue };
        let mut pack =
            BufReader::with_capacity(64 << 10, File::open(index.with_extension("pack"))?);
        pack.seek(SeekFrom::Start(offset))?;
        if header(&mut pack)? == (BLOB, bytes) {
            return Ok(Some(ZlibDecoder::new(pack)));
        }
        return Ok(None);
    }
    Ok(None)
}

/// Where the object begins in the pack of this index.
fn find(index: &File, id: &[u8]) -> io::Result<Option<u64>> {
    let mut magic = [0; 8];
    index.read_exact_at(&mut magic, 0)?;
    if magic != MAGIC {
        return Ok(None);
    }
    let first = id.first().copied().unwrap_or_default();
    let mut low = match first {
        0 => 0,
        _ => number(index, FANOUT + 4 * u64::from(first - 1))?,
    };
    let mut high = number(index, FANOUT + 4 * u64::from(first))?;
    let count = u64::from(number(index, FANOUT + 4 * 255)?);
    while low < high {
        let middle = low + (high - low) / 2;
        let mut name = [0; 20];
        index.read_exact_at(&mut name, NAMES + 20 * u64::from(middle))?;
        match name.as_slice().cmp(id) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => return offset(index, count, middle).map(Some),
        }
    }
    Ok(None)
}

/// The offset of the object at `position`: 31 bits, or a place in the table of 64-bit ones.
fn offset(index: &File, count: u64, position: u32) -> io::Result<u64> {
    let offsets = NAMES + 24 * count;
    let offset = number(index, offsets + 4 * u64::from(position))?;
    if offset & 0x8000_0000 == 0 {
        return Ok(u64::from(offset));
    }
    let mut bytes = [0; 8];
    let at = offsets + 4 * count + 8 * u64::from(offset & 0x7fff_ffff);
    index.read_exact_at(&mut bytes, at)?;
    Ok(u64::from_be_bytes(bytes))
}

fn number(index: &File, at: u64) -> io::Result<u32> {
    let mut bytes = [0; 4];
    index.read_exact_at(&mut bytes, at)?;
    Ok(u32::from_be_bytes(bytes))
}

/// Type and size of a pack entry: 3 and 4 bits, then 7 bits a byte while the first bit is set.
fn header(pack: &mut impl Read) -> io::Result<(u8, u64)> {
    let mut byte = [0];
    pack.read_exact(&mut byte)?;
    let kind = byte[0] >> 4 & 7;
    let mut size = u64::from(byte[0] & 15);
    let mut shift = 4;
    while byte[0] & 0x80 != 0 {
        pack.read_exact(&mut byte)?;
        if shift > 57 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a size in the pack is damaged",
            ));
        }
        size |= u64::from(byte[0] & 0x7f) << shift;
        shift += 7;
    }
    Ok((kind, size))
}
