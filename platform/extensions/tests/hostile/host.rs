//! One guest with its powers, and what its calls came to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use berth_extensions::console::{Console, Request};
use berth_extensions::hook::{Event, Hook};
use berth_extensions::log_processor::{Entry, LogProcessor, Output};
use berth_extensions::outbound::{Outbound, Share};
use berth_extensions::policy::{Plan, Policy, Verdict};
use berth_extensions::powers::{
    Allowed, CallError, Called, Count, Failure, HttpRequest, HttpResponse, Level, Measure,
    PowerError, PowerHost, SecretValue, Session, Usage,
};
use berth_extensions::{Extensions, Fault, Limits};
use berth_model::extension::{Capabilities, Kind};
use serde_json::{Value, json};

use super::build::{code, guest, ordinary};

/// Value of the secret that may be used, and of the one that may be read.
pub(crate) const USED: &str = "swordfish-and-chips";
pub(crate) const READ: &str = "correct-horse-battery-staple";

/// A host that remembers what it was asked.
#[derive(Default)]
pub(crate) struct Host {
    pub(crate) lines: Mutex<Vec<(Level, String)>>,
    pub(crate) denied: Mutex<Vec<(&'static str, String)>>,
    pub(crate) events: Mutex<Vec<(String, Value)>>,
    pub(crate) measures: Mutex<Vec<Measure>>,
    pub(crate) sent: Mutex<Vec<HttpRequest>>,
    values: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Nothing: there is one server, which takes every request and never answers.
    outbound: Option<(Outbound, Share)>,
}

impl Host {
    /// One whose requests are sent.
    pub(crate) fn leading_out(outbound: Outbound, share: Share) -> Self {
        Self { outbound: Some((outbound, share)), ..Self::default() }
    }
}

#[async_trait]
impl PowerHost for Host {
    fn log(&self, level: Level, text: &str) {
        self.lines.lock().unwrap().push((level, text.to_owned()));
    }

    fn denied(&self, capability: &'static str, what: &str) {
        self.denied.lock().unwrap().push((capability, what.to_owned()));
    }

    fn now_ms(&self) -> u64 {
        1_795_176_123_456
    }

    async fn kv_get(&self, key: &str) -> Result<Option<Vec<u8>>, PowerError> {
        Ok(self.values.lock().unwrap().get(key).cloned())
    }

    async fn kv_put(
        &self,
        key: &str,
        value: Vec<u8>,
        _: Option<u64>,
        _: bool,
    ) -> Result<bool, PowerError> {
        self.values.lock().unwrap().insert(key.to_owned(), value);
        Ok(true)
    }

    async fn kv_remove(&self, key: &str) -> Result<bool, PowerError> {
        Ok(self.values.lock().unwrap().remove(key).is_some())
    }

    async fn kv_keys(&self, _: &str, _: u32) -> Result<Vec<String>, PowerError> {
        Ok(self.values.lock().unwrap().keys().cloned().collect())
    }

    async fn secret(&self, name: &str) -> Result<Option<SecretValue>, PowerError> {
        let value = if name == "read" { READ } else { USED };
        Ok(Some(SecretValue(value.as_bytes().to_vec())))
    }

    async fn http(&self, request: HttpRequest) -> Result<HttpResponse, PowerError> {
        let Some((outbound, share)) = &self.outbound else {
            self.sent.lock().unwrap().push(request);
            return std::future::pending().await;
        };
        let answer = request.exchange(outbound, share).await;
        answer.map_err(|error| PowerError::failure(error.code(), &error, error.retry()))
    }

    async fn counter_add(&self, _: &str, amount: u64, _: u64) -> Result<Count, PowerError> {
        Ok(Count { value: amount, resets_in_ms: 1 })
    }

    async fn emit(&self, name: &str, payload: Value) -> Result<(), PowerError> {
        self.events.lock().unwrap().push((name.to_owned(), payload));
        Ok(())
    }

    fn measure(&self, measure: Measure) -> Result<(), PowerError> {
        self.measures.lock().unwrap().push(measure);
        Ok(())
    }
}

/// All that a manifest can ask for.
pub(crate) fn everything() -> Capabilities {
    serde_json::from_value(json!({
        "kv": { "quota": "1MiB" },
        "secrets": [{ "name": "used" }],
        "secrets-read": [{ "name": "read" }],
        "http": [{ "host": "api.example", "methods": ["GET"], "ports": [443] }],
        "emit": [{ "name": "done" }],
        "counters": {}, "clock": {}, "metrics": {},
    }))
    .unwrap()
}

enum Callable {
    Hook(Hook),
    Policy(Policy),
    Console(Console),
    LogProcessor(LogProcessor),
}

/// A guest that is loaded.
pub(crate) struct Guest {
    callable: Callable,
    pub(crate) limits: Limits,
    pub(crate) asked: Capabilities,
    pub(crate) granted: Capabilities,
    pub(crate) host: Arc<Host>,
    /// What the event says, of a hook that does what it is told.
    pub(crate) payload: String,
}

/// What a call came to; a value that is given is in words.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) result: Result<String, CallError>,
    pub(crate) usage: Usage,
}

impl Ended {
    /// The limit that ended it.
    #[track_caller]
    pub(crate) fn fault(&self) -> Fault {
        match &self.result {
            Err(CallError::Guest(error)) => error.fault,
            other => panic!("it was not ended: {other:?}"),
        }
    }

    pub(crate) fn message(&self) -> String {
        self.result.as_ref().unwrap_err().to_string()
    }

    /// The error that it was given, or gave.
    #[track_caller]
    pub(crate) fn failure(&self) -> &Failure {
        match &self.result {
            Err(CallError::Failure(failure)) => failure,
            other => panic!("it did not fail: {other:?}"),
        }
    }

    /// How it ended, without what differs from call to call.
    pub(crate) fn outcome(&self) -> String {
        match &self.result {
            Ok(_) => "ok".to_owned(),
            Err(CallError::Failure(failure)) => failure.code.clone(),
            Err(CallError::Guest(error)) => error.fault.to_string(),
            Err(CallError::Host(reason)) => reason.clone(),
        }
    }

    fn of<T>(called: Called<T>, words: impl FnOnce(T) -> String) -> Self {
        Self { result: called.result.map(words), usage: called.usage }
    }
}

impl Guest {
    /// The guest `KIND/NAME`, with everything granted, and the limits of its kind.
    pub(crate) async fn of(extensions: &Extensions, name: &str) -> Self {
        match name.split_once('/').unwrap() {
            ("ordinary", what) => {
                let made = Self::made(extensions, "hook", ordinary()).await;
                Self { payload: what.to_owned(), ..made }
            }
            (kind, _) => Self::made(extensions, kind, guest(name)).await,
        }
    }

    pub(crate) async fn made(extensions: &Extensions, kind: &str, component: Vec<u8>) -> Self {
        let kind: Kind = kind.parse().unwrap();
        let code = code(component).await;
        let allowed = Allowed::all(everything());
        let callable = match kind {
            Kind::Hook => Callable::Hook(extensions.hook(&code, &allowed).unwrap()),
            Kind::Policy => Callable::Policy(extensions.policy(&code, &allowed).unwrap()),
            Kind::Console => Callable::Console(extensions.console(&code, &allowed).unwrap()),
            Kind::LogProcessor => {
                Callable::LogProcessor(extensions.log_processor(&code, &allowed).unwrap())
            }
            Kind::Middleware | Kind::Addon => panic!("they have hosts of their own"),
        };
        Self {
            callable,
            limits: Limits::of_kind(kind),
            asked: everything(),
            granted: everything(),
            host: Arc::default(),
            payload: String::new(),
        }
    }

    /// Has it do its harm.
    pub(crate) async fn attack(&self) -> Ended {
        self.call(true).await
    }

    /// Has it do its work.
    pub(crate) async fn behave(&self) -> Ended {
        self.call(false).await
    }

    async fn call(&self, attack: bool) -> Ended {
        let session = Session {
            extension: "test.guest".parse().unwrap(),
            allowed: Arc::new(Allowed { asked: self.asked.clone(), granted: self.granted.clone() }),
            config: Arc::new(json!({ "a": "b" })),
            host: Arc::clone(&self.host) as Arc<dyn PowerHost>,
            limits: self.limits,
        };
        match &self.callable {
            Callable::Hook(hook) => {
                let event = event(if attack { 1 } else { 2 }, &self.payload);
                Ended::of(hook.on_event(&event, session).await, |()| String::new())
            }
            Callable::Policy(policy) => {
                let called = policy.judge(&plan(u64::from(attack)), session).await;
                Ended::of(called, |verdict| match verdict {
                    Verdict::Allow(remarks) => format!("allow {remarks:?}"),
                    Verdict::Deny(reason) => format!("deny {reason}"),
                })
            }
            Callable::Console(console) => {
                let app = attack.then(|| "shop".to_owned());
                let request =
                    Request { page: "main".to_owned(), app, state: None, extra: Vec::new() };
                Ended::of(console.render(&request, session).await, |view| view)
            }
            Callable::LogProcessor(processor) => {
                let batch = vec![entry(); if attack { 1 } else { 2 }];
                Ended::of(processor.process(&batch, session).await, |output| match output {
                    Output::Entries(entries) => format!("{} entries", entries.len()),
                    Output::Frames(frames) => format!("{} frames", frames.len()),
                })
            }
        }
    }

    /// The lines of its log so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.host.lines.lock().unwrap().iter().map(|(_, line)| line.clone()).collect()
    }
}

fn event(attempt: u32, payload: &str) -> Event {
    Event {
        id: "1".to_owned(),
        kind: "deployment.succeeded".to_owned(),
        schema: "1".to_owned(),
        subject: "app:shop".to_owned(),
        at_ms: 0,
        payload: payload.to_owned(),
        attempt,
        extra: Vec::new(),
    }
}

fn plan(at_ms: u64) -> Plan {
    Plan {
        actor: "user:ann".to_owned(),
        app: Some("shop".to_owned()),
        team: None,
        actions: vec!["release.create".to_owned()],
        at_ms,
        document: "{}".to_owned(),
        extra: Vec::new(),
    }
}

fn entry() -> Entry {
    Entry {
        app: "shop".to_owned(),
        process: "web".to_owned(),
        instance: "web.1".to_owned(),
        stream: "stdout".to_owned(),
        at_ns: 0,
        seq: 1,
        line: "hello".to_owned(),
        partial: false,
        extra: Vec::new(),
    }
}
