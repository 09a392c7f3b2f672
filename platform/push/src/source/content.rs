//! The bytes of a blob, without holding a large one in memory where that can be avoided.

use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use git2::{Odb, OdbObject, Oid};

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
    let turn = LARGE_DELTA.lock().unwrap_or_else(PoisonError::into_inner);
    let object = odb.read(blob).map_err(|e| io::Error::other(e.message().to_owned()))?;
    Ok(Box::new(Held { object, at: 0, _turn: turn }))
}

/// A large blob in memory, until it is read.
struct Held<'a> {
    object: OdbObject<'a>,
    at: usize,
    _turn: MutexGuard<'static, ()>,
}

impl Read for Held<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.object.data().get(self.at..).unwrap_or_default().read(buffer)?;
        self.at += count;
        Ok(count)
    }
}

/// The whole blob.
pub(super) fn whole(odb: &Odb<'_>, blob: Oid) -> io::Result<Vec<u8>> {
    let object = odb.read(blob).map_err(|e| io::Error::other(e.message().to_owned()))?;
    Ok(object.data().to_vec())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn git(folder: &Path, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.current_dir(folder).args(["-c", "user.name=a", "-c", "user.email=a@example.org"]);
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Bytes that do not compress, from a linear congruential generator.
    fn noise(count: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn a_large_blob_reads_the_same_loose_packed_and_as_a_delta() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        git(path, &["init", "--quiet", "--bare", "."]);
        let mut content = noise(WHOLE_BYTES_MAX as usize + 5);
        let mut blobs = Vec::new();
        for name in ["one", "two"] {
            content[1000] ^= 1;
            let file = path.join(name);
            std::fs::write(&file, &content).unwrap();
            let id = git(path, &["hash-object", "-w", file.to_str().unwrap()]);
            blobs.push((Oid::from_str(&id).unwrap(), content.clone()));
        }
        let check = |packed_whole: usize| {
            let repository = git2::Repository::open_bare(path).unwrap();
            let odb = repository.odb().unwrap();
            let mut whole = 0;
            for (id, content) in &blobs {
                let bytes = content.len() as u64;
                let mut read = Vec::new();
                open(&odb, path, *id, bytes).unwrap().read_to_end(&mut read).unwrap();
                assert_eq!(&read, content);
                whole += usize::from(packed::open(path, *id, bytes).unwrap().is_some());
            }
            assert_eq!(whole, packed_whole);
        };
        check(0);
        let ids = blobs.iter().map(|(id, _)| format!("{id} file")).collect::<Vec<_>>().join("\n");
        std::fs::write(path.join("ids"), ids).unwrap();
        let pack = "git pack-objects -q objects/pack/pack < ids >names && git prune-packed";
        let packed = Command::new("sh").current_dir(path).args(["-c", pack]).status().unwrap();
        assert!(packed.success());
        check(1);
    }

    #[test]
    fn a_damaged_pack_is_an_error_and_not_other_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        git(path, &["init", "--quiet", "--bare", "."]);
        let content = noise(WHOLE_BYTES_MAX as usize + 5);
        let file = path.join("file");
        std::fs::write(&file, &content).unwrap();
        let id = git(path, &["hash-object", "-w", file.to_str().unwrap()]);
        std::fs::write(path.join("ids"), format!("{id} file")).unwrap();
        let pack = "git pack-objects -q objects/pack/pack < ids >names && git prune-packed";
        let packed = Command::new("sh").current_dir(path).args(["-c", pack]).status().unwrap();
        assert!(packed.success());
        let pack = std::fs::read_dir(path.join("objects/pack"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|e| e == "pack"))
            .unwrap();
        let mut bytes = std::fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        std::fs::remove_file(&pack).unwrap();
        std::fs::write(&pack, bytes).unwrap();

        let blob = Oid::from_str(&id).unwrap();
        let mut read = Vec::new();
        let mut stream = packed::open(path, blob, content.len() as u64).unwrap().unwrap();
        assert!(stream.read_to_end(&mut read).is_err());
    }
}
