//! The host of an extension that is being written: values in memory, a clock that stands still,
//! and requests that are answered from a recording, or sent and written down.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use berth_extensions::outbound::{Allow, Granted, Outbound, SendLimits, Share};
use berth_extensions::powers::{
    Count, HttpRequest, HttpResponse, Level, Measure, MeasureValue, PowerError, PowerHost,
    SecretValue,
};
use berth_model::extension::ExtensionManifest;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};

use super::case::Case;
use super::recording::{Answered, Asked, Exchange, redacted};

/// Longest body of an answer, bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Lines and calls that are kept of one call of an extension.
const KEPT_MAX: usize = 10_000;

/// Where answers to requests come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    /// From the recording; a request that is not in it fails.
    Recorded,
    /// From the servers themselves.
    Sent,
}

/// What an extension said and asked for.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    pub(super) log: Vec<(String, String)>,
    pub(super) calls: Vec<String>,
    pub(super) kv: BTreeMap<String, Vec<u8>>,
    counters: BTreeMap<String, u64>,
    /// Exchanges that are still to come, or that were made.
    pub(super) exchanges: VecDeque<Exchange>,
    /// A request that nothing is known of.
    pub(super) unrecorded: Option<String>,
}

/// The host of one call.
pub(super) struct AuthorHost {
    now_ms: u64,
    quota_bytes: u64,
    secrets: BTreeMap<String, String>,
    answers: Answers,
    outbound: Outbound,
    seen: Mutex<Seen>,
}

struct Judged {
    private: bool,
}

impl Allow for Judged {
    fn allows(&self, _method: &str, _host: &str, _port: u16) -> Option<Granted> {
        Some(Granted { private: self.private })
    }
}

impl AuthorHost {
    pub(super) fn new(
        case: &Case,
        manifest: &ExtensionManifest,
        answers: Answers,
        exchanges: Vec<Exchange>,
    ) -> Arc<Self> {
        let kv = case.kv.iter().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
        let seen = Seen { kv: kv.collect(), exchanges: exchanges.into(), ..Seen::default() };
        Arc::new(Self {
            now_ms: case.now_ms,
            quota_bytes: manifest.capabilities.kv.as_ref().map_or(0, |kv| kv.quota.0),
            secrets: case.secrets.clone(),
            answers,
            outbound: Outbound::new(None),
            seen: Mutex::new(seen),
        })
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> Seen {
        self.state().clone()
    }

    fn state(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, call: String) {
        let mut seen = self.state();
        if seen.calls.len() < KEPT_MAX {
            let call = redacted(&call, &self.secrets);
            seen.calls.push(call);
        }
    }

    /// A line of the log, of a world that has another host.
    pub(super) fn line(&self, level: &str, text: &str) {
        let mut seen = self.state();
        if seen.log.len() < KEPT_MAX {
            let text = redacted(text, &self.secrets);
            seen.log.push((level.to_owned(), text));
        }
    }

    /// The next recorded answer to the request.
    fn recorded(&self, asked: &Asked) -> Result<HttpResponse, PowerError> {
        let mut seen = self.state();
        if let Some(at) = seen.exchanges.iter().position(|known| known.request.is(asked))
            && let Some(exchange) = seen.exchanges.remove(at)
        {
            return Ok(exchange.response.response());
        }
        let text = format!(
            "{} {} with the headers {:?} and the body {:?} is not in the recording",
            asked.method, asked.url, asked.headers, asked.body
        );
        seen.unrecorded = Some(text.clone());
        Err(PowerError::Ended(text.into()))
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, PowerError> {
        let timeout = Duration::from_millis(u64::from(request.timeout_ms));
        let allow = Judged { private: request.private };
        let limits = SendLimits {
            connect: timeout,
            first_byte: timeout,
            between_bytes: timeout,
            response_bytes_max: BODY_BYTES_MAX as u64,
            ..SendLimits::default()
        };
        let mut out = http::Request::builder()
            .method(request.method)
            .uri(request.uri)
            .body(Full::new(Bytes::from(request.body)))
            .map_err(|_| PowerError::failure("invalid", "the request cannot be made", false))?;
        out.headers_mut().extend(request.headers);
        let share = Share::of(1);
        let exchange = async {
            let answer = self
                .outbound
                .send(&share, &allow, out, limits)
                .await
                .map_err(|error| PowerError::failure(error.code(), &error, error.retry()))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|error| {
                PowerError::failure("unreachable", format!("the answer broke off: {error}"), true)
            })?;
            let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                (name.to_string(), value.as_bytes().to_vec())
            };
            Ok(HttpResponse {
                status: head.status.as_u16(),
                headers: head.headers.iter().map(header).collect(),
                body: body.to_bytes().to_vec(),
            })
        };
        let late = |_| PowerError::failure("timeout", "no answer in time", true);
        tokio::time::timeout(timeout, exchange).await.map_err(late)?
    }
}

#[async_trait]
impl PowerHost for AuthorHost {
    fn log(&self, level: Level, text: &str) {
        self.line(level.as_str(), text);
    }

    fn denied(&self, capability: &'static str, what: &str) {
        self.note(format!("denied {capability} {what}"));
    }

    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    async fn kv_get(&self, key: &str) -> Result<Option<Vec<u8>>, PowerError> {
        Ok(self.state().kv.get(key).cloned())
    }

    async fn kv_put(
        &self,
        key: &str,
        value: Vec<u8>,
        _ttl_ms: Option<u64>,
        absent_only: bool,
    ) -> Result<bool, PowerError> {
        self.note(format!("kv.put {key}"));
        let mut seen = self.state();
        if absent_only && seen.kv.contains_key(key) {
            return Ok(false);
        }
        let others: usize = seen
            .kv
            .iter()
            .filter(|(known, _)| known.as_str() != key)
            .map(|(known, value)| known.len() + value.len())
            .sum();
        if (others + key.len() + value.len()) as u64 > self.quota_bytes {
            let text = format!("the quota of {} bytes is used up", self.quota_bytes);
            return Err(PowerError::failure("quota", text, false));
        }
        seen.kv.insert(key.to_owned(), value);
        Ok(true)
    }

    async fn kv_remove(&self, key: &str) -> Result<bool, PowerError> {
        self.note(format!("kv.remove {key}"));
        Ok(self.state().kv.remove(key).is_some())
    }

    async fn kv_keys(&self, prefix: &str, count_max: u32) -> Result<Vec<String>, PowerError> {
        let seen = self.state();
        let keys = seen.kv.keys().filter(|key| key.starts_with(prefix));
        Ok(keys.take(count_max as usize).cloned().collect())
    }

    async fn secret(&self, name: &str) -> Result<Option<SecretValue>, PowerError> {
        Ok(self.secrets.get(name).map(|value| SecretValue(value.clone().into_bytes())))
    }

    async fn http(&self, request: HttpRequest) -> Result<HttpResponse, PowerError> {
        let asked = Asked::of(&request, &self.secrets);
        self.note(format!("http {} {}", asked.method, asked.url));
        if self.answers == Answers::Recorded {
            return self.recorded(&asked);
        }
        let response = self.send(request).await?;
        let answered = Answered::of(&response, &self.secrets);
        self.state().exchanges.push_back(Exchange { request: asked, response: answered });
        Ok(response)
    }

    async fn counter_add(
        &self,
        key: &str,
        amount: u64,
        window_ms: u64,
    ) -> Result<Count, PowerError> {
        let mut seen = self.state();
        let value = seen.counters.entry(key.to_owned()).or_default();
        *value = value.saturating_add(amount);
        Ok(Count { value: *value, resets_in_ms: window_ms })
    }

    async fn emit(&self, name: &str, payload: serde_json::Value) -> Result<(), PowerError> {
        self.note(format!("emit {name} {payload}"));
        Ok(())
    }

    fn measure(&self, measure: Measure) -> Result<(), PowerError> {
        let (verb, value) = match measure.value {
            MeasureValue::Added(by) => ("add", by),
            MeasureValue::Set(to) => ("set", to),
        };
        self.note(format!("metrics.{verb} {} {value}", measure.name));
        Ok(())
    }
}
