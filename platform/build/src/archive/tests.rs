//! The index against archives of its own making.

use berth_blobs::tar::{Attributes, Rules, Tree};

use super::*;

fn archive(files: &[(&str, &str)], links: &[(&str, &str)]) -> (tempfile::TempDir, Archive) {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobStore::open(folder.path()).unwrap();
    let mut tree = Tree::new();
    for (path, text) in files {
        let attributes =
            if path.ends_with(".sh") { Attributes::EXECUTABLE } else { Attributes::PLAIN };
        tree.file(path.as_bytes(), attributes, text.len() as u64, text.as_bytes().to_vec())
            .unwrap();
    }
    for (path, target) in links {
        tree.symlink(path.as_bytes(), target.as_bytes(), Attributes::PLAIN).unwrap();
    }
    let (bytes, _) =
        tree.write(Vec::new(), Rules::App, |content| Ok(io::Cursor::new(content))).unwrap();
    let (digest, _) = blobs.put(bytes.as_slice(), 1 << 20).unwrap();
    let archive = Archive::open(&blobs, &digest).unwrap();
    (folder, archive)
}

fn strings(patterns: &[&str]) -> Vec<String> {
    patterns.iter().map(|&pattern| pattern.to_owned()).collect()
}

#[test]
fn kinds_and_contents_come_from_the_index() {
    let (_folder, archive) = archive(
        &[("a.txt", "one"), ("sub/run.sh", "two"), ("long/name.txt", &"x".repeat(9000))],
        &[],
    );
    assert_eq!(archive.kind("a.txt"), "file");
    assert_eq!(archive.kind("./sub/run.sh"), "executable");
    assert_eq!(archive.kind("sub"), "directory");
    assert_eq!(archive.kind("."), "directory");
    assert_eq!(archive.kind("../a.txt"), "missing");
    assert_eq!(archive.read("sub/run.sh", 10).unwrap(), b"two");
    assert_eq!(archive.read("long/name.txt", 9000).unwrap(), "x".repeat(9000).into_bytes());
    assert!(matches!(
        archive.read("long/name.txt", 8999),
        Err(ArchiveError::TooLarge { bytes: 9000, .. })
    ));
}

#[test]
fn links_are_followed_inside_the_tree_and_never_out_of_it() {
    let links = [
        ("in", "sub/../a.txt"),
        ("sub/up", "../a.txt"),
        ("out", "../../etc/passwd"),
        ("root", "/etc/passwd"),
        ("loop", "loop"),
    ];
    let (_folder, archive) = archive(&[("a.txt", "one"), ("sub/b", "")], &links);
    assert_eq!(archive.read("in", 10).unwrap(), b"one");
    assert_eq!(archive.read("sub/up", 10).unwrap(), b"one");
    for path in ["out", "root", "loop", "missing", "sub"] {
        assert!(matches!(archive.read(path, 10), Err(ArchiveError::NotAFile(_))), "{path}");
    }
}

#[test]
fn a_star_stays_in_its_directory_and_two_do_not() {
    let (_folder, archive) =
        archive(&[("a.py", ""), ("p/b.py", ""), ("p/q/c.py", ""), ("p/d.txt", "")], &[]);
    assert_eq!(archive.glob(&strings(&["*.py"])).unwrap(), ["a.py"]);
    assert_eq!(archive.glob(&strings(&["**/*.py"])).unwrap(), ["a.py", "p/b.py", "p/q/c.py"]);
    assert_eq!(archive.glob(&strings(&["p/**"])).unwrap(), ["p/b.py", "p/d.txt", "p/q/c.py"]);
    assert_eq!(archive.glob(&strings(&["p/d.txt", "a.py", "none"])).unwrap(), ["a.py", "p/d.txt"]);
    assert!(archive.glob(&strings(&["{"])).is_err());
}

#[test]
fn a_digest_changes_with_path_mode_and_content() {
    let all = strings(&["**"]);
    let digest = |files: &[(&str, &str)], links: &[(&str, &str)]| {
        archive(files, links).1.digest(&all).unwrap()
    };
    let base = digest(&[("a", "1")], &[]);
    assert_eq!(base, digest(&[("a", "1")], &[]));
    for other in [
        digest(&[("a", "2")], &[]),
        digest(&[("b", "1")], &[]),
        digest(&[("a.sh", "1")], &[]),
        digest(&[("a", "1"), ("b", "")], &[]),
        digest(&[], &[("a", "1")]),
    ] {
        assert_ne!(base, other);
    }
}
