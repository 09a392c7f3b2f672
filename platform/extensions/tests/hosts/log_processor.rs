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

use super::support::{code, guest, plugin};

/// A host without powers: these extensions ask for none.
struct Nothing;

fn none<T>() -> Result<T, PowerError> {
    Err(PowerError::unavailable("not in this test"))
}

#[async_trait]
impl PowerHost for Nothing {
    fn log(&self, _: Level, _: &str) {}

    fn denied(&self, _: &'static str, _: &str) {}

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
    load(wasm, &manifest).await
}

/// The processor that does what its first line says, which asks for nothing.
async fn odd() -> Loaded {
    let manifest = r#"
        [extension]
        id = "test.odd"
        version = "0.1.0"
        kind = "log-processor"
        api = "berth:log-processor@0.1.0"
        description = "Does what it is told."
        [capabilities]
        clock = { why = "to test" }
        metrics = { why = "to test" }
    "#;
    let mut odd = load(guest("guest_log_processor"), manifest).await;
    // Linked, and not granted.
    odd.allowed.granted = Default::default();
    odd
}

async fn load(wasm: Vec<u8>, manifest: &str) -> Loaded {
    let manifest = ExtensionManifest::parse(manifest).unwrap();
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

/// What a drain hands over at once of whole lines, and of lines that were cut.
const PART_BYTES: usize = 64 * 1024;
const CUT_BYTES: usize = 768 * 1024;

fn part(line: &str) -> Vec<Entry> {
    let count = PART_BYTES / (line.len() + 160);
    (0..count as u64).map(|seq| entry(seq, line, false)).collect()
}

/// Processor time of a batch, microseconds: the least of three calls, since only this process's own
/// work counts. Their limit is wide: how quick the machine is, is not what is tested.
async fn cost(processor: &Loaded, config: &Value, batch: &[Entry]) -> u64 {
    let mut limits = Limits::asked(processor.manifest.kind, &processor.manifest.limits);
    limits.cpu_ms_max *= 20;
    let mut least = u64::MAX;
    for _ in 0..3 {
        let called = processor.process_within(limits, config.clone(), batch).await;
        assert!(called.result.is_ok(), "{:?}", called.result);
        assert!(called.usage.memory_peak_bytes < limits.memory_bytes_max / 2, "{:?}", called.usage);
        least = least.min(called.usage.cpu_us);
        assert!(lines(called).iter().all(|line| !line.contains("swordfish")));
    }
    least
}

const USUAL: &str = "GET /orders/1234?page=2 200 in 12 ms for 203.0.113.9 ";

#[tokio::test]
async fn no_text_of_the_most_that_a_drain_gives_costs_the_redactor_much_more_than_a_usual_one() {
    let redactor = loaded("redact-secrets").await;
    let cut = |line: &str| -> Vec<Entry> {
        let part = line.repeat(8 * 1024 / line.len());
        let count = (CUT_BYTES / part.len()) as u64;
        (0..count).map(|seq| entry(seq, &part, seq + 1 < count)).collect()
    };
    let none = json!({});
    let (few, many) = (part(&USUAL.repeat(2)), cut(USUAL));
    let (few, many) = (cost(&redactor, &none, &few).await, cost(&redactor, &none, &many).await);
    for line in ["GET /?token=swordfish 200 password: swordfish", "ok"] {
        let used = cost(&redactor, &none, &part(line)).await;
        println!("{line:?}: {used} us beside {few} us");
        assert!(used < 4 * few, "{line:?}: {used} us beside {few} us");
    }
    for line in [
        "token",
        "token=",
        r#"token=\""#,
        "eyJaaaa-",
        "eyJaaaa.",
        "sk-aaaaaaaaaaaaaaaaaaaaaaa ",
        "a://b:c",
        "bearer    ",
        "cookie =",
    ] {
        let used = cost(&redactor, &none, &cut(line)).await;
        println!("{line:?}: {used} us beside {many} us");
        assert!(used < 10 * many, "{line:?}: {used} us beside {many} us");
    }
}

#[tokio::test]
async fn the_most_words_and_patterns_of_ones_own_cost_the_redactor_little() {
    let redactor = loaded("redact-secrets").await;
    let most = |name: &str| -> usize {
        let schema = &redactor.manifest.config_schema;
        schema["properties"][name]["maxItems"].as_u64().unwrap() as usize
    };
    let batch = part(&USUAL.repeat(2));
    let without = cost(&redactor, &json!({}), &batch).await;
    let words: Vec<String> =
        (0..most("words")).map(|n| format!("{n:04}{}", "word".repeat(20))).collect();
    let patterns: Vec<String> =
        (0..most("patterns")).map(|n| format!(r"\b(?:customer|client){n}=(\w+)\b")).collect();
    for config in [json!({ "words": words }), json!({ "patterns": patterns })] {
        let used = cost(&redactor, &config, &batch).await;
        println!("own: {used} us beside {without} us");
        assert!(used < 20 * without, "{used} us beside {without} us: {config}");
    }
}

#[tokio::test]
async fn a_pattern_that_is_none_is_an_error_and_nothing_goes_on() {
    let redactor = loaded("redact-secrets").await;
    let called = redactor.process(json!({ "patterns": ["("] }), &[entry(1, "x", false)]).await;
    assert!(matches!(called.result, Err(CallError::Failure(_))), "{called:?}");
}

/// What becomes of a batch of one line under the limits of the kind.
async fn told(line: &str) -> Called<Output> {
    let odd = odd().await;
    let limits = Limits::of_kind(odd.manifest.kind);
    odd.process_within(limits, json!({}), &[entry(1, line, false)]).await
}

fn fault(called: Called<Output>) -> Fault {
    match called.result {
        Err(CallError::Guest(error)) => error.fault,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_processor_that_loops_is_ended_by_its_processor_time() {
    let called = told("loop").await;
    assert!((50_000..500_000).contains(&called.usage.cpu_us), "{:?}", called.usage);
    assert_eq!(fault(called), Fault::Cpu);
}

#[tokio::test]
async fn a_processor_that_waits_is_ended_by_its_time() {
    let called = told("wait").await;
    assert!((1_000_000..5_000_000).contains(&called.usage.wall_us), "{:?}", called.usage);
    assert_eq!(fault(called), Fault::Timeout);
}

#[tokio::test]
async fn a_processor_that_grows_is_ended_by_its_memory() {
    let odd = odd().await;
    // To fill it takes a slow machine longer than it may.
    let limits =
        Limits { cpu_ms_max: 10_000, wall_ms_max: 20_000, ..Limits::of_kind(odd.manifest.kind) };
    let called = odd.process_within(limits, json!({}), &[entry(1, "memory", false)]).await;
    assert!((24 << 20..=32 << 20).contains(&called.usage.memory_peak_bytes), "{:?}", called.usage);
    assert_eq!(fault(called), Fault::Memory);
}

#[tokio::test]
async fn a_processor_may_call_its_host_sixteen_times() {
    // Instantiation makes a call or two of its own.
    assert!(told("calls 10").await.result.is_ok());
    assert_eq!(fault(told("calls 17").await), Fault::HostCalls);
}

#[tokio::test]
async fn a_processor_writes_no_more_than_64_kib_of_its_own() {
    assert!(told("log 8").await.result.is_ok());
    assert_eq!(fault(told("log 9").await), Fault::Output);
}

#[tokio::test]
async fn a_processor_that_traps_or_fails_gives_nothing() {
    assert_eq!(fault(told("trap").await), Fault::Trap);
    let called = told("error").await;
    let Err(CallError::Failure(failure)) = called.result else { panic!("{called:?}") };
    assert_eq!(failure.message, "asked for");
}

#[tokio::test]
async fn a_processor_gives_at_most_twice_what_it_got_and_64_kib() {
    const FREE: usize = 64 * 1024;
    let refused = async |batch: &[Entry]| {
        let odd = odd().await;
        let limits = Limits::of_kind(odd.manifest.kind);
        match odd.process_within(limits, json!({}), batch).await.result {
            Ok(_) => false,
            Err(CallError::Failure(failure)) => {
                assert_eq!(failure.code, "too-large");
                true
            }
            other => panic!("{other:?}"),
        }
    };
    let batch = |first: String| -> Vec<Entry> {
        let rest = (1..100).map(|seq| entry(seq, &"b".repeat(1000), false));
        [entry(0, &first, false)].into_iter().chain(rest).collect()
    };
    // Each entry counts 128 bytes beside its texts.
    let got = batch("longer 000000".to_owned());
    let got: usize = got.iter().map(|entry| entry.line.len() + 162).sum();
    for (what, most) in [("longer", got + FREE), ("frames", 2 * got + FREE - 64)] {
        assert!(!refused(&batch(format!("{what} {most:06}"))).await, "{what} {most}");
        assert!(refused(&batch(format!("{what} {:06}", most + 1))).await, "{what} {most}");
    }
    // What holds a message counts too.
    assert!(refused(&batch(format!("empty-frames {}", (2 * got + FREE) / 64 + 2))).await);
}

#[tokio::test]
async fn a_processor_has_only_the_powers_that_it_was_granted() {
    assert_eq!(lines(told("measure").await), ["denied"]);
    let called = told("clock").await;
    let Err(CallError::Failure(failure)) = called.result else { panic!("{called:?}") };
    assert_eq!(failure.code, "denied");
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
