//! Cuts a stream of bytes into lines.

/// The unfinished line of one stream. It holds at most one line's limit of bytes.
#[derive(Debug, Default)]
pub struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// Takes bytes and hands each line to `emit`, without its end (`\n` or `\r\n`), and whether it
    /// was cut at `bytes_max` (at least 1). A cut never falls inside a UTF-8 character.
    pub fn feed(&mut self, bytes: &[u8], bytes_max: usize, mut emit: impl FnMut(&[u8], bool)) {
        for chunk in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(chunk);
            let ended = self.pending.last() == Some(&b'\n');
            if ended {
                self.pending.pop();
                if self.pending.last() == Some(&b'\r') {
                    self.pending.pop();
                }
            }
            let mut rest = self.pending.as_slice();
            while rest.len() > bytes_max {
                let (line, after) = rest.split_at(boundary(rest, bytes_max));
                emit(line, true);
                rest = after;
            }
            if ended {
                emit(rest, false);
                self.pending.clear();
            } else {
                let cut = self.pending.len() - rest.len();
                self.pending.drain(..cut);
            }
        }
    }

    /// Hands out what came after the last line end, if anything.
    pub fn finish(&mut self, emit: impl FnOnce(&[u8])) {
        if !self.pending.is_empty() {
            emit(&self.pending);
            self.pending.clear();
        }
    }
}

/// The largest cut at or below `at` that does not fall inside a UTF-8 character; `at` itself when
/// the bytes are not UTF-8 there.
fn boundary(bytes: &[u8], at: usize) -> usize {
    let is_continuation = |index: usize| bytes.get(index).is_some_and(|byte| byte & 0xC0 == 0x80);
    (at.saturating_sub(3).max(1)..=at).rev().find(|index| !is_continuation(*index)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]], bytes_max: usize) -> Vec<(String, bool)> {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for chunk in chunks {
            lines.feed(chunk, bytes_max, |line, partial| {
                out.push((String::from_utf8_lossy(line).into_owned(), partial));
            });
        }
        lines.finish(|line| out.push((String::from_utf8_lossy(line).into_owned(), false)));
        out
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_arrive() {
        let whole = cut(&[b"one\r\n\ntwo\nthr"], 100);
        let bytes: Vec<&[u8]> = b"one\r\n\ntwo\nthr".chunks(1).collect();
        assert_eq!(whole, cut(&bytes, 100));
        let texts: Vec<_> = whole.iter().map(|(line, _)| line.as_str()).collect();
        assert_eq!(texts, ["one", "", "two", "thr"]);
    }

    #[test]
    fn a_long_line_is_cut_into_marked_parts_that_join_to_the_whole() {
        let text = "ä".repeat(50);
        let parts = cut(&[text.as_bytes(), b"\n"], 7);
        assert_eq!(parts.iter().map(|(part, _)| part.as_str()).collect::<String>(), text);
        assert!(parts[..parts.len() - 1].iter().all(|(part, partial)| *partial && part.len() <= 7));
        assert!(!parts[parts.len() - 1].1);
    }

    #[test]
    fn bytes_that_are_no_text_are_cut_too() {
        let parts = cut(&[&[0x80; 100]], 10);
        assert_eq!(parts.len(), 10);
    }
}
