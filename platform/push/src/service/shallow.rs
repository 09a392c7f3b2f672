//! Which commits a client has without their parents, read from what it sends to git.
//!
//! gitprotocol-pack: a push begins with `shallow <id>` lines, one for each end of a shallow
//! history, then the commands, then a flush. git itself does not pass them to its hooks.

use std::sync::{Arc, Mutex, PoisonError};

use git2::Oid;

use crate::pkt;

/// Shallow ends that are kept; a clone has one for each branch it was cut at.
const COMMITS_MAX: usize = 1024;
/// Longest line that is looked at: `shallow ` and 64 digits.
const LINE_BYTES_MAX: usize = 80;

/// The commits found so far. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shallow {
    commits: Arc<Mutex<Vec<Oid>>>,
}

impl Shallow {
    /// The commits found so far.
    pub(crate) fn commits(&self) -> Vec<Oid> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn sniffer(self) -> Sniffer {
        Sniffer { found: self, held: Vec::new(), skip: 0, done: false }
    }
}

/// Looks at a stream of packet lines, however it is cut, up to the first flush.
pub(super) struct Sniffer {
    found: Shallow,
    /// The beginning of a line that is not complete.
    held: Vec<u8>,
    /// Bytes of a long line that are still to come.
    skip: usize,
    done: bool,
}

impl Sniffer {
    pub(super) fn look_at(&mut self, mut bytes: &[u8]) {
        while !self.done && !bytes.is_empty() {
            if self.skip > 0 {
                let count = self.skip.min(bytes.len());
                self.skip -= count;
                bytes = &bytes[count..];
                continue;
            }
            self.held.push(bytes[0]);
            bytes = &bytes[1..];
            let Some(digits) = self.held.first_chunk::<4>() else { continue };
            match pkt::length(*digits) {
                None | Some(0) => self.done = true,
                Some(length) if length > LINE_BYTES_MAX => {
                    self.skip = length - self.held.len();
                    self.held.clear();
                }
                Some(length) if length == self.held.len() => {
                    self.line();
                    self.held.clear();
                }
                Some(_) => {}
            }
        }
    }

    fn line(&self) {
        let id = self.held[4..]
            .strip_prefix(b"shallow ")
            .and_then(|id| std::str::from_utf8(id.trim_ascii_end()).ok())
            .filter(|id| id.len() == 40)
            .and_then(|id| Oid::from_str(id).ok());
        if let Some(id) = id {
            let mut commits = self.found.commits.lock().unwrap_or_else(PoisonError::into_inner);
            if commits.len() < COMMITS_MAX {
                commits.push(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1111111111111111111111111111111111111111";

    #[test]
    fn shallow_lines_are_found_however_the_stream_is_cut() {
        let mut stream = pkt::line(format!("shallow {ID}\n").as_bytes());
        stream.extend(pkt::line(&[b'x'; 5000]));
        stream.extend(pkt::line(format!("shallow {ID}").as_bytes()));
        stream.extend(b"0000");
        stream.extend(pkt::line(format!("shallow {ID}").as_bytes()));
        for size in [1, 3, 7, 64, 10_000] {
            let shallow = Shallow::default();
            let mut sniffer = shallow.clone().sniffer();
            stream.chunks(size).for_each(|piece| sniffer.look_at(piece));
            assert_eq!(shallow.commits().len(), 2, "cut at {size}");
        }
    }

    #[test]
    fn a_pack_or_garbage_is_not_searched() {
        let shallow = Shallow::default();
        let mut sniffer = shallow.clone().sniffer();
        sniffer.look_at(b"PACK0035shallow 1111111111111111111111111111111111111111");
        assert!(shallow.commits().is_empty());
    }
}
