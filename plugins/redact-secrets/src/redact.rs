//! Hides what usually is a credential, what patterns find, and words. Pure: no host, so it is tested
//! where it is built.

use aho_corasick::AhoCorasick;
use regex_lite::Regex;

use crate::usual::{Span, Usual};

/// Hides what patterns and words say.
pub(crate) struct Redactor {
    usual: Option<Usual>,
    patterns: Vec<Regex>,
    words: Option<AhoCorasick>,
    replacement: String,
}

impl Redactor {
    /// A redactor of what usually is a credential or not, of patterns and of words.
    ///
    /// # Errors
    /// The pattern that is none, and why; too many words.
    pub(crate) fn new(
        usual: bool,
        patterns: &[String],
        words: &[String],
        replacement: &str,
    ) -> Result<Self, String> {
        let patterns = patterns
            .iter()
            .map(|text| Regex::new(text).map_err(|error| format!("the pattern {text}: {error}")))
            .collect::<Result<Vec<_>, _>>()?;
        let words: Vec<&String> = words.iter().filter(|word| !word.is_empty()).collect();
        let words = match words.as_slice() {
            [] => None,
            words => Some(AhoCorasick::new(words).map_err(|error| format!("the words: {error}"))?),
        };
        let usual = if usual { Some(Usual::new()?) } else { None };
        Ok(Self { usual, patterns, words, replacement: replacement.to_owned() })
    }

    /// The text without what is to be hidden; nothing when that is nothing.
    pub(crate) fn redact(&self, text: &str) -> Option<String> {
        let mut hidden: Vec<Span> = Vec::new();
        if let Some(usual) = &self.usual {
            usual.find(text, &mut hidden);
        }
        if let Some(words) = &self.words {
            let found = words.find_overlapping_iter(text);
            hidden.extend(found.map(|found| (found.start(), found.end())));
        }
        for pattern in &self.patterns {
            for found in pattern.captures_iter(text) {
                let group = (1..found.len()).find_map(|index| found.get(index)).or(found.get(0));
                hidden.extend(group.map(|part| (part.start(), part.end())));
            }
        }
        hidden.retain(|(start, end)| start < end);
        (!hidden.is_empty()).then(|| self.without(text, hidden))
    }

    fn without(&self, text: &str, mut hidden: Vec<Span>) -> String {
        hidden.sort_unstable();
        let mut shown = String::with_capacity(text.len());
        let mut at = 0;
        for (index, (start, end)) in hidden.into_iter().enumerate() {
            // What overlaps or touches is hidden once.
            if index == 0 || start > at {
                shown.push_str(&text[at..start]);
                shown.push_str(&self.replacement);
            }
            at = at.max(end);
        }
        shown.push_str(&text[at..]);
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(redactor: &Redactor, text: &str) -> String {
        redactor.redact(text).unwrap_or_else(|| text.to_owned())
    }

    fn usual(text: &str) -> String {
        shown(&Redactor::new(true, &[], &[], "[-]").expect("words"), text)
    }

    #[test]
    fn what_usually_is_a_credential_is_hidden_and_the_rest_of_the_line_is_not() {
        for (text, expected) in [
            ("DB_PASSWORD=swordfish ok", "DB_PASSWORD=[-] ok"),
            (r#"{"api_key": "swordfish", "n": 1}"#, r#"{"api_key": "[-]", "n": 1}"#),
            (
                r#"{"m": "{\"token\":\"swordfish\",\"n\":1}"}"#,
                r#"{"m": "{\"token\":\"[-]\",\"n\":1}"}"#,
            ),
            (r"secret='sword\'fish' end", "secret='[-]' end"),
            (r#"secret="swordfish and no end"#, r#"secret="[-]"#),
            ("secret: swordfish, next", "secret: [-], next"),
            ("password := swordfish", "password := [-]"),
            ("token=password: swordfish", "token=[-] [-]"),
            ("AWS_SECRET_ACCESS_KEY => swordfish)", "AWS_SECRET_ACCESS_KEY => [-])"),
            ("Authorization: Bearer swordfish.x", "Authorization: Bearer [-]"),
            ("-H 'proxy-authorization: swordfish' -v", "-H 'proxy-authorization: [-]' -v"),
            (r#"{"authorization":"Basic swordfish"}"#, r#"{"authorization":"Basic [-]"}"#),
            ("sent Bearer swordfish123 to x", "sent Bearer [-] to x"),
            ("Set-Cookie: id=swordfish; Path=/", "Set-Cookie: [-]"),
            (r#"{"cookie":"id=swordfish","n":1}"#, r#"{"cookie":"[-]","n":1}"#),
            ("postgres://app:swordfish@db:5432/x", "postgres://app:[-]@db:5432/x"),
            ("redis://:sword@fish@cache/0", "redis://:[-]@cache/0"),
            ("jwt eyJhbGciOi.eyJzdWIi.c2ln done", "jwt [-] done"),
            ("jwe eyJhbGciOi.a.b.c.d done", "jwe [-] done"),
            ("key AKIAABCDEFGHIJKLMNOP end", "key [-] end"),
            ("ghp_abcdefghijklmnopqrst,", "[-],"),
            ("sk_live_abcdefghij sk-abcdefghijklmnopqrst", "[-] [-]"),
            ("?token=swordfish&x=1", "?token=[-]&x=1"),
            ("PASSWORD='sword fish'", "PASSWORD='[-]'"),
            (
                r"-----BEGIN RSA PRIVATE KEY-----\nc3dvcmQ=\n-----END RSA PRIVATE KEY----- ok",
                "-----BEGIN RSA PRIVATE KEY-----[-]-----END RSA PRIVATE KEY----- ok",
            ),
            ("token: äswordfishä ä", "token: [-] ä"),
        ] {
            assert_eq!(usual(text), expected, "{text}");
        }
        let own = format!("made berth_{} ok", "0f".repeat(32));
        assert_eq!(usual(&own), "made [-] ok");
    }

    #[test]
    fn lines_without_a_credential_stay_as_they_are() {
        for text in [
            "GET / 200 in 3 ms",
            "the tokenizer read 17 words",
            "http://127.0.0.1:5000/",
            "passwords are rotated",
            "Token::new(1)",
            "password=",
            "http://host:80?x=a@b",
            "monkeyJar.jars.jarred",
            "eyJa.b",
            "the cookies: 3",
            "task-abcdefghijklmnopqrst",
            "AKIAABCDEFGHIJKLMNOPQ",
            "-----BEGIN CERTIFICATE-----c3dvcmQ=-----END CERTIFICATE-----",
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
        assert_eq!(shown(&redactor, "a swordfish 1234567812345678"), "a * *");
        assert_eq!(shown(&redactor, "user=joe password=kept"), "user=* password=kept");
        assert!(Redactor::new(false, &["(".to_owned()], &[], "").is_err());
    }

    #[test]
    fn what_overlaps_is_hidden_once_and_whole() {
        let words = ["abcd".to_owned(), "cdef".to_owned(), "efgh".to_owned()];
        let redactor = Redactor::new(false, &[], &words, "*").expect("words");
        assert_eq!(shown(&redactor, "abcdefgh-"), "*-");
        assert_eq!(shown(&redactor, "-abcdabcd-"), "-*-");
    }
}
