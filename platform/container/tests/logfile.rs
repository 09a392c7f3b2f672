//! What was written is read back, in order, over rotations and restarts of the writer.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::File;
use std::path::Path;

use berth_container::logfile::{LogLimits, LogReader, LogWriter, Reading, files};
use berth_model::log::LogStream;

const LIMITS: LogLimits = LogLimits { file_bytes_max: 2000, files_max: 3, line_bytes_max: 100 };

fn open(folder: &Path, after: u64) -> LogReader {
    let files = files(folder, LIMITS).into_iter().map(|path| File::open(path).unwrap().into());
    LogReader::new(files.collect(), after)
}

fn write(writer: &mut LogWriter, range: std::ops::Range<u32>) {
    for number in range {
        writer.line(1, LogStream::Stdout, 7, format!("line {number}").as_bytes(), false);
    }
}

/// Texts until there is nothing more, and what came last.
fn read(reader: &mut LogReader) -> (Vec<String>, Reading) {
    let mut texts = Vec::new();
    loop {
        match reader.next().unwrap() {
            Reading::Lines(lines) => texts.extend(lines.into_iter().map(|line| line.line)),
            last => return (texts, last),
        }
    }
}

#[test]
fn a_reader_follows_the_writer_over_a_rotation_without_gap_or_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::open(folder.path(), LIMITS).unwrap();
    write(&mut writer, 0..3);
    let mut reader = open(folder.path(), 0);
    assert_eq!(read(&mut reader).0, ["line 0", "line 1", "line 2"]);
    assert_eq!(read(&mut reader), (vec![], Reading::Waiting));
    write(&mut writer, 3..40);
    let mut texts = Vec::new();
    let mut rotations = 0;
    loop {
        let (more, last) = read(&mut reader);
        texts.extend(more);
        match last {
            Reading::Rotated => reader = open(folder.path(), reader.after()),
            _ => break,
        }
        rotations += 1;
    }
    assert!(rotations > 0);
    let expected: Vec<String> = (3..40).map(|number| format!("line {number}")).collect();
    assert_eq!(texts, expected);
    writer.close();
    assert_eq!(read(&mut reader), (vec![], Reading::Closed));
}

#[test]
fn files_are_bounded_and_the_newest_lines_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::open(folder.path(), LIMITS).unwrap();
    write(&mut writer, 0..1000);
    let paths = files(folder.path(), LIMITS);
    assert_eq!(paths.len(), 3);
    let bytes: u64 = paths.iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(bytes < 3 * (LIMITS.file_bytes_max + 100), "{bytes}");
    let (texts, _) = read(&mut open(folder.path(), 0));
    assert_eq!(texts.last().unwrap(), "line 999");
}

#[test]
fn numbers_go_on_after_the_writer_was_killed_in_the_middle_of_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::open(folder.path(), LIMITS).unwrap();
    write(&mut writer, 0..2);
    drop(writer);
    let path = files(folder.path(), LIMITS).pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(br#"{"seq":3,"at_ns":7,"att"#);
    std::fs::write(&path, bytes).unwrap();
    let mut writer = LogWriter::open(folder.path(), LIMITS).unwrap();
    write(&mut writer, 2..4);
    writer.close();
    let mut reader = open(folder.path(), 0);
    let Reading::Lines(lines) = reader.next().unwrap() else { panic!("no lines") };
    let numbers: Vec<u64> = lines.iter().map(|line| line.seq).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert_eq!(reader.next().unwrap(), Reading::Closed);
}

#[test]
fn a_reader_that_knows_a_number_goes_on_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::open(folder.path(), LIMITS).unwrap();
    write(&mut writer, 0..10);
    let (texts, _) = read(&mut open(folder.path(), 8));
    assert_eq!(texts, ["line 8", "line 9"]);
}

#[test]
fn control_characters_and_broken_text_come_back_as_one_line_each() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::open(folder.path(), LIMITS).unwrap();
    writer.line(1, LogStream::Stderr, 7, b"a\x1b[31m\0\xff\n{\"end\":\"closed\"}", false);
    let (texts, last) = read(&mut open(folder.path(), 0));
    assert_eq!(texts, ["a\u{1b}[31m\0\u{fffd}\n{\"end\":\"closed\"}"]);
    assert_eq!(last, Reading::Waiting);
}

#[test]
fn lines_that_are_held_are_written_together_in_order_and_over_rotations() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::open(folder.path(), LIMITS).unwrap();
    let hold = |writer: &mut LogWriter, number: u32| {
        writer.hold(1, LogStream::Stdout, 7, format!("line {number}").as_bytes(), false);
    };
    hold(&mut writer, 0);
    hold(&mut writer, 1);
    let mut reader = open(folder.path(), 0);
    assert_eq!(read(&mut reader), (vec![], Reading::Waiting), "held is not written");
    // A line that is not held goes after those that are.
    write(&mut writer, 2..3);
    assert_eq!(read(&mut reader).0, ["line 0", "line 1", "line 2"]);
    for number in 3..60 {
        hold(&mut writer, number);
    }
    writer.close();
    let mut numbers = Vec::new();
    loop {
        match reader.next().unwrap() {
            Reading::Lines(lines) => numbers.extend(lines.iter().map(|line| line.seq)),
            Reading::Rotated => reader = open(folder.path(), reader.after()),
            last => break assert_eq!(last, Reading::Closed),
        }
    }
    assert_eq!(numbers, (4..=60).collect::<Vec<u64>>());
}
