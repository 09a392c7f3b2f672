//! Requests that were answered once, and the answers. Secrets are not in it: where a value of one
//! would stand, its name does.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use berth_extensions::powers::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};

/// Shorter values are left: replacing them would only make a riddle of the text.
const SECRET_BYTES_MIN: usize = 4;

/// One exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exchange {
    pub(super) request: Asked,
    pub(super) response: Answered,
}

/// A request, as it is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) url: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) body: String,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answered {
    pub(super) status: u16,
    #[serde(default)]
    pub(super) headers: Vec<(String, String)>,
    #[serde(default)]
    pub(super) body: String,
}

/// Reads a recording; one that is not there is empty.
pub(super) fn read(path: &Path) -> Result<Vec<Exchange>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("cannot read {}", path.display()))?,
    };
    serde_json::from_str(&text).with_context(|| format!("{} is no recording", path.display()))
}

/// Writes a recording.
pub(super) fn write(path: &Path, exchanges: &[Exchange]) -> Result<()> {
    let text = serde_json::to_string_pretty(exchanges)? + "\n";
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

impl Asked {
    pub(super) fn of(request: &HttpRequest, secrets: &BTreeMap<String, String>) -> Self {
        let headers = request
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), redacted(&text(value.as_bytes()), secrets)));
        Self {
            method: request.method.to_string(),
            url: redacted(&request.uri.to_string(), secrets),
            headers: headers.collect(),
            body: redacted(&text(&request.body), secrets),
        }
    }

    /// Whether it is the same request; JSON may be written in any way.
    pub(super) fn is(&self, other: &Self) -> bool {
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
        let body = self.body == other.body
            || json(&self.body).is_some_and(|ours| json(&other.body) == Some(ours));
        body && (&self.method, &self.url, &self.headers)
            == (&other.method, &other.url, &other.headers)
    }
}

impl Answered {
    pub(super) fn of(response: &HttpResponse, secrets: &BTreeMap<String, String>) -> Self {
        let headers = response.headers.iter();
        Self {
            status: response.status,
            headers: headers
                .map(|(name, value)| (name.clone(), redacted(&text(value), secrets)))
                .collect(),
            body: redacted(&text(&response.body), secrets),
        }
    }

    pub(super) fn response(&self) -> HttpResponse {
        HttpResponse {
            status: self.status,
            headers: self
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), bytes(value)))
                .collect(),
            body: bytes(&self.body),
        }
    }
}

/// Marks bytes that are no text.
const BASE64: &str = "base64:";

fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with(BASE64) => text.to_owned(),
        _ => format!("{BASE64}{}", BASE64_STANDARD.encode(bytes)),
    }
}

fn bytes(text: &str) -> Vec<u8> {
    text.strip_prefix(BASE64)
        .and_then(|encoded| BASE64_STANDARD.decode(encoded).ok())
        .unwrap_or_else(|| text.as_bytes().to_vec())
}

/// The text with `${secret:NAME}` for every value of a secret, the longest first.
pub(super) fn redacted(text: &str, secrets: &BTreeMap<String, String>) -> String {
    let mut by_length: Vec<_> =
        secrets.iter().filter(|(_, value)| value.len() >= SECRET_BYTES_MIN).collect();
    by_length.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
    by_length.into_iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(value.as_str(), &format!("${{secret:{name}}}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_named_in_place_of_their_values() {
        let secrets = BTreeMap::from([
            ("a".to_owned(), "token-1".to_owned()),
            ("b".to_owned(), "token-12".to_owned()),
            ("short".to_owned(), "x".to_owned()),
        ]);
        let text = redacted("https://x/token-12?k=token-1", &secrets);
        assert_eq!(text, "https://x/${secret:b}?k=${secret:a}");
    }

    #[test]
    fn a_request_is_the_same_however_its_json_is_written() {
        let asked = |body: &str| Asked {
            method: "POST".to_owned(),
            url: "https://x/".to_owned(),
            headers: BTreeMap::new(),
            body: body.to_owned(),
        };
        assert!(asked("{\"a\": 1, \"b\": 2}").is(&asked("{\"b\":2,\"a\":1}")));
        assert!(!asked("{\"a\":1}").is(&asked("{\"a\":2}")));
        assert!(!asked("a b").is(&asked("a  b")));
    }

    #[test]
    fn bytes_that_are_no_text_come_back_as_they_were() {
        for given in [&b"text"[..], b"\xff\x00", b"base64:AA", b""] {
            assert_eq!(bytes(&text(given)), given, "{given:?}");
        }
    }
}
