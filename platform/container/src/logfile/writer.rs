//! Appends lines to a folder's files and keeps them bounded.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use berth_model::log::LogStream;
use serde::Serialize;

use super::{End, EndMark, LogLimits, LogLine, file_name};

/// Lines that are held are written beyond this, whatever the caller does.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// Writes the log of one container. There must be one writer per folder.
#[derive(Debug)]
pub struct LogWriter {
    folder: PathBuf,
    limits: LogLimits,
    file: Option<File>,
    bytes: u64,
    seq: u64,
    dropped: u64,
    held: Held,
}

/// Records that are not written yet.
#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    /// How many they are.
    records: u64,
    /// Lines that are lost if they cannot be written: those, and those that a note among them
    /// tells of.
    lines: u64,
}

impl LogWriter {
    /// Opens the folder's log, or makes it with mode 0640 within `umask`. The folder must exist.
    /// Sequence numbers go on after the last line that is there.
    ///
    /// # Errors
    /// The file cannot be opened or read. A full disk is no error.
    pub fn open(folder: &Path, limits: LogLimits) -> io::Result<Self> {
        let folder = folder.to_path_buf();
        let mut writer = Self {
            folder,
            limits,
            file: None,
            bytes: 0,
            seq: 0,
            dropped: 0,
            held: Held::default(),
        };
        writer.append()?;
        writer.seq = writer.last_seq()?;
        writer.end_torn_line()?;
        Ok(writer)
    }

    /// Appends one line. What cannot be written is dropped and counted.
    pub fn line(
        &mut self,
        attempt: u32,
        stream: LogStream,
        at_ns: i64,
        text: &[u8],
        partial: bool,
    ) {
        self.hold(attempt, stream, at_ns, text, partial);
        self.flush();
    }

    /// The same at the next [`LogWriter::flush`], or before: many lines cost one write. What is
    /// held when the writer is dropped is lost.
    pub fn hold(
        &mut self,
        attempt: u32,
        stream: LogStream,
        at_ns: i64,
        text: &[u8],
        partial: bool,
    ) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            let note = format!("{dropped} lines were dropped: the disk was full");
            self.record(attempt, LogStream::System, at_ns, note.as_bytes(), false);
            self.held.lines += dropped;
        }
        self.record(attempt, stream, at_ns, text, partial);
        self.held.lines += 1;
        if self.held.bytes.len() >= HELD_BYTES_MAX {
            self.flush();
        }
    }

    /// Writes what is held, all of it or nothing.
    pub fn flush(&mut self) {
        let held = std::mem::take(&mut self.held);
        if !held.bytes.is_empty() && !self.write(&held.bytes) {
            self.seq -= held.records;
            self.dropped += held.lines;
        }
    }

    /// Lines dropped since the last one that was written.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Writes the end mark: no line follows.
    pub fn close(mut self) {
        self.flush();
        self.mark(End::Closed);
    }

    fn record(&mut self, attempt: u32, stream: LogStream, at_ns: i64, text: &[u8], partial: bool) {
        let line = String::from_utf8_lossy(text).into_owned();
        let mut record = LogLine { seq: self.seq + 1, at_ns, attempt, stream, line, partial };
        let mut bytes = encoded(&record);
        let ahead = self.bytes + self.held.bytes.len() as u64;
        if ahead > 0 && ahead + bytes.len() as u64 > self.limits.file_bytes_max {
            self.flush();
            self.rotate();
            // Lines that were held and not written have given their numbers back.
            record.seq = self.seq + 1;
            bytes = encoded(&record);
        }
        self.held.bytes.extend_from_slice(&bytes);
        self.held.records += 1;
        self.seq += 1;
    }

    /// All of `bytes` or nothing: half a line is taken back.
    fn write(&mut self, bytes: &[u8]) -> bool {
        if self.file.is_none() && self.append().is_err() {
            return false;
        }
        let Some(file) = self.file.as_mut() else { return false };
        if file.write_all(bytes).is_ok() {
            self.bytes += bytes.len() as u64;
            return true;
        }
        let _ = file.set_len(self.bytes);
        false
    }

    fn mark(&mut self, end: End) {
        self.write(&encoded(&EndMark { end }));
    }

    fn rotate(&mut self) {
        self.mark(End::Rotated);
        self.file = None;
        self.bytes = 0;
        for age in (0..self.limits.files_max).rev() {
            let from = self.folder.join(file_name(age));
            if age + 1 >= self.limits.files_max {
                let _ = fs::remove_file(from);
            } else {
                let _ = fs::rename(from, self.folder.join(file_name(age + 1)));
            }
        }
    }

    fn append(&mut self) -> io::Result<()> {
        let path = self.folder.join(file_name(0));
        let file =
            OpenOptions::new().append(true).read(true).create(true).mode(0o640).open(path)?;
        self.bytes = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// A writer that was killed may have left half a line: what follows begins on its own.
    fn end_torn_line(&mut self) -> io::Result<()> {
        let mut last = [b'\n'];
        if let Some(file) = &self.file
            && self.bytes > 0
        {
            file.read_exact_at(&mut last, self.bytes - 1)?;
        }
        if last != *b"\n" {
            self.write(b"\n");
        }
        Ok(())
    }

    /// The sequence number of the last whole line, from the end of the newest file that has one.
    fn last_seq(&mut self) -> io::Result<u64> {
        for age in 0..self.limits.files_max {
            let Ok(file) = File::open(self.folder.join(file_name(age))) else { continue };
            let length = file.metadata()?.len();
            let tail_max = 4 * u64::from(self.limits.line_bytes_max) + 4096;
            let start = length.saturating_sub(tail_max);
            let mut tail = vec![0; usize::try_from(length - start).unwrap_or(0)];
            file.read_exact_at(&mut tail, start)?;
            let lines = tail.split(|byte| *byte == b'\n').rev();
            let mut records = lines.filter_map(|line| serde_json::from_slice::<LogLine>(line).ok());
            if let Some(record) = records.next() {
                return Ok(record.seq);
            }
        }
        Ok(0)
    }
}

/// A line of the file. Text and numbers have no value that JSON has not.
fn encoded(record: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(record).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
