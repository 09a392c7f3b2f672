//! Passes a canonical tar on and looks at its headers on the way: it can set the modification time
//! of every entry, and notes which directories a layer has at its top.
//!
//! The tree of an app carries the commit's time. Servers make ETag and Last-Modified of a file's
//! time and size; with one constant time, two versions of a file of the same size would look the
//! same to every browser cache.

use std::io::{self, Write};

const BLOCK: usize = 512;

/// A writer around another one.
pub(crate) struct Dated<W> {
    inner: W,
    mtime_s: Option<u64>,
    /// Directories to look for, `layers/x/y/bin/`.
    wanted: Vec<String>,
    found: Vec<String>,
    block: Vec<u8>,
    /// Content and padding of the current entry still to pass.
    left: u64,
    ended: bool,
}

impl<W: Write> Dated<W> {
    /// Sets the time of every entry to `mtime_s` where it is given.
    pub(crate) fn new(inner: W, mtime_s: Option<u64>) -> Self {
        Self {
            inner,
            mtime_s,
            wanted: Vec::new(),
            found: Vec::new(),
            block: Vec::with_capacity(BLOCK),
            left: 0,
            ended: false,
        }
    }

    /// Notes whether directories of these names (with a slash at the end) come by.
    pub(crate) fn looking_for(mut self, names: Vec<String>) -> Self {
        self.wanted = names;
        self
    }

    /// The inner writer, and the directories that came by.
    pub(crate) fn finish(mut self) -> io::Result<(W, Vec<String>)> {
        if !self.block.is_empty() || self.left > 0 || !self.ended {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends too early"));
        }
        self.inner.flush()?;
        Ok((self.inner, self.found))
    }

    fn header(&mut self) -> io::Result<()> {
        let mut block = std::mem::take(&mut self.block);
        if block.iter().all(|byte| *byte == 0) {
            self.ended = true;
        } else {
            self.left = size(&block[124..136])?.next_multiple_of(BLOCK as u64);
            let name = block[..100].split(|byte| *byte == 0).next().unwrap_or_default();
            if let Some(at) = self.wanted.iter().position(|wanted| wanted.as_bytes() == name) {
                self.found.push(self.wanted.swap_remove(at));
            }
            if let Some(mtime_s) = self.mtime_s {
                date(&mut block, mtime_s);
            }
        }
        self.inner.write_all(&block)?;
        block.clear();
        self.block = block;
        Ok(())
    }
}

impl<W: Write> Write for Dated<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.left > 0 || self.ended {
            let most = if self.ended {
                buffer.len()
            } else {
                buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX))
            };
            let count = self.inner.write(&buffer[..most])?;
            self.left = self.left.saturating_sub(count as u64);
            return Ok(count);
        }
        let count = buffer.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&buffer[..count]);
        if self.block.len() == BLOCK {
            self.header()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The size field; a size beyond octal comes with a PAX record, which canonical tars of 8 GiB and
/// more in one file alone have: refused, because layers are bounded below that.
fn size(field: &[u8]) -> io::Result<u64> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "a number in a header is wrong");
    field.iter().take_while(|byte| **byte != 0 && **byte != b' ').try_fold(0_u64, |value, digit| {
        match digit {
            b'0'..=b'7' => Ok(value * 8 + u64::from(digit - b'0')),
            _ => Err(wrong()),
        }
    })
}

/// Writes the time and the checksum that follows from it.
fn date(block: &mut [u8], mtime_s: u64) {
    // Eleven octal digits; a time beyond them does not come from a commit that git would make.
    let mtime = format!("{:011o}", mtime_s.min(0o77_777_777_777));
    block[136..147].copy_from_slice(mtime.as_bytes());
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:07o}").as_bytes());
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use berth_blobs::tar::{Attributes, Rules, Tree};

    use super::*;

    fn sample() -> Vec<u8> {
        let mut tree = Tree::new();
        for (path, text) in [
            ("layers/x/y/bin/run", "one".to_owned()),
            ("layers/x/y/data", "z".repeat(2000)),
            (&"n".repeat(180), String::new()),
        ] {
            tree.file(path.as_bytes(), Attributes::PLAIN, text.len() as u64, text.into_bytes())
                .unwrap();
        }
        tree.write(Vec::new(), Rules::App, |content| Ok(io::Cursor::new(content))).unwrap().0
    }

    fn pass(bytes: &[u8], step: usize, mtime_s: Option<u64>) -> (Vec<u8>, Vec<String>) {
        let wanted = vec!["layers/x/y/bin/".to_owned(), "layers/x/y/lib/".to_owned()];
        let mut dated = Dated::new(Vec::new(), mtime_s).looking_for(wanted);
        for chunk in bytes.chunks(step) {
            dated.write_all(chunk).unwrap();
        }
        dated.finish().unwrap()
    }

    #[test]
    fn nothing_changes_without_a_time_however_the_bytes_come() {
        let sample = sample();
        for step in [1, 511, 512, 513, 10_000] {
            let (bytes, found) = pass(&sample, step, None);
            assert!(bytes == sample, "in steps of {step}");
            assert_eq!(found, ["layers/x/y/bin/"]);
        }
    }

    #[test]
    fn every_entry_gets_the_time_and_other_readers_accept_it() {
        let (bytes, _) = pass(&sample(), 777, Some(1_700_000_000));
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut count = 0;
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            assert_eq!(entry.header().mtime().unwrap(), 1_700_000_000);
            io::copy(&mut entry.by_ref(), &mut io::sink()).unwrap();
            count += 1;
        }
        assert_eq!(count, 7);
    }

    #[test]
    fn an_archive_that_ends_too_early_is_refused() {
        let sample = sample();
        let mut dated = Dated::new(Vec::new(), None);
        dated.write_all(&sample[..600]).unwrap();
        assert!(dated.finish().is_err());
    }
}
