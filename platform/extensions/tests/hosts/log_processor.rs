use std::sync::Arc;

use async_trait::async_trait;
use berth_extensions::log_processor::{Entry, LogProcessor, Output};
use berth_extensions::powers::{
    Allowed, CallError, Called, Count, HttpRequest, HttpResponse, Level, Measure, PowerError,
    PowerHost, SecretValue, Session,
};
use berth_extensions::{EngineKind, Extensions, Fault, Limits};
use berth_model::extension::{ExtensionManifest, OnFailure};
use serde_json::{Value, json};

use super::support::{code, plugin};

/// A host without powers: these extensions ask for none.
struct Nothing;

fn none<T>() -> Result<T, PowerError> {
    Err(PowerError::unavailable("not in this test"))
}

#[async_trait]
impl PowerHost for Nothing {
    fn log(&self, _: Level, _: &str) {}

    fn denied(&self, capability: &'static str, _: &str) {
        panic!("{capability} was asked for");
    }

    fn now_ms(&self) -> u64 {
        0
    }

    async fn kv_get(&self, _: &str) -> Result<Option<Vec<u8>>, PowerError> {
        none()
    }

    async fn kv_put(
        &self,
        _: &str,
        _: Vec<u8>,
        _: Option<u64>,
        _: bool,
    ) -> Result<bool, PowerError> {
        none()
    }

    async fn kv_remove(&self, _: &str) -> Result<bool, PowerError> {
        none()
    }

    async fn kv_keys(&self, _: &str, _: u32) -> Result<Vec<String>, PowerError> {
        none()
    }

    async fn secret(&self, _: &str) -> Result<Option<SecretValue>, PowerError> {
        none()
    }

    async fn http(&self, _: HttpRequest) -> Result<HttpResponse, PowerError> {
        none()
    }

    async fn counter_add(&self, _: &str, _: u64, _: u64) -> Result<Count, PowerError> {
        none()
    }

    async fn emit(&self, _: &str, _: Value) -> Result<(), PowerError> {
        none()
    }

    fn measure(&self, _: Measure) -> Result<(), PowerError> {
        none()
    }
}

struct Loaded {
    processor: LogProcessor,
    manifest: ExtensionManifest,
    allowed: Allowed,
}

async fn loaded(name: &str) -> Loaded {
    let (wasm, manifest) = plugin(name);
    let manifest = ExtensionManifest::parse(&manifest).unwrap();
    let allowed = Allowed::all(manifest.capabilities.clone());
    let code = code(EngineKind::Extensions, wasm).await;
    let processor = Extensions::new().unwrap().log_processor(&code, &allowed).unwrap();
    Loaded { processor, manifest, allowed }
}

impl Loaded {
    async fn process(&self, config: Value, batch: &[Entry]) -> Called<Output> {
        self.process_within(Limits::asked(self.manifest.kind, &self.manifest.limits), config, batch)
            .await
    }

    async fn process_within(
        &self,
        limits: Limits,
        config: Value,
        batch: &[Entry],
    ) -> Called<Output> {
        let session = Session {
            extension: self.manifest.id.clone(),
            allowed: Arc::new(self.allowed.clone()),
            config: Arc::new(config),
            host: Arc::new(Nothing),
            limits,
        };
        self.processor.process(batch, session).await
    }
}

fn entry(seq: u64, line: &str, partial: bool) -> Entry {
    Entry {
        app: "shop".into(),
        process: "web".into(),
        instance: "web.1".into(),
        stream: "stdout".into(),
        at_ns: 1_795_176_123_456_789_012,
        seq,
        line: line.into(),
        partial,
        extra: vec![("instance-id".into(), "ins_1".into())],
    }
}

fn lines(called: Called<Output>) -> Vec<String> {
    match called.result.unwrap() {
        Output::Entries(entries) => entries.into_iter().map(|entry| entry.line).collect(),
        Output::Frames(_) => panic!("frames"),
    }
}

#[tokio::test]
async fn the_redactor_hides_secrets_also_in_a_line_that_was_cut() {
    let redactor = loaded("redact-secrets").await;
    assert_eq!(redactor.manifest.on_failure, OnFailure::Closed);
    let batch = [
        entry(1, "DB_PASSWORD=swordfish starts", false),
        entry(2, "nothing here", false),
        entry(3, "token=sword", true),
        entry(4, "fish ends", false),
    ];
    let shown = lines(redactor.process(json!({}), &batch).await);
    assert_eq!(shown[0], "DB_PASSWORD=[redacted] starts");
    assert_eq!(shown[1], "nothing here");
    assert_eq!(shown[2..].concat(), "token=[redacted] ends");
    let own = json!({ "usual": false, "words": ["nothing"], "replacement": "*" });
    let shown = lines(redactor.process(own, &batch).await);
    assert_eq!(shown[..2], ["DB_PASSWORD=swordfish starts", "* here"]);
}

#[tokio::test]
async fn the_redactor_takes_what_a_drain_gives_it_at_once_within_its_limits() {
    let redactor = loaded("redact-secrets").await;
    let line = "GET /orders/1234?token=swordfish 200 in 12 ms for 203.0.113.9 ".repeat(2);
    let batch: Vec<Entry> = (0..230).map(|seq| entry(seq, &line, false)).collect();
    let called = redactor.process(json!({}), &batch).await;
    let used = called.usage;
    assert!(lines(called).iter().all(|line| !line.contains("swordfish")));
    assert!(used.cpu_us < 100_000, "{used:?}");
}

#[tokio::test]
async fn a_pattern_that_is_none_is_an_error_and_nothing_goes_on() {
    let redactor = loaded("redact-secrets").await;
    let called = redactor.process(json!({ "patterns": ["("] }), &[entry(1, "x", false)]).await;
    assert!(matches!(called.result, Err(CallError::Failure(_))), "{called:?}");
}

#[tokio::test]
async fn a_processor_is_ended_by_the_limit_of_a_batch() {
    let redactor = loaded("redact-secrets").await;
    let limits = Limits {
        fuel_max: 10_000,
        ..Limits::asked(redactor.manifest.kind, &redactor.manifest.limits)
    };
    let called = redactor.process_within(limits, json!({}), &[entry(1, "x", false)]).await;
    let Err(CallError::Guest(error)) = called.result else { panic!("{called:?}") };
    assert_eq!(error.fault, Fault::Cpu);
}

#[tokio::test]
async fn a_processor_gives_at_most_twice_what_it_got_and_a_little() {
    let redactor = loaded("redact-secrets").await;
    let batch: Vec<Entry> = (0..100).map(|seq| entry(seq, &"abcd ".repeat(1000), false)).collect();
    let longer = json!({ "words": ["abcd"], "replacement": "x".repeat(40) });
    let called = redactor.process(longer, &batch).await;
    let Err(CallError::Failure(failure)) = called.result else { panic!("{called:?}") };
    assert_eq!(failure.code, "too-large");
}

#[tokio::test]
async fn the_rfc_5424_drain_makes_frames_with_structured_data_of_its_own() {
    let drain = loaded("rfc5424-drain").await;
    assert_eq!(drain.manifest.on_failure, OnFailure::Open);
    let config = json!({ "facility": 16, "hostname": "prod", "sd_id": "t@41058", "sd_params": { "token": "x" } });
    let called = drain.process(config, &[entry(7, "hello", false)]).await;
    let Output::Frames(frames) = called.result.unwrap() else { panic!("entries") };
    assert_eq!(
        String::from_utf8(frames[0].clone()).unwrap(),
        "<134>1 2026-11-20T12:02:03.456789Z prod shop web.1 stdout [meta sequenceId=\"7\"]\
         [t@41058 instance-id=\"ins_1\" token=\"x\"] hello"
    );
}
