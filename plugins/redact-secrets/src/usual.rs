//! What usually is a credential. Pure.
//!
//! One pass over a text finds the words that stand before a credential, or that one begins with; what
//! follows each is then looked at byte by byte. No byte is looked at more than a few times whatever
//! the text is, so an app that writes odd lines cannot use up the time of everybody's drains. Bounds
//! of what is found lie beside ASCII, so a character is never cut.

use aho_corasick::AhoCorasick;

/// A part of a text, from and to.
pub(crate) type Span = (usize, usize);

/// What follows a word, and what of it is hidden.
#[derive(Clone, Copy)]
enum Rule {
    /// The word is part of a name: `DB_PASSWORD=value`, `"api_key": "value"`.
    Name,
    /// The header, whatever the scheme.
    Authorization,
    /// The scheme without the header's name.
    Bearer,
    /// The rest of the line.
    Cookie,
    /// `scheme://user:password@host`.
    Address,
    /// A private key in PEM, as far as it stands in one line.
    Pem,
    /// A JSON web token (RFC 7519), signed or encrypted.
    Jwt,
    /// A token that says by its first letters what it is: what it is made of, and how many follow.
    Token(fn(u8) -> bool, usize, usize),
}

const MANY: usize = usize::MAX;

/// Found in any case; those of a `Token` and a `Jwt` count only as they are written here.
const WORDS: &[(&str, Rule)] = &[
    ("password", Rule::Name),
    ("passwd", Rule::Name),
    ("passphrase", Rule::Name),
    ("secret", Rule::Name),
    ("token", Rule::Name),
    ("credential", Rule::Name),
    ("apikey", Rule::Name),
    ("api_key", Rule::Name),
    ("api-key", Rule::Name),
    ("accesskey", Rule::Name),
    ("access_key", Rule::Name),
    ("access-key", Rule::Name),
    ("privatekey", Rule::Name),
    ("private_key", Rule::Name),
    ("private-key", Rule::Name),
    ("authorization", Rule::Authorization),
    ("bearer", Rule::Bearer),
    ("cookie", Rule::Cookie),
    ("://", Rule::Address),
    ("-----BEGIN ", Rule::Pem),
    ("eyJ", Rule::Jwt),
    ("AKIA", Rule::Token(is_upper_or_digit, 16, 16)),
    ("ASIA", Rule::Token(is_upper_or_digit, 16, 16)),
    ("ghp_", Rule::Token(is_alphanumeric, 20, MANY)),
    ("gho_", Rule::Token(is_alphanumeric, 20, MANY)),
    ("ghu_", Rule::Token(is_alphanumeric, 20, MANY)),
    ("ghs_", Rule::Token(is_alphanumeric, 20, MANY)),
    ("ghr_", Rule::Token(is_alphanumeric, 20, MANY)),
    ("github_pat_", Rule::Token(is_word, 20, MANY)),
    ("glpat-", Rule::Token(is_name, 20, MANY)),
    ("xoxa-", Rule::Token(is_name, 10, MANY)),
    ("xoxb-", Rule::Token(is_name, 10, MANY)),
    ("xoxe-", Rule::Token(is_name, 10, MANY)),
    ("xoxo-", Rule::Token(is_name, 10, MANY)),
    ("xoxp-", Rule::Token(is_name, 10, MANY)),
    ("xoxr-", Rule::Token(is_name, 10, MANY)),
    ("xoxs-", Rule::Token(is_name, 10, MANY)),
    ("sk_live_", Rule::Token(is_alphanumeric, 10, MANY)),
    ("sk_test_", Rule::Token(is_alphanumeric, 10, MANY)),
    ("rk_live_", Rule::Token(is_alphanumeric, 10, MANY)),
    ("rk_test_", Rule::Token(is_alphanumeric, 10, MANY)),
    ("pk_live_", Rule::Token(is_alphanumeric, 10, MANY)),
    ("pk_test_", Rule::Token(is_alphanumeric, 10, MANY)),
    ("sk-", Rule::Token(is_name, 20, MANY)),
    ("AIza", Rule::Token(is_name, 30, MANY)),
    ("berth_", Rule::Token(is_lower_hex, 64, 64)),
];

/// Schemes of the header that are left to be seen.
const SCHEMES: [&str; 5] = ["basic", "bearer", "digest", "negotiate", "token"];
/// Most bytes between `Authorization` and what it holds.
const BETWEEN_MAX: usize = 8;

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_name(byte: u8) -> bool {
    is_word(byte) || byte == b'-'
}

fn is_upper_or_digit(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// Finds what usually is a credential.
pub(crate) struct Usual {
    words: AhoCorasick,
}

impl Usual {
    /// # Errors
    /// Never in practice: the words are ours.
    pub(crate) fn new() -> Result<Self, String> {
        let words = WORDS.iter().map(|(word, _)| word);
        AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(words)
            .map(|words| Self { words })
            .map_err(|error| error.to_string())
    }

    /// Adds what is to be hidden in a text.
    pub(crate) fn find(&self, text: &str, hidden: &mut Vec<Span>) {
        let mut look = Look { bytes: text.as_bytes(), hidden_to: 0, name_to: 0, jwt_to: 0 };
        for found in self.words.find_overlapping_iter(text) {
            let (word, rule) = WORDS[found.pattern().as_usize()];
            let span = look.follow(word, rule, found.start(), found.end());
            if let Some((from, to)) = span.filter(|(from, to)| from < to) {
                look.hidden_to = look.hidden_to.max(to);
                hidden.push((from, to));
            }
        }
    }
}

/// One text, and how far it was looked at: what lies before is not looked at again for another word.
struct Look<'a> {
    bytes: &'a [u8],
    hidden_to: usize,
    name_to: usize,
    jwt_to: usize,
}

impl Look<'_> {
    fn follow(&mut self, word: &str, rule: Rule, start: usize, end: usize) -> Option<Span> {
        match rule {
            Rule::Name => self.name(start, end),
            Rule::Authorization => self.authorization(start, end),
            Rule::Bearer => self.bearer(start, end),
            Rule::Cookie => self.cookie(start, end),
            Rule::Address => self.address(start, end),
            Rule::Pem => self.pem(end),
            Rule::Jwt => self.jwt(word, start, end),
            Rule::Token(is, least, most) => {
                if start < self.hidden_to || !self.is_exactly(word, start) {
                    return None;
                }
                let to = self.run(end, is);
                let whole = most == MANY || !self.bytes.get(to).copied().is_some_and(is_word);
                ((least..=most).contains(&(to - end)) && whole).then_some((start, to))
            }
        }
    }

    fn name(&mut self, start: usize, end: usize) -> Option<Span> {
        if start < self.name_to {
            return None;
        }
        let to = self.run(end, is_name);
        self.name_to = to;
        let at = self.separator(self.after_quote(to))?;
        self.value(at)
    }

    fn authorization(&self, start: usize, end: usize) -> Option<Span> {
        let near = &self.bytes[..self.bytes.len().min(end + BETWEEN_MAX + 1)];
        let between = near[end..].iter().position(|byte| is_word(*byte))?;
        if between == 0 || !self.begins(start) {
            return None;
        }
        let mut at = end + between;
        let scheme = self.run(at, is_alphanumeric);
        let after = self.run(scheme, |byte| byte == b' ');
        let known = |known: &&str| self.bytes[at..scheme].eq_ignore_ascii_case(known.as_bytes());
        if after > scheme && SCHEMES.iter().any(|name| known(&name)) {
            at = after;
        }
        self.bare(at)
    }

    fn bearer(&self, start: usize, end: usize) -> Option<Span> {
        let at = self.run(end, |byte| byte.is_ascii_whitespace());
        if at == end || at < self.hidden_to || !self.begins(start) {
            return None;
        }
        let to = self.run(at, |byte| is_alphanumeric(byte) || b"._~+/=-".contains(&byte));
        (to - at >= 8).then_some((at, to))
    }

    fn cookie(&self, start: usize, end: usize) -> Option<Span> {
        if !self.begins(start) {
            return None;
        }
        let at = self.separator(self.after_quote(end))?;
        let quoted = matches!(self.bytes.get(self.run(at, is_backslash)), Some(b'"' | b'\''));
        if quoted {
            return self.value(at);
        }
        (at >= self.hidden_to).then(|| (at, self.run(at, |byte| !matches!(byte, b'\r' | b'\n'))))
    }

    fn address(&self, start: usize, end: usize) -> Option<Span> {
        let scheme = start.checked_sub(1).and_then(|before| self.bytes.get(before));
        if !scheme.copied().is_some_and(is_alphanumeric) {
            return None;
        }
        // No word of this rule lies in here: each address is looked at once.
        let to = self.run(end, |b| !b.is_ascii_whitespace() && !b"/?#\"'<>".contains(&b));
        let authority = &self.bytes[end..to];
        let user = authority.iter().position(|byte| *byte == b':')?;
        let at = authority.iter().rposition(|byte| *byte == b'@')?;
        (user < at).then_some((end + user + 1, end + at))
    }

    fn pem(&self, end: usize) -> Option<Span> {
        let label = self.run(end, |byte| byte.is_ascii_uppercase() || byte == b' ');
        let private = self.bytes[end..label].ends_with(b"PRIVATE KEY");
        let from = label + b"-----".len();
        (private && self.bytes[label..].starts_with(b"-----"))
            .then(|| (from, self.run(from, |byte| byte != b'-')))
    }

    fn jwt(&mut self, word: &str, start: usize, end: usize) -> Option<Span> {
        if start < self.jwt_to || start < self.hidden_to || !self.is_exactly(word, start) {
            return None;
        }
        let mut to = self.run(end, is_name);
        let mut parts = 1;
        while self.bytes.get(to) == Some(&b'.') && to - end >= 4 {
            to = self.run(to + 1, is_name);
            parts += 1;
        }
        self.jwt_to = to;
        (parts >= 3).then_some((start, to))
    }

    /// The end of the bytes from here that are of a kind.
    fn run(&self, from: usize, is: impl Fn(u8) -> bool) -> usize {
        let rest = self.bytes.get(from..).unwrap_or_default();
        from + rest.iter().position(|byte| !is(*byte)).unwrap_or(rest.len())
    }

    /// Nothing of a word stands before.
    fn begins(&self, start: usize) -> bool {
        start.checked_sub(1).and_then(|at| self.bytes.get(at)).is_none_or(|byte| !is_word(*byte))
    }

    fn is_exactly(&self, word: &str, start: usize) -> bool {
        self.bytes[start..].starts_with(word.as_bytes()) && self.begins(start)
    }

    /// After the quote that ends a name, which may be escaped.
    fn after_quote(&self, at: usize) -> usize {
        let quote = self.run(at, is_backslash);
        if matches!(self.bytes.get(quote), Some(b'"' | b'\'')) { quote + 1 } else { at }
    }

    /// After what stands between a name and its value. `::` does not: it is a path.
    fn separator(&self, at: usize) -> Option<usize> {
        let at = self.run(at, |byte| byte.is_ascii_whitespace());
        let rest = &self.bytes[at..];
        let width = match rest {
            [b':', b':', ..] => return None,
            [b'=', b'>' | b'=', ..] | [b':', b'=', ..] => 2,
            [b'=' | b':', ..] => 1,
            _ => return None,
        };
        Some(self.run(at + width, |byte| byte.is_ascii_whitespace()))
    }

    /// A value in quotes, which may be escaped, or a bare one.
    fn value(&self, at: usize) -> Option<Span> {
        if at < self.hidden_to {
            return None;
        }
        let escapes = self.run(at, is_backslash) - at;
        let open = at + escapes;
        match self.bytes.get(open) {
            Some(quote @ (b'"' | b'\'')) => {
                Some((open + 1, self.closing(open + 1, *quote, escapes)))
            }
            _ => self.bare(at),
        }
    }

    /// To where the value ends: at a quote that is escaped no more than the one that opened it. The
    /// line may have been cut before it.
    fn closing(&self, from: usize, quote: u8, escapes: usize) -> usize {
        let mut before = 0;
        for (at, byte) in self.bytes.iter().enumerate().skip(from) {
            if *byte == quote && before <= escapes {
                return at - before;
            }
            before = if is_backslash(*byte) { before + 1 } else { 0 };
        }
        self.bytes.len()
    }

    fn bare(&self, at: usize) -> Option<Span> {
        let ends = |byte: u8| byte.is_ascii_whitespace() || b"\"',;&)}]".contains(&byte);
        (at >= self.hidden_to).then(|| (at, self.run(at, |byte| !ends(byte))))
    }
}

fn is_backslash(byte: u8) -> bool {
    byte == b'\\'
}
