//! File calls by the program itself, in a directory with links that lead out of it.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    /// `in/` is the working directory; `in/out` leads to `outside/`, which holds `secret`.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        fs::write(folder.path().join("outside/secret"), "secret").unwrap();
        symlink("../outside", folder.path().join("in/out")).unwrap();
        Self { folder }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn run(&self, words: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_berth-init"))
            .arg("file")
            .args(words)
            .current_dir(self.path("in"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The program may refuse before it reads.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    fn refuses(&self, words: &[&str], input: &[u8], why: &str) {
        let output = self.run(words, input);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        assert!(said.starts_with("berth-init: ") && said.contains(why), "{words:?}: {said}");
        assert_eq!(fs::read_to_string(self.path("outside/secret")).unwrap(), "secret");
        assert_eq!(fs::read_dir(self.path("outside")).unwrap().count(), 1);
    }

    fn does(&self, words: &[&str], input: &[u8]) {
        let output = self.run(words, input);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_file_is_written_with_its_directories_and_mode() {
    let fixture = Fixture::new();
    fixture.does(&["write", "a/b/run", "755"], b"one");
    fixture.does(&["write", "a/b/run", "0640"], b"two");
    assert_eq!(fs::read_to_string(fixture.path("in/a/b/run")).unwrap(), "two");
    let mode = fs::metadata(fixture.path("in/a/b/run")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    let absolute = fixture.path("in/absolute");
    fixture.does(&["write", absolute.to_str().unwrap(), "644"], b"three");
    assert_eq!(fs::read_to_string(absolute).unwrap(), "three");
}

#[test]
fn no_call_follows_a_link_out() {
    let fixture = Fixture::new();
    let why = "a part of the path is a symbolic link";
    fixture.refuses(&["write", "out/new", "644"], b"x", why);
    fixture.refuses(&["write", "out/secret", "644"], b"x", why);
    fixture.refuses(&["symlink", "out/new", "x"], b"", why);
    fixture.refuses(&["remove", "out/secret"], b"", why);
    fixture.refuses(&["extract", "out"], b"", why);
    fixture.refuses(&["extract", "out/deeper"], b"", why);
    fixture.refuses(&["write", "../outside/new", "644"], b"x", "'..' is not allowed");
    fixture.refuses(&["remove", "../outside"], b"", "'..' is not allowed");
    fixture.refuses(&["remove", "a/.."], b"", "'..' is not allowed");
}

#[test]
fn a_link_itself_is_replaced_or_removed() {
    let fixture = Fixture::new();
    fixture.does(&["write", "out", "644"], b"mine");
    assert_eq!(fs::read_to_string(fixture.path("in/out")).unwrap(), "mine");
    fixture.does(&["symlink", "out", "/anywhere/at/all"], b"");
    assert_eq!(fs::read_link(fixture.path("in/out")).unwrap().to_str(), Some("/anywhere/at/all"));
    fixture.does(&["remove", "out"], b"");
    assert!(fs::symlink_metadata(fixture.path("in/out")).is_err());
    assert!(fixture.path("outside/secret").exists());
}

#[test]
fn a_tree_is_removed_without_what_its_links_name() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.path("in/t/a/b")).unwrap();
    fs::write(fixture.path("in/t/a/b/f"), "").unwrap();
    symlink("../../outside", fixture.path("in/t/a/link")).unwrap();
    fixture.does(&["remove", "t"], b"");
    assert!(!fixture.path("in/t").exists());
    assert!(fixture.path("outside/secret").exists());
    fixture.does(&["remove", "t"], b"");
    fixture.does(&["remove", "never/was"], b"");
}

#[test]
fn an_archive_is_extracted_and_a_hostile_one_refused() {
    let fixture = Fixture::new();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o755);
    builder.append_data(&mut header, "bin/run", &b"hi"[..]).unwrap();
    let good = builder.into_inner().unwrap();
    fixture.does(&["extract", "made/here"], &good);
    assert_eq!(fs::read_to_string(fixture.path("in/made/here/bin/run")).unwrap(), "hi");

    fixture.refuses(&["extract", "x"], &good[..600], "damaged");
    fixture.refuses(&["extract", "x"], &[7; 2048], "damaged");
    symlink("../../outside", fixture.path("in/x/out")).unwrap();
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..7].copy_from_slice(b"out/new");
    header.set_size(0);
    header.set_cksum();
    fixture.refuses(&["extract", "x"], header.as_bytes(), "cannot make 'out/new'");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let fixture = Fixture::new();
    for words in [&["write", "a"][..], &["chmod", "a"], &["remove"]] {
        assert_eq!(fixture.run(words, b"").status.code(), Some(2), "{words:?}");
    }
    fixture.refuses(&["write", "a", "4755"], b"", "is not an octal mode of at most 777");
}
