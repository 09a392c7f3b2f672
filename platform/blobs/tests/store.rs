//! The store on a real folder.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use berth_blobs::{BlobError, BlobStore};
use berth_model::Digest;

const MAX: u64 = 1 << 20;
const HELLO: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

fn store() -> (tempfile::TempDir, BlobStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = BlobStore::open(folder.path()).unwrap();
    (folder, store)
}

fn files(folder: &tempfile::TempDir, part: &str) -> usize {
    fs::read_dir(folder.path().join(part)).unwrap().count()
}

#[test]
fn what_is_put_is_read_back_by_its_sha256() {
    let (folder, store) = store();
    let (digest, bytes) = store.put(&b"hello"[..], MAX).unwrap();
    assert_eq!((digest.to_string().as_str(), bytes), (HELLO, 5));
    assert!(store.contains(&digest));
    assert_eq!(store.len(&digest).unwrap(), 5);
    assert_eq!(store.read(&digest, 5).unwrap(), b"hello");
    let mut text = String::new();
    store.get(&digest).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    assert_eq!(store.list().unwrap(), [(digest, 5)]);
    let mode = fs::metadata(folder.path().join("sha256").join(digest.hex())).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o400);
}

#[test]
fn the_same_bytes_twice_are_one_file() {
    let (folder, store) = store();
    let first = store.put(&b"hello"[..], MAX).unwrap();
    assert_eq!(store.put(&b"hello"[..], MAX).unwrap(), first);
    assert_eq!((files(&folder, "sha256"), files(&folder, "tmp")), (1, 0));
}

#[test]
fn bytes_beyond_the_limit_or_of_another_digest_leave_nothing() {
    let (folder, store) = store();
    assert!(matches!(store.put(&b"hello"[..], 4), Err(BlobError::TooLarge { bytes_max: 4 })));
    let mut writer = store.writer(4).unwrap();
    let error = writer.write_all(b"hello").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge);
    drop(writer);
    let other = Digest::from_sha256([7; 32]);
    assert!(matches!(
        store.put_expected(&b"hello"[..], other, MAX),
        Err(BlobError::Mismatch { expected, actual })
            if expected == other && actual.to_string() == HELLO
    ));
    assert_eq!((files(&folder, "sha256"), files(&folder, "tmp")), (0, 0));
    assert_eq!(store.put_expected(&b"hello"[..], HELLO.parse().unwrap(), MAX).unwrap(), 5);
}

#[test]
fn a_reader_that_fails_leaves_nothing() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the client went away"))
        }
    }
    let (folder, store) = store();
    let error = store.put((&b"hel"[..]).chain(Broken), MAX).unwrap_err();
    assert!(matches!(error, BlobError::Input(_)));
    assert_eq!((files(&folder, "sha256"), files(&folder, "tmp")), (0, 0));
}

#[test]
fn an_absent_blob_is_named_by_the_error() {
    let (_folder, store) = store();
    let digest = Digest::from_sha256([7; 32]);
    assert!(matches!(store.get(&digest), Err(BlobError::NotFound(d)) if d == digest));
    assert!(matches!(store.len(&digest), Err(BlobError::NotFound(_))));
    assert!(!store.remove(&digest).unwrap());
}

#[test]
fn collection_keeps_what_is_live_leased_or_young() {
    let (_folder, store) = store();
    let put = |text: &str| store.put(text.as_bytes(), MAX).unwrap().0;
    let (live, leased, stale) = (put("live"), put("leased"), put("stale"));
    let lease = store.lease([leased]);
    let named = HashSet::from([live]);

    let swept = store.gc(&named, Duration::from_secs(3600)).unwrap();
    assert_eq!((swept.removed, swept.kept), (0, 3), "all are young");

    let swept = store.gc(&named, Duration::ZERO).unwrap();
    assert_eq!((swept.removed, swept.removed_bytes, swept.kept), (1, 5, 2));
    assert!(!store.contains(&stale) && store.contains(&live) && store.contains(&leased));

    drop(lease);
    assert_eq!(store.gc(&named, Duration::ZERO).unwrap().removed, 1);
    assert!(!store.contains(&leased) && store.contains(&live));
}

#[test]
fn putting_an_old_blob_again_makes_it_young() {
    let (folder, store) = store();
    let (digest, _) = store.put(&b"hello"[..], MAX).unwrap();
    let path = folder.path().join("sha256").join(digest.hex());
    let hour = Duration::from_secs(3600);
    let old = fs::FileTimes::new().set_modified(std::time::SystemTime::now() - 2 * hour);
    fs::File::open(&path).unwrap().set_times(old).unwrap();
    store.put(&b"hello"[..], MAX).unwrap();
    assert_eq!(store.gc(&HashSet::new(), hour).unwrap().removed, 0);
}

#[test]
fn opening_removes_what_a_dead_process_left_and_nothing_foreign() {
    let (folder, store) = store();
    let hour = Duration::from_secs(3600);
    for (name, age) in [("tmp/dead", 2 * hour), ("tmp/alive", Duration::ZERO)] {
        let file = fs::File::create(folder.path().join(name)).unwrap();
        let at = std::time::SystemTime::now() - age;
        file.set_times(fs::FileTimes::new().set_modified(at)).unwrap();
    }
    fs::write(folder.path().join("sha256/readme"), "not a blob").unwrap();
    drop(store);
    let store = BlobStore::open(folder.path()).unwrap();
    assert!(!folder.path().join("tmp/dead").exists());
    assert!(folder.path().join("tmp/alive").exists());
    assert_eq!(store.list().unwrap(), []);
    store.gc(&HashSet::new(), Duration::ZERO).unwrap();
    assert!(folder.path().join("sha256/readme").exists());
}
