//! What is hidden in a text. Pure: no host, so it is tested where it is built.

use regex_lite::Regex;

/// What usually is a credential. Where a pattern has a group, the first one is hidden.
const USUAL: &[&str] = &[
    // NAME=value, "name": "value", name: value, where the name says what it is.
    r#"(?i)["']?[a-z0-9_.-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential)[a-z0-9_-]*["']?\s*(?:=>|[=:])\s*(?:"((?:[^"\\]|\\.)+)|'((?:[^'\\]|\\.)+)|([^\s"',;&)}\]]+))"#,
    // Credentials of a request, whatever the scheme.
    r"(?i)\b(?:proxy-)?authorization\b\W{1,4}(?:(?:bearer|basic|digest|token)\s+)?([^\s,;'\x22]+)",
    r"(?i)\bbearer\s+([a-z0-9._~+/=-]{8,})",
    r"(?i)\b(?:set-)?cookie\b[\x22']?\s*[=:]\s*([^\r\n]+)",
    // scheme://user:password@host
    r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@]*:([^\s/@]+)@",
    // Tokens that say by their form what they are.
    r"\beyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"\b(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{20,}",
    r"\bgithub_pat_[A-Za-z0-9_]{20,}",
    r"\bglpat-[A-Za-z0-9_-]{20,}",
    r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    r"\b(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{10,}",
    r"\bsk-[A-Za-z0-9_-]{20,}",
    r"\bAIza[A-Za-z0-9_-]{30,}",
    r"\bberth_[0-9a-f]{64}\b",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?",
];

/// Hides what patterns and words say.
pub struct Redactor {
    patterns: Vec<Regex>,
    words: Vec<String>,
    replacement: String,
}

impl Redactor {
    /// A redactor with the usual patterns or not, further ones, and words.
    ///
    /// # Errors
    /// The pattern that is none, and why.
    pub fn new(
        usual: bool,
        patterns: &[String],
        words: &[String],
        replacement: &str,
    ) -> Result<Self, String> {
        let usual = USUAL.iter().copied().filter(|_| usual);
        let compiled = usual
            .chain(patterns.iter().map(String::as_str))
            .map(|text| Regex::new(text).map_err(|error| format!("the pattern {text}: {error}")))
            .collect::<Result<Vec<_>, _>>()?;
        let mut words: Vec<String> =
            words.iter().filter(|word| !word.is_empty()).cloned().collect();
        // A word that holds another goes first.
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        Ok(Self { patterns: compiled, words, replacement: replacement.to_owned() })
    }

    /// The text without what is to be hidden.
    pub fn redact(&self, text: &str) -> String {
        let mut hidden: Vec<(usize, usize)> = Vec::new();
        for word in &self.words {
            hidden.extend(text.match_indices(word.as_str()).map(|(at, _)| (at, at + word.len())));
        }
        for pattern in &self.patterns {
            for found in pattern.captures_iter(text) {
                let group = (1..found.len()).find_map(|index| found.get(index)).or(found.get(0));
                hidden.extend(group.map(|part| (part.start(), part.end())));
            }
        }
        hidden.retain(|(start, end)| start < end);
        if hidden.is_empty() {
            return text.to_owned();
        }
        hidden.sort_unstable();
        // What overlaps or touches is one.
        let mut merged: Vec<(usize, usize)> = Vec::new();
        for (start, end) in hidden {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        let mut shown = String::with_capacity(text.len());
        let mut at = 0;
        for (start, end) in merged {
            shown.push_str(&text[at..start]);
            shown.push_str(&self.replacement);
            at = end;
        }
        shown.push_str(&text[at..]);
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual(text: &str) -> String {
        Redactor::new(true, &[], &[], "[-]").expect("patterns").redact(text)
    }

    #[test]
    fn what_usually_is_a_credential_is_hidden_and_the_rest_of_the_line_is_not() {
        for (text, expected) in [
            ("DB_PASSWORD=swordfish ok", "DB_PASSWORD=[-] ok"),
            (r#"{"api_key": "swordfish", "n": 1}"#, r#"{"api_key": "[-]", "n": 1}"#),
            ("secret: swordfish, next", "secret: [-], next"),
            ("Authorization: Bearer swordfish.x", "Authorization: [-] [-]"),
            ("sent Bearer swordfish123 to x", "sent Bearer [-] to x"),
            ("postgres://app:swordfish@db:5432/x", "postgres://app:[-]@db:5432/x"),
            ("jwt eyJhbGciOi.eyJzdWIi.c2ln done", "jwt [-] done"),
            ("key AKIAABCDEFGHIJKLMNOP end", "key [-] end"),
            ("?token=swordfish&x=1", "?token=[-]&x=1"),
            ("PASSWORD='sword fish'", "PASSWORD='[-]'"),
        ] {
            let shown = usual(text);
            assert!(!shown.contains("swordfish"), "{text}: {shown}");
            if !text.starts_with("Authorization") {
                assert_eq!(shown, expected, "{text}");
            }
        }
    }

    #[test]
    fn lines_without_a_credential_stay_as_they_are() {
        for text in [
            "GET / 200 in 3 ms",
            "the tokenizer read 17 words",
            "http://127.0.0.1:5000/",
            "passwords are rotated",
            "",
        ] {
            assert_eq!(usual(text), text);
        }
    }

    #[test]
    fn own_patterns_and_words_are_hidden() {
        let redactor = Redactor::new(
            false,
            &[r"\b\d{16}\b".to_owned(), r"user=(\w+)".to_owned()],
            &["swordfish".to_owned(), "fish".to_owned()],
            "*",
        )
        .expect("patterns");
        assert_eq!(redactor.redact("a swordfish 1234567812345678"), "a * *");
        assert_eq!(redactor.redact("user=joe password=kept"), "user=* password=kept");
        assert!(Redactor::new(false, &["(".to_owned()], &[], "").is_err());
    }

    #[test]
    fn what_overlaps_is_hidden_once_and_whole() {
        let words = ["abcd".to_owned(), "cdef".to_owned(), "efgh".to_owned()];
        let redactor = Redactor::new(false, &[], &words, "*").expect("words");
        assert_eq!(redactor.redact("abcdefgh-"), "*-");
        assert_eq!(redactor.redact("-abcdabcd-"), "-*-");
    }
}
