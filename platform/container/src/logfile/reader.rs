//! Reads lines back from a container's log files.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use super::{End, EndMark, LogLine};

/// Bytes of one read; also the bound of one `next`.
const READ_BYTES: usize = 256 * 1024;
/// A line in a file is never longer: 8 KiB of text, each byte at most six in JSON.
const RECORD_BYTES_MAX: usize = 128 * 1024;

/// What one call of [`LogReader::next`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// Lines, at least one.
    Lines(Vec<LogLine>),
    /// Nothing yet; the container may write more.
    Waiting,
    /// The last of these files was put aside: ask the agent for the files again and go on with
    /// [`LogReader::after`].
    Rotated,
    /// The container ended and every line was read.
    Closed,
}

/// Reads the files of one container, oldest first, as the agent's verb `Logs` hands them out.
#[derive(Debug)]
pub struct LogReader {
    /// Those that were read to their end are closed.
    files: VecDeque<File>,
    /// How far in the first of them.
    offset: u64,
    /// Lines up to this number are skipped.
    after: u64,
}

impl LogReader {
    /// A reader of `files`, oldest first, that skips lines up to the number `after` (0: none).
    pub fn new(files: Vec<OwnedFd>, after: u64) -> Self {
        let files = files.into_iter().map(File::from).collect();
        Self { files, offset: 0, after }
    }

    /// The number of the last line that was handed out: where a new reader goes on.
    pub fn after(&self) -> u64 {
        self.after
    }

    /// The next lines, in the order they were written. Never waits.
    ///
    /// # Errors
    /// A file cannot be read.
    #[expect(clippy::should_implement_trait, reason = "it has errors and no last item")]
    pub fn next(&mut self) -> io::Result<Reading> {
        loop {
            let Some(file) = self.files.front() else { return Ok(Reading::Waiting) };
            let is_last = self.files.len() == 1;
            let bytes = read_lines(file, self.offset)?;
            if bytes.is_empty() {
                if is_last {
                    return Ok(Reading::Waiting);
                }
                self.files.pop_front();
                self.offset = 0;
                continue;
            }
            self.offset += bytes.len() as u64;
            let (lines, end) = self.parse(&bytes);
            match end {
                _ if !lines.is_empty() => {
                    // The mark is read again by the next call.
                    if end.is_some() {
                        self.offset -= mark_bytes(&bytes);
                    }
                    return Ok(Reading::Lines(lines));
                }
                Some(End::Closed) => return Ok(Reading::Closed),
                Some(End::Rotated) if is_last => return Ok(Reading::Rotated),
                _ => {}
            }
        }
    }

    /// Lines that are new, and the end mark if the bytes end with it. Bytes that are no record,
    /// as a crash may leave them, are skipped.
    fn parse(&mut self, bytes: &[u8]) -> (Vec<LogLine>, Option<End>) {
        let mut lines = Vec::new();
        let mut end = None;
        for text in bytes.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()) {
            if let Ok(line) = serde_json::from_slice::<LogLine>(text) {
                end = None;
                if line.seq > self.after {
                    self.after = line.seq;
                    lines.push(line);
                }
            } else if let Ok(mark) = serde_json::from_slice::<EndMark>(text) {
                end = Some(mark.end);
            }
        }
        (lines, end)
    }
}

/// Length of the last line of `bytes`, its line end included.
fn mark_bytes(bytes: &[u8]) -> u64 {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let start = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    (bytes.len() - start) as u64
}

/// Whole lines from `offset`; none when there is none yet.
fn read_lines(file: &File, offset: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; READ_BYTES];
    let count = file.read_at(&mut bytes, offset)?;
    bytes.truncate(count);
    match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(last) => bytes.truncate(last + 1),
        // Something that is no log: skip it instead of reading it again and again.
        None if count > RECORD_BYTES_MAX => {}
        None => bytes.clear(),
    }
    Ok(bytes)
}
