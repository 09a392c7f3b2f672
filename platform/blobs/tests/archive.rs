//! The canonical writer and the checked reader, against each other and against the `tar` crate.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::Read;

use berth_blobs::tar::{Attributes, Caps, Kind, MTIME_S, Reader, Rules, TarError, Tree, Writer};
use proptest::prelude::*;

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Directory,
    File(bool, Vec<u8>),
    Symlink(Vec<u8>),
}

fn archive(tree: &[(Vec<u8>, Node)]) -> Result<Vec<u8>, TarError> {
    let mut collected = Tree::new();
    for (path, node) in tree {
        match node {
            Node::Directory => collected.directory(path, Attributes::EXECUTABLE)?,
            Node::File(executable, content) => {
                let attributes =
                    if *executable { Attributes::EXECUTABLE } else { Attributes::PLAIN };
                collected.file(path, attributes, content.len() as u64, content.as_slice())?;
            }
            Node::Symlink(target) => collected.symlink(path, target, Attributes::PLAIN)?,
        }
    }
    Ok(collected.write(Vec::new(), Rules::App, Ok)?.0)
}

fn entries(bytes: &[u8]) -> Result<Vec<(Vec<u8>, Node)>, TarError> {
    let mut reader = Reader::new(bytes, Caps::SOURCE);
    let mut found = Vec::new();
    while let Some(mut entry) = reader.next()? {
        let node = match entry.kind.clone() {
            Kind::Directory => Node::Directory,
            Kind::Symlink { target } => Node::Symlink(target),
            Kind::HardLink { .. } => unreachable!("the writer copies"),
            Kind::File { size } => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                assert_eq!(content.len() as u64, size);
                Node::File(entry.is_executable(), content)
            }
        };
        found.push((entry.path.clone(), node));
    }
    reader.finish()?;
    Ok(found)
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => "[a-c.-]{1,3}".prop_filter("dots", |p| p != "." && p != ".."),
        1 => "[a-z]{90,120}",
        1 => "[^\\x00-\\x1f/]{1,20}".prop_filter("dots", |p| p != "." && p != ".." && !p.starts_with(".wh.")),
    ];
    prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/").into_bytes())
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        Just(Node::Directory),
        (any::<bool>(), prop::collection::vec(any::<u8>(), 0..1200))
            .prop_map(|(x, c)| Node::File(x, c)),
        prop_oneof!["[a-z./]{1,20}", "[a-z]{100,300}"].prop_map(|t| Node::Symlink(t.into_bytes())),
    ]
}

/// A tree without a file that is also a directory.
fn tree() -> impl Strategy<Value = BTreeMap<Vec<u8>, Node>> {
    prop::collection::btree_map(name(), node(), 0..12).prop_map(|mut tree| {
        let paths: Vec<Vec<u8>> = tree.keys().cloned().collect();
        for path in &paths {
            for (at, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
                if tree.contains_key(&path[..at]) {
                    tree.insert(path[..at].to_vec(), Node::Directory);
                }
            }
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_in_any_order_gives_the_same_bytes(
        (tree, shuffled) in tree().prop_flat_map(|tree| {
            let list: Vec<_> = tree.into_iter().collect();
            (Just(list.clone()), Just(list).prop_shuffle())
        })
    ) {
        prop_assert_eq!(archive(&tree).unwrap(), archive(&shuffled).unwrap());
    }

    #[test]
    fn a_written_tree_reads_back_with_every_parent(tree in tree()) {
        let list: Vec<_> = tree.clone().into_iter().collect();
        let bytes = archive(&list).unwrap();
        prop_assert_eq!(bytes.len() % 512, 0);
        let mut expected = tree.clone();
        for path in tree.keys() {
            for (at, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
                expected.insert(path[..at].to_vec(), Node::Directory);
            }
        }
        let found = entries(&bytes).unwrap();
        prop_assert_eq!(found.len(), expected.len());
        prop_assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), expected);
    }

    #[test]
    fn another_reader_sees_the_same_names_times_and_owners(tree in tree()) {
        let list: Vec<_> = tree.into_iter().collect();
        let bytes = archive(&list).unwrap();
        let ours: Vec<_> = entries(&bytes).unwrap().into_iter().map(|(path, _)| path).collect();
        let mut other = tar::Archive::new(bytes.as_slice());
        let mut theirs = Vec::new();
        for entry in other.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            prop_assert_eq!(header.mtime().unwrap(), MTIME_S);
            prop_assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (1000, 1000));
            prop_assert_eq!(header.username_bytes(), Some(&b""[..]));
            let path = entry.path_bytes();
            theirs.push(path.strip_suffix(b"/").unwrap_or(&path).to_vec());
        }
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn damaged_archives_never_panic(
        tree in tree(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut bytes = archive(&tree.into_iter().collect::<Vec<_>>()).unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let keep = keep.index(bytes.len());
        let _ = entries(&bytes);
        let _ = entries(&bytes[..keep]);
    }
}

fn foreign(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().unwrap()
}

/// One entry whose name and link name are set as bytes, past every check of the `tar` crate.
fn entry(name: &[u8], kind: tar::EntryType, link: &[u8], content: &[u8]) -> Vec<u8> {
    foreign(|builder| {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o4755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    })
}

#[test]
fn paths_that_leave_the_tree_are_refused_by_name() {
    use tar::EntryType as T;
    for (name, kind, link) in [
        (&b"/etc/passwd"[..], T::Regular, &b""[..]),
        (b"../up", T::Regular, b""),
        (b"a/../../up", T::Regular, b""),
        (b"..", T::Directory, b""),
        (b"", T::Regular, b""),
        (b"link", T::Link, b"/etc/shadow"),
        (b"link", T::Link, b"a/../../shadow"),
        (b"link", T::Link, b""),
        (b"link", T::Symlink, b""),
    ] {
        let error = entries(&entry(name, kind, link, b"")).unwrap_err();
        assert!(matches!(error, TarError::Path { .. }), "{name:?} {link:?}: {error}");
    }
}

#[test]
fn devices_fifos_and_sparse_files_are_refused() {
    use tar::EntryType as T;
    for (kind, said) in [
        (T::Char, "device"),
        (T::Block, "device"),
        (T::Fifo, "FIFO"),
        (T::GNUSparse, "sparse file"),
        (T::new(b'Z'), "entry of an unknown kind"),
    ] {
        let error = entries(&entry(b"dev/odd", kind, b"", b"")).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("'dev/odd' is a {said}, which is refused in an archive")
        );
    }
}

#[test]
fn limits_are_kept_and_named() {
    let plain: Vec<_> = (b'a'..=b'e').map(|n| (vec![n], Node::File(false, vec![n; 100]))).collect();
    let bytes = archive(&plain).unwrap();
    let run = |caps: Caps| {
        let mut reader = Reader::new(bytes.as_slice(), caps);
        loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => return "fits".to_owned(),
                Err(e) => return e.to_string(),
            }
        }
    };
    let caps = Caps {
        entries_max: 5,
        bytes_max: 500,
        file_bytes_max: 100,
        path_bytes_max: 1,
        depth_max: 1,
    };
    assert_eq!(run(caps), "fits");
    assert!(run(Caps { entries_max: 4, ..caps }).contains("more than 4 entries"));
    assert!(run(Caps { bytes_max: 499, ..caps }).contains("more than 499 bytes in all files"));
    assert!(run(Caps { file_bytes_max: 99, ..caps }).contains("more than 99 bytes in one file"));
    let deep = archive(&[(b"a/b/c".to_vec(), Node::Directory)]).unwrap();
    let mut reader = Reader::new(deep.as_slice(), Caps { depth_max: 2, path_bytes_max: 9, ..caps });
    reader.next().unwrap();
    reader.next().unwrap();
    assert!(reader.next().err().unwrap().to_string().contains("2 directories in one another"));
    let mut reader = Reader::new(deep.as_slice(), Caps { path_bytes_max: 2, depth_max: 9, ..caps });
    reader.next().unwrap();
    assert!(matches!(reader.next(), Err(TarError::Path { why: "it is too long", .. })));
}

#[test]
fn an_extension_record_cannot_eat_the_memory() {
    let huge = entry(b"x", tar::EntryType::XHeader, b"", &vec![b'1'; 1 << 20]);
    assert!(matches!(entries(&huge), Err(TarError::Limit { max: 65_536, .. })));
    // Records that are never followed by an entry count as entries.
    let one = entry(b"x", tar::EntryType::XHeader, b"", b"12 comment=a");
    let endless: Vec<u8> = one[..1024].iter().copied().cycle().take(1024 * 300).collect();
    let caps = Caps { entries_max: 100, ..Caps::SOURCE };
    assert!(Reader::new(endless.as_slice(), caps).next().is_err());
}

#[test]
fn archives_of_other_writers_are_understood() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let bytes = foreign(|builder| {
        builder.append_dir("./", ".").unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o755);
        builder.append_data(&mut header, &long, &b"hi"[..]).unwrap();
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Link);
        link.set_size(0);
        builder.append_link(&mut link, "./again", &long).unwrap();
    });
    let mut reader = Reader::new(bytes.as_slice(), Caps::SOURCE);
    let mut first = reader.next().unwrap().unwrap();
    assert_eq!((first.path.as_slice(), first.is_executable()), (long.as_bytes(), true));
    let mut content = String::new();
    first.read_to_string(&mut content).unwrap();
    assert_eq!(content, "hi");
    let second = reader.next().unwrap().unwrap();
    assert_eq!(second.path, b"again");
    assert_eq!(second.kind, Kind::HardLink { target: long.into_bytes() });
    assert!(reader.next().unwrap().is_none());
}

#[test]
fn bytes_after_the_end_are_refused() {
    let mut bytes = archive(&[(b"a".to_vec(), Node::Directory)]).unwrap();
    bytes.extend_from_slice(&[0; 9000]);
    assert!(entries(&bytes).is_ok(), "padding to any block size is usual");
    bytes.push(1);
    assert!(matches!(entries(&bytes), Err(TarError::Damaged("something follows its end"))));
}

#[test]
fn the_writer_refuses_disorder_repetition_and_files_that_are_directories() {
    let plain = Attributes::PLAIN;
    let mut writer = Writer::new(Vec::new(), Rules::App);
    writer.file(b"a", plain, 0, &b""[..]).unwrap();
    writer.file(b"a-b", plain, 0, &b""[..]).unwrap();
    assert!(matches!(writer.file(b"a-b", plain, 0, &b""[..]), Err(TarError::Order { .. })));
    assert!(matches!(writer.file(b"a-a", plain, 0, &b""[..]), Err(TarError::Order { .. })));
    assert!(matches!(writer.file(b"a/c", plain, 0, &b""[..]), Err(TarError::Path { .. })));
    assert!(matches!(writer.directory(b"a", plain), Err(TarError::Path { .. })));
    assert!(matches!(writer.file(b"z/../b", plain, 0, &b""[..]), Err(TarError::Path { .. })));
    assert!(matches!(writer.file(b"z/.wh.b", plain, 0, &b""[..]), Err(TarError::Path { .. })));
}

#[test]
fn a_file_that_shrank_or_grew_while_read_is_an_error() {
    for (size, actual) in [(3, 2), (1, 2)] {
        let mut writer = Writer::new(Vec::new(), Rules::App);
        let error = writer.file(b"a", Attributes::PLAIN, size, &b"hi"[..]).unwrap_err();
        assert!(matches!(error, TarError::Length { actual: a, .. } if a == actual), "{error}");
    }
}

#[test]
fn app_rules_flatten_modes_and_stack_rules_keep_all_but_setuid() {
    let odd = Attributes { mode: 0o106_751, uid: 7, gid: 42 };
    let read = |rules| {
        let mut writer = Writer::new(Vec::new(), rules);
        writer.directory(b"d", Attributes { mode: 0o1777, ..odd }).unwrap();
        writer.file(b"f", odd, 0, &b""[..]).unwrap();
        let bytes = writer.finish().unwrap().0;
        let mut reader = Reader::new(bytes.as_slice(), Caps::LAYER);
        let d = reader.next().unwrap().map(|e| (e.mode, e.uid, e.gid)).unwrap();
        let f = reader.next().unwrap().map(|e| (e.mode, e.uid, e.gid)).unwrap();
        (d, f)
    };
    assert_eq!(read(Rules::App), ((0o755, 1000, 1000), (0o755, 1000, 1000)));
    assert_eq!(read(Rules::Stack), ((0o1777, 7, 42), (0o751, 7, 42)));
}

#[test]
fn sizes_beyond_the_octal_field_travel_in_a_pax_record() {
    // 9 GiB of zeros, never in memory: only the headers are looked at.
    struct Headers(Vec<u8>);
    impl std::io::Write for Headers {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0.len() < 4096 {
                self.0.extend_from_slice(&bytes[..bytes.len().min(4096)]);
                return Ok(bytes.len());
            }
            Err(std::io::Error::other("enough"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut headers = Headers(Vec::new());
    let size = 9 << 30;
    let mut writer = Writer::new(&mut headers, Rules::App);
    assert!(writer.file(b"big", Attributes::PLAIN, size, std::io::repeat(0)).is_err());
    let mut reader =
        Reader::new(headers.0.as_slice(), Caps { file_bytes_max: 1 << 40, ..Caps::LAYER });
    assert_eq!(reader.next().unwrap().unwrap().kind, Kind::File { size });
}

/// The bytes themselves: a change of them changes every image.
#[test]
fn the_bytes_of_an_archive_are_fixed() {
    let bytes = archive(&[
        (b"bin/run".to_vec(), Node::File(true, b"#!/bin/sh\n".to_vec())),
        (b"bin/sh".to_vec(), Node::Symlink(b"/bin/bash".to_vec())),
        (b"README".to_vec(), Node::File(false, b"hello\n".to_vec())),
        ("p".repeat(150).into_bytes(), Node::Directory),
    ])
    .unwrap();
    let mut hashing = berth_blobs::Hashing::new(bytes.as_slice());
    std::io::copy(&mut hashing, &mut std::io::sink()).unwrap();
    let (_, digest, length) = hashing.finish();
    assert_eq!(length, 5632);
    assert_eq!(
        digest.to_string(),
        "sha256:80943511b1f3a86b8765bc64246f85aa2c01ddb3014ab188c40ec58623a4a270"
    );
}
