//! Calls an extension of any kind: its input from JSON, its output as JSON.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use berth_extensions::Extensions;
use berth_extensions::addon::Addon;
use berth_extensions::console::{self, Console};
use berth_extensions::hook::{self, Hook};
use berth_extensions::log_processor::{self, LogProcessor};
use berth_extensions::middleware::{
    Middleware, MiddlewareConfig, MiddlewareError, MiddlewareHost, MiddlewareSink, RequestHead,
    ResponseHead, Secrets,
};
use berth_extensions::policy::{self, Policy};
use berth_extensions::powers::{CallError, Called, Session, Usage};
use berth_model::Digest;
use berth_model::extension::{BreakerState, ExtensionId, Kind};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::case::Case;
use super::component::Component;
use super::host::AuthorHost;
use crate::extensions::page_view;

/// How a call ended.
#[derive(Debug)]
pub(super) enum End {
    Output(Value),
    /// The extension says why not: code and message.
    Error(String, String),
    /// A limit or rule ended it: code and message.
    Fault(String, String),
    /// The host could not do what it asked.
    Host(String),
}

/// A call that is over.
pub(super) struct Ended {
    pub(super) end: End,
    pub(super) usage: Usage,
}

/// A loaded extension.
pub(super) enum Loaded {
    Hook(Hook),
    Policy(Policy),
    Addon(Addon),
    Console(Console),
    LogProcessor(LogProcessor),
    Middleware(Box<Middleware>),
}

impl Loaded {
    /// Compiles and links a component. A middleware is loaded with the case's configuration, as
    /// the router does.
    pub(super) async fn load(
        engine: &Extensions,
        component: &Component,
        case: &Case,
        host: &Arc<AuthorHost>,
    ) -> Result<Self> {
        let code = component.code().await?;
        let allowed = component.allowed();
        Ok(match component.manifest.kind {
            Kind::Hook => Self::Hook(engine.hook(&code, &allowed)?),
            Kind::Policy => Self::Policy(engine.policy(&code, &allowed)?),
            Kind::Console => Self::Console(engine.console(&code, &allowed)?),
            Kind::LogProcessor => Self::LogProcessor(engine.log_processor(&code, &allowed)?),
            Kind::Middleware => {
                let router = MiddlewareHost::new(Arc::new(LogOf(Arc::clone(host))))?;
                let secrets = case
                    .secrets
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone().into_bytes()));
                let config = MiddlewareConfig {
                    load: component.digest,
                    extension: component.manifest.id.clone(),
                    component: component.digest,
                    allowed: (*allowed).clone(),
                    config: (*component.config(&case.config)?).clone(),
                    secrets: Secrets(secrets.collect()),
                    limits: component.limits,
                    rules: berth_model::extension::BreakerRules::default(),
                    quarantined: false,
                };
                let code = std::os::fd::AsFd::as_fd(&code).try_clone_to_owned()?;
                Self::Middleware(Box::new(router.load(config, code).await?))
            }
            Kind::Addon => Self::Addon(engine.addon(&code, &allowed)?),
        })
    }

    /// Whether a call may find the instance of the one before it.
    pub(super) fn is_warm(&self) -> bool {
        matches!(self, Self::Middleware(_))
    }

    /// Calls it once.
    pub(super) async fn call(&self, case: &Case, session: Session) -> Result<Ended> {
        let now_ms = case.now_ms;
        Ok(match self {
            Self::Hook(hook) => {
                let event = Event::from(&case.input)?.event(now_ms);
                ended(hook.on_event(&event, session).await, |()| Value::Null)
            }
            Self::Policy(policy) => {
                let plan = Plan::from(&case.input)?.plan(now_ms);
                ended(policy.judge(&plan, session).await, |verdict| match verdict {
                    policy::Verdict::Allow(remarks) => json!({ "allow": remarks }),
                    policy::Verdict::Deny(reason) => json!({ "deny": reason }),
                })
            }
            Self::Addon(addon) => super::addon::call(addon, &case.input, session).await?,
            Self::Console(console) => match Look::from(&case.input)?.request() {
                None => {
                    let pages = console.pages(session).await.checked(page_view::pages);
                    ended(pages, |pages| json!(pages))
                }
                Some(request) => {
                    let view = console.render(&request, session).await;
                    let view = view.checked(|view| page_view::blocks(&view));
                    ended(view, |blocks| json!({ "blocks": blocks }))
                }
            },
            Self::LogProcessor(processor) => {
                let batch = Batch::from(&case.input)?.entries(now_ms);
                ended(processor.process(&batch, session).await, |output| match output {
                    log_processor::Output::Entries(entries) => {
                        json!({ "entries": entries.iter().map(entry_json).collect::<Vec<_>>() })
                    }
                    log_processor::Output::Frames(frames) => {
                        let text = |frame: &Vec<u8>| String::from_utf8_lossy(frame).into_owned();
                        json!({ "frames": frames.iter().map(text).collect::<Vec<_>>() })
                    }
                })
            }
            Self::Middleware(middleware) => Passing::from(&case.input)?.pass(middleware).await?,
        })
    }
}

/// The log of a middleware, which has a host of its own.
struct LogOf(Arc<AuthorHost>);

impl MiddlewareSink for LogOf {
    fn line(&self, _: &ExtensionId, level: &str, text: &str) {
        self.0.line(level, text);
    }

    fn state(&self, _: &ExtensionId, _: Digest, _: BreakerState) {}
}

pub(super) fn ended<T>(called: Called<T>, output: impl FnOnce(T) -> Value) -> Ended {
    let end = match called.result {
        Ok(value) => End::Output(output(value)),
        Err(CallError::Failure(failure)) => End::Error(failure.code, failure.message),
        Err(CallError::Guest(error)) => End::Fault(error.fault.code().to_owned(), error.message),
        Err(CallError::Host(reason)) => End::Host(reason),
    };
    Ended { end, usage: called.usage }
}

/// Reads an input; what does not fit is named.
pub(super) fn input<'de, T: Deserialize<'de>>(value: &'de Value) -> Result<T> {
    let empty = value.is_null();
    let read = if empty { T::deserialize(json!({})) } else { T::deserialize(value.clone()) };
    read.context("the input does not fit this kind of extension")
}

fn text_of(value: &Value) -> String {
    if value.is_null() { "{}".to_owned() } else { value.to_string() }
}

/// Input of a hook.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    kind: String,
    #[serde(default = "first")]
    id: String,
    #[serde(default = "app")]
    subject: String,
    #[serde(default)]
    payload: Value,
    #[serde(default = "one")]
    attempt: u32,
}

fn first() -> String {
    "event-1".to_owned()
}

fn app() -> String {
    "app:demo".to_owned()
}

const fn one() -> u32 {
    1
}

impl Event {
    fn from(value: &Value) -> Result<Self> {
        input(value)
    }

    fn event(self, at_ms: u64) -> hook::Event {
        hook::Event {
            id: self.id,
            kind: self.kind,
            schema: "1".to_owned(),
            subject: self.subject,
            at_ms,
            payload: text_of(&self.payload),
            attempt: self.attempt,
            extra: Vec::new(),
        }
    }
}

/// Input of a policy.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    #[serde(default = "user")]
    actor: String,
    app: Option<String>,
    team: Option<String>,
    actions: Vec<String>,
    #[serde(default)]
    document: Value,
}

fn user() -> String {
    "user:ada".to_owned()
}

impl Plan {
    fn from(value: &Value) -> Result<Self> {
        input(value)
    }

    fn plan(self, at_ms: u64) -> policy::Plan {
        policy::Plan {
            actor: self.actor,
            app: self.app,
            team: self.team,
            actions: self.actions,
            at_ms,
            document: text_of(&self.document),
            extra: Vec::new(),
        }
    }
}

/// Input of an extension of the console; without a page, the list of pages is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Look {
    page: Option<String>,
    app: Option<String>,
    #[serde(default)]
    state: Value,
}

impl Look {
    fn from(value: &Value) -> Result<Self> {
        input(value)
    }

    fn request(self) -> Option<console::Request> {
        let state = (!self.state.is_null()).then(|| self.state.to_string());
        self.page.map(|page| console::Request { page, app: self.app, state, extra: Vec::new() })
    }
}

/// Input of a log processor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    line: String,
    #[serde(default = "demo")]
    app: String,
    #[serde(default = "web")]
    process: String,
    #[serde(default = "web_1")]
    instance: String,
    #[serde(default = "stdout")]
    stream: String,
    #[serde(default)]
    partial: bool,
}

fn demo() -> String {
    "demo".to_owned()
}

fn web() -> String {
    "web".to_owned()
}

fn web_1() -> String {
    "web.1".to_owned()
}

fn stdout() -> String {
    "stdout".to_owned()
}

impl Batch {
    fn from(value: &Value) -> Result<Self> {
        input(value)
    }

    fn entries(self, now_ms: u64) -> Vec<log_processor::Entry> {
        let entry = |(seq, entry): (usize, Entry)| log_processor::Entry {
            app: entry.app,
            process: entry.process,
            instance: entry.instance,
            stream: entry.stream,
            at_ns: now_ms.saturating_mul(1_000_000),
            seq: seq as u64 + 1,
            line: entry.line,
            partial: entry.partial,
            extra: Vec::new(),
        };
        self.entries.into_iter().enumerate().map(entry).collect()
    }
}

fn entry_json(entry: &log_processor::Entry) -> Value {
    json!({
        "app": entry.app, "process": entry.process, "instance": entry.instance,
        "stream": entry.stream, "seq": entry.seq, "line": entry.line, "partial": entry.partial,
        "extra": entry.extra,
    })
}

/// Input of a middleware: a request, a response, or both.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Passing {
    request: Option<Request>,
    response: Option<Response>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    #[serde(default = "get")]
    method: String,
    #[serde(default = "host")]
    host: String,
    path: String,
    client: Option<IpAddr>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
}

fn get() -> String {
    "GET".to_owned()
}

fn host() -> String {
    "demo.localhost".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Response {
    status: u16,
    #[serde(default)]
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

impl Passing {
    fn from(value: &Value) -> Result<Self> {
        let passing: Self = input(value)?;
        if passing.request.is_none() && passing.response.is_none() {
            bail!("the input of a middleware is [input.request], [input.response] or both");
        }
        Ok(passing)
    }

    async fn pass(self, middleware: &Middleware) -> Result<Ended> {
        let before = middleware.stats();
        let mut output = json!({});
        let mut failed = None;
        if let Some(request) = self.request {
            let (head, result) = middleware.on_request(request.head()?).await;
            output["request"] = json!({ "headers": headers_json(&head.headers) });
            match result {
                Ok(None) => {}
                Ok(Some(reply)) => {
                    output["reply"] = json!({
                        "status": reply.status.as_u16(),
                        "headers": headers_json(&reply.headers),
                        "body": String::from_utf8_lossy(&reply.body),
                    });
                }
                Err(error) => failed = Some(error),
            }
        }
        if let (None, Some(response)) = (&failed, self.response) {
            let head = ResponseHead {
                status: http::StatusCode::from_u16(response.status)?,
                path: response.path,
                headers: headers(&response.headers)?,
            };
            let (head, result) = middleware.on_response(head).await;
            output["response"] = json!({ "headers": headers_json(&head.headers) });
            failed = result.err();
        }
        let after = middleware.stats();
        let usage = Usage {
            cpu_us: after.cpu_us - before.cpu_us,
            wall_us: after.wall_us - before.wall_us,
            ..Usage::default()
        };
        let end = match failed {
            None => End::Output(output),
            Some(MiddlewareError::Guest(error)) => {
                End::Fault(error.fault.code().to_owned(), error.message)
            }
            Some(other) => End::Host(other.to_string()),
        };
        Ok(Ended { end, usage })
    }
}

impl Request {
    fn head(self) -> Result<RequestHead> {
        Ok(RequestHead {
            method: self.method.parse().context("input.request.method")?,
            host: self.host,
            path: self.path,
            client: self.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            headers: headers(&self.headers)?,
            body: self.body.map(Bytes::from),
            ..RequestHead::default()
        })
    }
}

fn headers(given: &BTreeMap<String, String>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let parsed = name.parse::<HeaderName>().with_context(|| format!("the header {name}"))?;
        let value: HeaderValue = value.parse().with_context(|| format!("the header {name}"))?;
        headers.append(parsed, value);
    }
    Ok(headers)
}

fn headers_json(headers: &HeaderMap) -> Value {
    let mut map = serde_json::Map::new();
    for (name, value) in headers {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        map.insert(name.to_string(), Value::String(text));
    }
    Value::Object(map)
}
