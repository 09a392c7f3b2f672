//! A full disk. Needs root, for a small file system of its own.

use std::fs::File;

use berth_container::logfile::{LogLimits, LogReader, LogWriter, Reading, files};
use berth_model::log::LogStream;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

struct Small(tempfile::TempDir);

impl Drop for Small {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn on_a_full_disk_lines_are_dropped_counted_and_told_when_there_is_room() {
    let small = Small(tempfile::tempdir().unwrap());
    let folder = small.0.path();
    mount("test", folder, "tmpfs", MountFlags::empty(), c"size=64k").unwrap();
    std::fs::write(folder.join("ballast"), vec![0; 32 * 1024]).unwrap();
    let limits = LogLimits::default();
    let mut writer = LogWriter::open(folder, limits).unwrap();
    for _ in 0..2000 {
        writer.line(1, LogStream::Stdout, 7, b"a line of some length, again and again", false);
    }
    let dropped = writer.dropped();
    assert!(dropped > 1000, "{dropped}");
    // Together they need more than is left; none of them is half there.
    for _ in 0..1000 {
        writer.hold(1, LogStream::Stdout, 7, b"a line of some length, again and again", false);
    }
    writer.flush();
    let dropped = dropped + 1000;
    assert_eq!(writer.dropped(), dropped);
    std::fs::remove_file(folder.join("ballast")).unwrap();
    writer.line(1, LogStream::Stdout, 7, b"there is room", false);
    assert_eq!(writer.dropped(), 0);
    let opened = files(folder, limits).into_iter().map(|path| File::open(path).unwrap().into());
    let mut reader = LogReader::new(opened.collect(), 0);
    let mut all = Vec::new();
    while let Reading::Lines(lines) = reader.next().unwrap() {
        all.extend(lines);
    }
    let last: Vec<&str> = all[all.len() - 2..].iter().map(|line| line.line.as_str()).collect();
    assert_eq!(
        last,
        [&format!("{dropped} lines were dropped: the disk was full"), "there is room"]
    );
    assert!(all.iter().zip(1..).all(|(line, number)| line.seq == number), "no gap");
}
