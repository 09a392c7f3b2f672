//! Passes bytes on and takes their SHA-256 on the way.

use std::io::{self, Read, Write};

use berth_model::Digest;
use sha2::{Digest as _, Sha256};

/// A reader or writer whose bytes are hashed and counted as they pass.
pub struct Hashing<T> {
    inner: T,
    sha256: Sha256,
    bytes: u64,
}

impl<T> Hashing<T> {
    /// Around a reader or a writer.
    pub fn new(inner: T) -> Self {
        Self { inner, sha256: Sha256::new(), bytes: 0 }
    }

    /// Bytes that passed so far.
    pub fn passed_bytes(&self) -> u64 {
        self.bytes
    }

    /// The digest and the number of the bytes that passed, and what was wrapped.
    pub fn finish(self) -> (T, Digest, u64) {
        (self.inner, Digest::from_sha256(self.sha256.finalize().into()), self.bytes)
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.passed(&buffer[..count]);
        Ok(count)
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.passed(&buffer[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
