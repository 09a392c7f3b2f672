//! The lines of a request's head, as their bytes arrive.
//!
//! Refuses lines that do not end in CRLF, and a first line that does not end at all. RFC 9112
//! section 2.2 lets a server be lenient with line ends; two servers that are lenient in different
//! ways are how requests are smuggled.

use crate::fault::Fault;

/// Follows a head's lines as they arrive. Heads that arrive behind a request in the same packet
/// are not seen here; they reach the app re-framed like every other.
#[derive(Default)]
pub(super) struct HeadScan {
    lines: usize,
    line_bytes: usize,
    last: u8,
    ended: bool,
}

impl HeadScan {
    /// Takes the next bytes; `Err` when they cannot be part of a head.
    pub(super) fn feed(&mut self, mut bytes: &[u8], uri_bytes_max: usize) -> Result<(), Fault> {
        while !self.ended {
            let Some(at) = bytes.iter().position(|b| *b == b'\n') else {
                self.line_bytes += bytes.len();
                self.last = bytes.last().copied().unwrap_or(self.last);
                // Room for the longest method and version that the parser takes.
                let too_long = self.lines == 0 && self.line_bytes > uri_bytes_max + 64;
                return if too_long { Err(Fault::UriTooLong) } else { Ok(()) };
            };
            let before = if at == 0 { self.last } else { bytes[at - 1] };
            if before != b'\r' {
                return Err(Fault::BadFraming);
            }
            let is_empty = self.line_bytes + at == 1;
            self.ended = is_empty && self.lines > 0;
            self.lines += usize::from(!is_empty);
            self.line_bytes = 0;
            self.last = b'\n';
            bytes = &bytes[at + 1..];
        }
        Ok(())
    }

    /// Whether what has arrived is one line only, and longer than `bytes_min`.
    pub(super) fn is_in_first_line(&self, bytes_min: usize) -> bool {
        self.lines == 0 && self.line_bytes > bytes_min
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(parts: &[&[u8]]) -> Result<bool, Fault> {
        let mut head = HeadScan::default();
        for part in parts {
            head.feed(part, 100)?;
        }
        Ok(head.ended)
    }

    #[test]
    fn every_line_of_a_head_ends_in_crlf_however_it_is_cut() {
        let head = b"\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\nbody\nbody";
        assert_eq!(scan(&[head]), Ok(true));
        for at in 0..head.len() {
            assert_eq!(scan(&[&head[..at], &head[at..]]), Ok(true), "{at}");
        }
        assert_eq!(scan(&[b"GET / HTTP/1.1\r\nhost: a\r\n"]), Ok(false));
        assert_eq!(scan(&[b"GET / HTTP/1.1\nhost: a\r\n\r\n"]), Err(Fault::BadFraming));
        assert_eq!(scan(&[b"GET / HTTP/1.1\r\nhost: a\n\r\n"]), Err(Fault::BadFraming));
        assert_eq!(scan(&[b"GET / HTTP/1.1\r\nhost: a\r\n\n"]), Err(Fault::BadFraming));
    }

    #[test]
    fn a_first_line_that_does_not_end_is_too_long() {
        assert_eq!(scan(&[&[b'a'; 100], &[b'a'; 100]]), Err(Fault::UriTooLong));
    }
}
