//! Keeps the values of secrets out of what people read.
//!
//! Stands between an extension and the one who does what it asks for. Whatever secret the extension
//! opened, its value is replaced where the extension writes it into its log, an event, a measure or
//! an error: by its own words, in what a server sent back, or in the message of a panic. That is
//! for mistakes; who may read a secret can write it down in other words.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde_json::Value;

use super::{
    Count, Failure, HttpRequest, HttpResponse, Level, Measure, PowerError, PowerHost, SecretValue,
    Session,
};
use crate::lines::printable;

/// A shorter value would be found in every other line.
const BYTES_MIN: usize = 4;
/// Of a value of several lines, a shorter line says nothing.
const LINE_BYTES_MIN: usize = 8;

/// The same session, with its powers behind a veil.
pub(crate) fn veiled(session: Session) -> (Session, Arc<Veil>) {
    let veil = Arc::new(Veil { host: Arc::clone(&session.host), hidden: Mutex::default() });
    (Session { host: Arc::clone(&veil) as Arc<dyn PowerHost>, ..session }, veil)
}

/// Another host's powers, behind a veil.
pub(crate) struct Veil {
    host: Arc<dyn PowerHost>,
    hidden: Mutex<Hidden>,
}

/// What is replaced, and the name of the secret; the longest first.
#[derive(Default)]
struct Hidden(Vec<(String, String)>);

impl Hidden {
    fn add(&mut self, name: &str, value: &SecretValue) {
        // What is no text cannot be written into one.
        let Ok(text) = std::str::from_utf8(&value.0) else { return };
        let lines: Vec<&str> = text.trim().lines().map(str::trim).collect();
        let bytes_min = if lines.len() > 1 { LINE_BYTES_MIN } else { BYTES_MIN };
        for line in lines.into_iter().filter(|line| line.len() >= bytes_min) {
            // As it is, and as it stands in a line that was made fit to be shown.
            for form in [line.to_owned(), printable(line, usize::MAX)] {
                if !self.0.iter().any(|(known, _)| *known == form) {
                    self.0.push((form, name.to_owned()));
                }
            }
        }
        self.0.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    }

    fn veiled(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (value, name) in &self.0 {
            if text.contains(value) {
                text = text.replace(value, &format!("[secret {name}]"));
            }
        }
        text
    }
}

impl Veil {
    fn hidden(&self) -> MutexGuard<'_, Hidden> {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn veiled(&self, text: &str) -> String {
        self.hidden().veiled(text)
    }

    /// An error without the values.
    pub(crate) fn veiled_failure(&self, failure: Failure) -> Failure {
        let pair = |(key, value): (String, String)| (self.veiled(&key), self.veiled(&value));
        Failure {
            code: self.veiled(&failure.code),
            message: self.veiled(&failure.message),
            retry: failure.retry,
            extra: failure.extra.into_iter().map(pair).collect(),
        }
    }

    fn veiled_value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.veiled(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.veiled_value(item)).collect(),
            Value::Object(map) => {
                let entry =
                    |(key, item): (String, Value)| (self.veiled(&key), self.veiled_value(item));
                Value::Object(map.into_iter().map(entry).collect())
            }
            plain => plain,
        }
    }
}

#[async_trait]
impl PowerHost for Veil {
    fn log(&self, level: Level, text: &str) {
        self.host.log(level, &self.veiled(text));
    }

    fn denied(&self, capability: &'static str, what: &str) {
        self.host.denied(capability, &self.veiled(what));
    }

    fn now_ms(&self) -> u64 {
        self.host.now_ms()
    }

    async fn kv_get(&self, key: &str) -> Result<Option<Vec<u8>>, PowerError> {
        self.host.kv_get(key).await
    }

    async fn kv_put(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
        absent_only: bool,
    ) -> Result<bool, PowerError> {
        self.host.kv_put(key, value, ttl_ms, absent_only).await
    }

    async fn kv_remove(&self, key: &str) -> Result<bool, PowerError> {
        self.host.kv_remove(key).await
    }

    async fn kv_keys(&self, prefix: &str, count_max: u32) -> Result<Vec<String>, PowerError> {
        self.host.kv_keys(prefix, count_max).await
    }

    async fn secret(&self, name: &str) -> Result<Option<SecretValue>, PowerError> {
        let found = self.host.secret(name).await?;
        if let Some(value) = &found {
            self.hidden().add(name, value);
        }
        Ok(found)
    }

    async fn http(&self, request: HttpRequest) -> Result<HttpResponse, PowerError> {
        self.host.http(request).await
    }

    async fn counter_add(
        &self,
        key: &str,
        amount: u64,
        window_ms: u64,
    ) -> Result<Count, PowerError> {
        self.host.counter_add(key, amount, window_ms).await
    }

    async fn emit(&self, name: &str, payload: Value) -> Result<(), PowerError> {
        self.host.emit(name, self.veiled_value(payload)).await
    }

    fn measure(&self, measure: Measure) -> Result<(), PowerError> {
        let pair = |(key, value): (String, String)| (key, self.veiled(&value));
        let labels = measure.labels.into_iter().map(pair).collect();
        self.host.measure(Measure { labels, ..measure })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hiding(secrets: &[(&str, &str)]) -> impl Fn(&str) -> String + use<> {
        let mut hidden = Hidden::default();
        for (name, value) in secrets {
            hidden.add(name, &SecretValue(value.as_bytes().to_vec()));
        }
        move |text| hidden.veiled(text)
    }

    #[test]
    fn a_value_is_hidden_as_it_is_and_as_it_is_shown() {
        let veiled = hiding(&[("one", "sword\u{7}fish\n")]);
        assert_eq!(veiled("a sword\u{7}fish!"), "a [secret one]!");
        assert_eq!(veiled("a sword\\u{7}fish!"), "a [secret one]!");
        assert_eq!(veiled("a swordfish!"), "a swordfish!");
    }

    #[test]
    fn each_line_of_a_value_is_hidden_but_for_those_that_say_nothing() {
        let key = "-----BEGIN KEY-----\nMIIEvQIBADAN\nBgkq\n-----END KEY-----\n";
        let veiled = hiding(&[("key", key)]);
        assert_eq!(veiled("it is MIIEvQIBADAN"), "it is [secret key]");
        assert_eq!(veiled("Bgkq"), "Bgkq");
    }

    #[test]
    fn a_value_within_another_does_not_uncover_its_rest() {
        let veiled = hiding(&[("short", "hunter"), ("long", "hunter2000"), ("tiny", "abc")]);
        assert_eq!(veiled("hunter2000 hunter abc"), "[secret long] [secret short] abc");
    }
}
