//! Extraction into real directories, of archives that would like to be elsewhere.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};

use berth_blobs::extract::{ExtractError, Extracted, Owners, extract};
use berth_blobs::tar::{Attributes, Caps, MTIME_S, Rules, Writer};

struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        fs::write(folder.path().join("outside/secret"), "secret").unwrap();
        Self { folder }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join(path)
    }

    fn extract(&self, bytes: &[u8]) -> Result<Extracted, ExtractError> {
        let directory = File::open(self.path("in")).unwrap();
        extract(bytes, &directory, Caps::SOURCE, Owners::Mine)
    }

    fn outside_is_untouched(&self) {
        assert_eq!(fs::read_to_string(self.path("outside/secret")).unwrap(), "secret");
        assert_eq!(fs::read_dir(self.path("outside")).unwrap().count(), 1);
    }
}

fn foreign(entries: &[(&str, tar::EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, link, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o6755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn a_tree_comes_out_as_it_was_written() {
    let fixture = Fixture::new();
    let mut writer = Writer::new(Vec::new(), Rules::App);
    writer.symlink(b"a/link", b"../b/run", Attributes::PLAIN).unwrap();
    writer.file(b"b/deep/er/file", Attributes::PLAIN, 2, &b"hi"[..]).unwrap();
    writer.file(b"b/run", Attributes::EXECUTABLE, 0, &b""[..]).unwrap();
    let bytes = writer.finish().unwrap().0;
    let extracted = fixture.extract(&bytes).unwrap();
    assert_eq!(extracted, Extracted { entries: 7, bytes: 2 });
    assert_eq!(fs::read_to_string(fixture.path("in/b/deep/er/file")).unwrap(), "hi");
    assert_eq!(fs::read_link(fixture.path("in/a/link")).unwrap().to_str(), Some("../b/run"));
    for (path, mode) in [("in/b", 0o755), ("in/b/run", 0o755), ("in/b/deep/er/file", 0o644)] {
        let metadata = fs::metadata(fixture.path(path)).unwrap();
        assert_eq!(metadata.mode() & 0o7777, mode, "{path}");
        assert_eq!(metadata.mtime() as u64, MTIME_S, "{path}");
    }
}

#[test]
fn setuid_bits_are_dropped_and_times_kept() {
    let fixture = Fixture::new();
    fixture.extract(&foreign(&[("su", tar::EntryType::Regular, "", "x")])).unwrap();
    let metadata = fs::metadata(fixture.path("in/su")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o755, 1_000_000_000));
}

#[test]
fn no_entry_goes_through_a_symbolic_link() {
    use tar::EntryType as T;
    for entries in [
        vec![("l", T::Symlink, "../outside", ""), ("l/new", T::Regular, "", "x")],
        vec![("l", T::Symlink, "../outside", ""), ("l/secret", T::Regular, "", "x")],
        vec![("l", T::Symlink, "../outside", ""), ("l/new", T::Directory, "", "")],
        vec![("l", T::Symlink, "../outside", ""), ("l", T::Directory, "", "")],
        vec![("l", T::Symlink, "../outside", ""), ("h", T::Link, "l/secret", "")],
        vec![("a/l", T::Symlink, "../../outside", ""), ("a/l/b/c", T::Regular, "", "x")],
    ] {
        let fixture = Fixture::new();
        let error = fixture.extract(&foreign(&entries)).unwrap_err();
        assert!(matches!(error, ExtractError::File { .. }), "{entries:?}: {error}");
        fixture.outside_is_untouched();
    }
}

#[test]
fn a_link_in_the_place_of_a_file_is_replaced_not_followed() {
    let fixture = Fixture::new();
    symlink(fixture.path("outside/secret"), fixture.path("in/f")).unwrap();
    fixture.extract(&foreign(&[("f", tar::EntryType::Regular, "", "mine")])).unwrap();
    assert_eq!(fs::read_to_string(fixture.path("in/f")).unwrap(), "mine");
    assert!(!fs::symlink_metadata(fixture.path("in/f")).unwrap().is_symlink());
    fixture.outside_is_untouched();
}

#[test]
fn a_hard_link_to_a_symbolic_link_is_not_followed() {
    use tar::EntryType as T;
    let fixture = Fixture::new();
    let entries = [("l", T::Symlink, "../outside/secret", ""), ("h", T::Link, "l", "")];
    fixture.extract(&foreign(&entries)).unwrap();
    assert!(fs::symlink_metadata(fixture.path("in/h")).unwrap().is_symlink());
    fixture.outside_is_untouched();
}

#[test]
fn hard_links_share_one_file() {
    use tar::EntryType as T;
    let fixture = Fixture::new();
    let entries = [("d/f", T::Regular, "", "x"), ("d/g", T::Link, "d/f", "")];
    fixture.extract(&foreign(&entries)).unwrap();
    let inode = |path| fs::metadata(fixture.path(path)).unwrap().ino();
    assert_eq!(inode("in/d/f"), inode("in/d/g"));
}

#[test]
fn whiteouts_are_refused_by_name() {
    for name in [".wh.gone", "a/.wh..wh..opq", ".wh.a/b"] {
        let fixture = Fixture::new();
        let error =
            fixture.extract(&foreign(&[(name, tar::EntryType::Regular, "", "")])).unwrap_err();
        assert_eq!(error.to_string(), format!("'{name}' is a whiteout, which is refused"));
    }
}

#[test]
fn a_file_does_not_replace_a_directory() {
    use tar::EntryType as T;
    let fixture = Fixture::new();
    let entries = [("d/f", T::Regular, "", "x"), ("d", T::Regular, "", "y")];
    assert!(matches!(fixture.extract(&foreign(&entries)), Err(ExtractError::File { .. })));
    assert!(fixture.path("in/d/f").exists());
}
