//! What an app may do beside answering: requests to the servers that its manifest names, values
//! of its own, and secrets as handles.
//!
//! Takes what the control process said of the app; is the host of the powers that components
//! import, and of `wasi:http/outgoing-handler`. What is refused is said in the app's log. Values
//! are the control process's: while that is away they are `unavailable`, at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use berth_model::extension::{Capabilities, HostPattern, HttpAccess, Kv, Named};
use berth_model::log::LogStream;
use berth_model::manifest::HttpTarget;
use berth_model::size::ByteSize;
use berth_model::{AppId, InstanceId};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};

use super::values::{AppValues, ValueAnswer, ValueCall};
use super::{AppConfig, LogSink};
use crate::limits::Limits;
use crate::outbound::{Allow, Granted, Outbound, OutboundError, ResponseBody, SendLimits, Share};
use crate::powers::{
    Allowed, Count, HttpRequest, HttpResponse, Level, Measure, PowerError, PowerHost, SecretValue,
    Session,
};

/// Connections of one app to other servers at once.
const CONNECTIONS_MAX: usize = 64;
/// Lines about refused and failed requests in one second.
const LINES_MAX: u32 = 20;
/// Longest value.
const VALUE_BYTES_MAX: usize = 256 << 10;
/// Longest answer by the power `http-out`.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Methods by the power `http-out`.
const METHODS: [&str; 7] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];

/// The servers that an app may ask.
struct Servers {
    http: Vec<HttpTarget>,
    private_hosts: Vec<HostPattern>,
}

impl Allow for Servers {
    fn allows(&self, _method: &str, host: &str, port: u16) -> Option<Granted> {
        let named = self.http.iter().any(|target| target.matches(host, port));
        let private = self.private_hosts.iter().any(|pattern| pattern.matches(host));
        named.then_some(Granted { private })
    }
}

/// The powers of one app.
pub(super) struct AppPowers {
    instance: InstanceId,
    app: AppId,
    servers: Servers,
    secrets: Vec<(String, String)>,
    outbound: Outbound,
    share: Share,
    values: Arc<dyn AppValues>,
    log: Arc<dyn LogSink>,
    /// When the present second of lines began, and the lines in it.
    said: Mutex<(Instant, u32)>,
    pub(super) denied: AtomicU64,
}

impl AppPowers {
    pub(super) fn new(
        config: &AppConfig,
        outbound: &Outbound,
        values: Arc<dyn AppValues>,
        log: Arc<dyn LogSink>,
    ) -> Self {
        Self {
            instance: config.instance,
            app: config.app,
            servers: Servers {
                http: config.http.clone(),
                private_hosts: config.private_hosts.clone(),
            },
            secrets: config.secrets.0.clone(),
            outbound: outbound.beside(config.instances),
            share: Share::of(CONNECTIONS_MAX),
            values,
            log,
            said: Mutex::new((Instant::now(), 0)),
            denied: AtomicU64::new(0),
        }
    }

    /// What each request of the app runs with.
    pub(super) fn session(self: Arc<Self>, limits: Limits) -> Option<Session> {
        let access = |target: &HttpTarget| HttpAccess {
            host: target.host().clone(),
            methods: METHODS.map(str::to_owned).to_vec(),
            ports: vec![target.port()],
            // Judged where the request is sent.
            private: false,
            why: String::new(),
        };
        let named = |(name, _): &(String, String)| Named { name: name.clone(), why: String::new() };
        let granted = Capabilities {
            http: self.servers.http.iter().map(access).collect(),
            // How much, the control process knows.
            kv: Some(Kv { quota: ByteSize(u64::MAX), why: String::new() }),
            secrets: self.secrets.iter().map(named).collect(),
            ..Capabilities::default()
        };
        Some(Session {
            extension: "berth.app".parse().ok()?,
            allowed: Arc::new(Allowed::all(granted)),
            config: Arc::new(serde_json::Value::Null),
            host: self,
            limits,
        })
    }

    /// Sends a request for the app, and says in its log when that was refused or failed.
    pub(super) async fn send<B>(
        &self,
        request: Request<B>,
        limits: SendLimits,
    ) -> Result<Response<ResponseBody>, OutboundError>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let sent = self.outbound.send(&self.share, &self.servers, request, limits).await;
        match &sent {
            Ok(_) => {}
            Err(OutboundError::Denied { method, host, port }) => {
                self.denied.fetch_add(1, Ordering::Relaxed);
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                let server = if *port == 443 { host } else { format!("{host}:{port}") };
                self.say(&format!(
                    "{method} to {server} was refused: berth.toml does not name it. To allow it: [wasm] http = [\"{server}\"]"
                ));
            }
            Err(error @ OutboundError::Prohibited { .. }) => {
                self.denied.fetch_add(1, Ordering::Relaxed);
                self.say(&format!("a request was refused: {error}"));
            }
            Err(error) => self.say(&format!("a request to another server failed: {error}")),
        }
        sent
    }

    /// A line in the app's log, unless there are too many.
    fn say(&self, line: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.0.elapsed() > Duration::from_secs(1) {
            *said = (Instant::now(), 0);
        }
        said.1 += 1;
        if said.1 <= LINES_MAX {
            let line = crate::lines::printable(line, 1024);
            self.log.line(self.instance, LogStream::System, &line, false);
        }
    }

    async fn ask(&self, call: ValueCall) -> Result<ValueAnswer, PowerError> {
        match self.values.ask(self.app, call).await {
            ValueAnswer::Failed { code, message, retry } => {
                Err(PowerError::failure(&code, message, retry))
            }
            answer => Ok(answer),
        }
    }
}

/// An answer to another question.
fn unexpected(answer: &ValueAnswer) -> PowerError {
    PowerError::unavailable(format!("the platform gave an unexpected answer: {answer:?}"))
}

fn not_for_apps(power: &str) -> PowerError {
    PowerError::failure("denied", format!("apps do not have the power '{power}'"), false)
}

#[async_trait]
impl PowerHost for AppPowers {
    fn log(&self, _level: Level, text: &str) {
        self.say(text);
    }

    fn denied(&self, capability: &'static str, what: &str) {
        self.denied.fetch_add(1, Ordering::Relaxed);
        self.say(&format!(
            "berth:{capability} was refused: {what}; [wasm] in berth.toml does not allow it"
        ));
    }

    fn now_ms(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    async fn kv_get(&self, key: &str) -> Result<Option<Vec<u8>>, PowerError> {
        match self.ask(ValueCall::Get { key: key.to_owned() }).await? {
            ValueAnswer::Value { value } => Ok(value),
            other => Err(unexpected(&other)),
        }
    }

    async fn kv_put(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
        absent_only: bool,
    ) -> Result<bool, PowerError> {
        if value.len() > VALUE_BYTES_MAX {
            let text = format!("a value has at most {} KiB", VALUE_BYTES_MAX >> 10);
            return Err(PowerError::failure("too-large", text, false));
        }
        let call = ValueCall::Put { key: key.to_owned(), value, ttl_ms, absent_only };
        match self.ask(call).await? {
            ValueAnswer::Done { done } => Ok(done),
            other => Err(unexpected(&other)),
        }
    }

    async fn kv_remove(&self, key: &str) -> Result<bool, PowerError> {
        match self.ask(ValueCall::Remove { key: key.to_owned() }).await? {
            ValueAnswer::Done { done } => Ok(done),
            other => Err(unexpected(&other)),
        }
    }

    async fn kv_keys(&self, prefix: &str, count_max: u32) -> Result<Vec<String>, PowerError> {
        match self.ask(ValueCall::Keys { prefix: prefix.to_owned(), count_max }).await? {
            ValueAnswer::Keys { keys } => Ok(keys),
            other => Err(unexpected(&other)),
        }
    }

    async fn secret(&self, name: &str) -> Result<Option<SecretValue>, PowerError> {
        let found = self.secrets.iter().find(|(known, _)| known == name);
        Ok(found.map(|(_, value)| SecretValue(value.clone().into_bytes())))
    }

    async fn http(&self, request: HttpRequest) -> Result<HttpResponse, PowerError> {
        let whole = Duration::from_millis(u64::from(request.timeout_ms));
        let mut builder = Request::builder().method(request.method).uri(request.uri);
        for (name, value) in request.headers {
            builder = builder.header(name, value);
        }
        let sent = builder.body(Full::from(request.body)).map_err(|_| {
            PowerError::failure("invalid", "the request cannot be put together", false)
        })?;
        let limits = SendLimits { first_byte: whole, between_bytes: whole, ..Default::default() };
        let exchange = async {
            let (parts, body) = self.send(sent, limits).await.map_err(failure)?.into_parts();
            let body = Limited::new(body, usize::try_from(ANSWER_BYTES_MAX).unwrap_or(usize::MAX));
            let body = body.collect().await.map_err(|error| match error.downcast() {
                Ok(error) => failure(*error),
                Err(_) => failure(OutboundError::TooLarge("response", ANSWER_BYTES_MAX)),
            })?;
            let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                (name.as_str().to_owned(), value.as_bytes().to_vec())
            };
            Ok(HttpResponse {
                status: parts.status.as_u16(),
                headers: parts.headers.iter().map(header).collect(),
                body: body.to_bytes().into(),
            })
        };
        let late = || failure(OutboundError::Timeout("the exchange", whole.as_millis()));
        tokio::time::timeout(whole, exchange).await.unwrap_or_else(|_| Err(late()))
    }

    async fn counter_add(&self, _: &str, _: u64, _: u64) -> Result<Count, PowerError> {
        Err(not_for_apps("counters"))
    }

    async fn emit(&self, _: &str, _: serde_json::Value) -> Result<(), PowerError> {
        Err(not_for_apps("events"))
    }

    fn measure(&self, _: Measure) -> Result<(), PowerError> {
        Err(not_for_apps("metrics"))
    }
}

fn failure(error: OutboundError) -> PowerError {
    PowerError::failure(error.code(), &error, error.retry())
}
