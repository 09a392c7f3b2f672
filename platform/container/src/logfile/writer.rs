//! Appends lines to a folder's files and keeps them bounded.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use berth_model::log::LogStream;

use super::{End, EndMark, LogLimits, LogLine, file_name};

/// Writes the log of one container. There must be one writer per folder.
#[derive(Debug)]
pub struct LogWriter {
    folder: PathBuf,
    limits: LogLimits,
    file: Option<File>,
    bytes: u64,
    seq: u64,
    dropped: u64,
}

impl LogWriter {
    /// Opens the folder's log, or makes it with mode 0640 within `umask`. The folder must exist.
    /// Sequence numbers go on after the last line that is there.
    ///
    /// # Errors
    /// The file cannot be opened or read. A full disk is no error.
    pub fn open(folder: &Path, limits: LogLimits) -> io::Result<Self> {
        let mut writer =
            Self { folder: folder.to_path_buf(), limits, file: None, bytes: 0, seq: 0, dropped: 0 };
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
        if self.dropped > 0 {
            let note = format!("{} lines were dropped: the disk was full", self.dropped);
            if !self.record(attempt, LogStream::System, at_ns, note.as_bytes(), false) {
                self.dropped += 1;
                return;
            }
            self.dropped = 0;
        }
        if !self.record(attempt, stream, at_ns, text, partial) {
            self.dropped += 1;
        }
    }

    /// Lines dropped since the last one that was written.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Writes the end mark: no line follows.
    pub fn close(mut self) {
        self.mark(End::Closed);
    }

    fn record(
        &mut self,
        attempt: u32,
        stream: LogStream,
        at_ns: i64,
        text: &[u8],
        partial: bool,
    ) -> bool {
        let line = String::from_utf8_lossy(text).into_owned();
        let record = LogLine { seq: self.seq + 1, at_ns, attempt, stream, line, partial };
        let Ok(mut bytes) = serde_json::to_vec(&record) else { return false };
        bytes.push(b'\n');
        if self.bytes > 0 && self.bytes + bytes.len() as u64 > self.limits.file_bytes_max {
            self.rotate();
        }
        let written = self.write(&bytes);
        if written {
            self.seq += 1;
        }
        written
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
        if let Ok(mut bytes) = serde_json::to_vec(&EndMark { end }) {
            bytes.push(b'\n');
            self.write(&bytes);
        }
    }

    fn rotate(&mut self) {
        self.mark(End::Rotated);
        self.file = None;
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
