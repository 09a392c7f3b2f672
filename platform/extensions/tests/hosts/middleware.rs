use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use berth_extensions::middleware::{
    Middleware, MiddlewareConfig, MiddlewareError, MiddlewareHost, MiddlewareSink, Reply,
    RequestHead, ResponseHead, Secrets,
};
use berth_extensions::powers::Allowed;
use berth_extensions::{EngineKind, Fault, Limits};
use berth_model::Digest;
use berth_model::extension::{BreakerRules, BreakerState, Capabilities, ExtensionId};

use super::support::{code, digest, guest, within};

#[derive(Default)]
struct Notes {
    lines: Mutex<Vec<(String, String)>>,
    states: Mutex<Vec<BreakerState>>,
}

impl MiddlewareSink for Notes {
    fn line(&self, _: &ExtensionId, level: &str, text: &str) {
        self.lines.lock().unwrap().push((level.to_owned(), text.to_owned()));
    }

    fn state(&self, _: &ExtensionId, _: Digest, state: BreakerState) {
        self.states.lock().unwrap().push(state);
    }
}

impl Notes {
    fn has(&self, level: &str, part: &str) -> bool {
        let lines = self.lines.lock().unwrap();
        lines.iter().any(|(of, text)| of == level && text.contains(part))
    }
}

/// Rules that never come into play, where a test is about something else.
const PATIENT: BreakerRules = BreakerRules {
    faults_max: u32::MAX,
    faults_within_ms: 60_000,
    rest_ms_min: 1,
    rest_ms_max: 1,
    rests_max: u32::MAX,
    rests_within_ms: 60_000,
};

fn everything() -> Capabilities {
    serde_json::from_value(serde_json::json!({
        "counters": {}, "clock": {}, "metrics": {}, "body": { "bytes": "1KiB" },
        "secrets": [{ "name": "one" }], "secrets-read": [{ "name": "one" }],
    }))
    .unwrap()
}

fn config(granted: Capabilities, load: u8) -> MiddlewareConfig {
    MiddlewareConfig {
        load: digest(&[load]),
        extension: "test.guest".parse().unwrap(),
        component: digest(&guest("guest_middleware")),
        allowed: Allowed { asked: everything(), granted },
        config: serde_json::json!({ "a": 1 }),
        secrets: Secrets(vec![("one".to_owned(), b"value of one".to_vec())]),
        limits: Limits::MIDDLEWARE,
        rules: PATIENT,
        quarantined: false,
    }
}

async fn load(host: &MiddlewareHost, config: MiddlewareConfig) -> Middleware {
    let code = code(EngineKind::Extensions, guest("guest_middleware")).await;
    host.load(config, code.as_fd().try_clone_to_owned().unwrap()).await.unwrap()
}

async fn loaded() -> (Arc<Notes>, MiddlewareHost, Middleware) {
    let notes = Arc::new(Notes::default());
    let host = MiddlewareHost::new(Arc::clone(&notes) as Arc<dyn MiddlewareSink>).unwrap();
    let middleware = load(&host, config(everything(), 1)).await;
    (notes, host, middleware)
}

fn head(path: &str) -> RequestHead {
    RequestHead { path: path.to_owned(), host: "app.localhost".to_owned(), ..Default::default() }
}

async fn ask(middleware: &Middleware, path: &str) -> Result<Option<Reply>, MiddlewareError> {
    within("a call", middleware.on_request(head(path))).await.1
}

async fn text(middleware: &Middleware, path: &str) -> String {
    let reply = ask(middleware, path).await.unwrap().expect("a reply");
    String::from_utf8(reply.body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_request_is_seen_and_changed_but_for_what_is_the_hosts() {
    let (_, _, middleware) = loaded().await;
    assert_eq!(text(&middleware, "/seen").await, "GET http app.localhost /seen 0.0.0.0");
    let mut request = head("/forge");
    for name in ["host", "x-forwarded-for", "content-length", "x-secret"] {
        request.headers.insert(name, "1".parse().unwrap());
    }
    let (request, result) = middleware.on_request(request).await;
    assert!(matches!(result, Ok(None)));
    assert_eq!(request.headers["x-refused"], "4");
    assert_eq!(request.headers["x-forwarded-for"], "1");
    assert!(!request.headers.contains_key("x-secret"));
    let (response, result) = middleware.on_response(ResponseHead::default()).await;
    result.unwrap();
    assert_eq!(response.headers["x-passed"], "200");
    assert!(!response.headers.contains_key("transfer-encoding"));
}

#[tokio::test]
async fn each_limit_ends_a_call_leaves_the_request_as_it_was_and_the_next_call_works() {
    let (notes, _, middleware) = loaded().await;
    for (path, fault) in [
        ("/loop", Fault::Cpu),
        ("/trap", Fault::Trap),
        ("/memory", Fault::Memory),
        ("/wait", Fault::Timeout),
        ("/calls", Fault::HostCalls),
        ("/log", Fault::Output),
        ("/exit", Fault::Trap),
        ("/recursion", Fault::Trap),
    ] {
        let started = Instant::now();
        let (request, result) = within(path, middleware.on_request(head(path))).await;
        let took = started.elapsed();
        let Err(MiddlewareError::Guest(error)) = result else { panic!("{path} went on") };
        assert_eq!(error.fault, fault, "{path}: {error}");
        assert!(request.headers.is_empty(), "{path} changed the request");
        assert!(took < Duration::from_millis(500), "{path} took {took:?}");
        assert_eq!(text(&middleware, "/config").await, "{\"a\":1}");
    }
    assert_eq!(middleware.stats().faults, 8);
    assert!(notes.has("error", "asked for") || notes.has("debug", "asked for"));
}

/// With time to make them: a large one takes some.
#[tokio::test]
async fn a_reply_that_cannot_be_sent_is_a_fault_and_one_at_the_limit_is_sent() {
    let host = MiddlewareHost::new(Arc::new(Notes::default())).unwrap();
    let limits = Limits { cpu_ms_max: 1_000, wall_ms_max: 5_000, ..Limits::MIDDLEWARE };
    let middleware = load(&host, MiddlewareConfig { limits, ..config(everything(), 1) }).await;
    for path in ["/status", "/header", "/long", "/wide", "/many"] {
        match ask(&middleware, path).await {
            Err(MiddlewareError::Guest(error)) => assert_eq!(error.fault, Fault::Output, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    let whole = ask(&middleware, "/full").await.unwrap().expect("a reply");
    assert_eq!(whole.body.len(), 1 << 20);
}

/// With the limit out of the way it is another one, or nothing, that ends the call.
#[tokio::test]
async fn each_limit_is_what_ends_the_call_that_it_is_for() {
    const USUAL: Limits = Limits::MIDDLEWARE;
    let host = MiddlewareHost::new(Arc::new(Notes::default())).unwrap();
    let ended = async |path: &str, limits: Limits, load_as: u8| {
        let middleware =
            load(&host, MiddlewareConfig { limits, ..config(everything(), load_as) }).await;
        match ask(&middleware, path).await {
            Err(MiddlewareError::Guest(error)) => Some(error.fault),
            _ => None,
        }
    };
    for (path, fault, without) in [
        ("/loop", Fault::Cpu, Limits { cpu_ms_max: u32::MAX, ..USUAL }),
        ("/more", Fault::Memory, Limits { memory_bytes_max: 64 << 20, ..USUAL }),
        ("/calls", Fault::HostCalls, Limits { host_calls_max: u64::MAX, ..USUAL }),
        ("/log", Fault::Output, Limits { output_bytes_max: u64::MAX, ..USUAL }),
    ] {
        assert_eq!(ended(path, USUAL, 1).await, Some(fault), "{path}");
        assert_ne!(ended(path, without, 2).await, Some(fault), "{path}");
    }
    for wall_ms_max in [50, 500] {
        let started = Instant::now();
        let limits = Limits { wall_ms_max, ..USUAL };
        assert_eq!(ended("/wait", limits, 3).await, Some(Fault::Timeout));
        assert!(started.elapsed() >= Duration::from_millis(wall_ms_max.into()));
    }
}

#[tokio::test]
async fn a_response_filter_that_is_ended_has_changed_nothing() {
    let (_, _, middleware) = loaded().await;
    let response = ResponseHead { path: "/after/trap".to_owned(), ..Default::default() };
    let (response, result) = middleware.on_response(response).await;
    assert!(matches!(result, Err(MiddlewareError::Guest(_))));
    assert!(response.headers.is_empty());
}

#[tokio::test]
async fn an_instance_is_used_again_and_dropped_after_a_thousand_calls() {
    let (_, _, middleware) = loaded().await;
    let path = "/calls-of-instance";
    assert_eq!(text(&middleware, path).await, "1");
    assert_eq!(text(&middleware, path).await, "2");
    for _ in 0..998 {
        ask(&middleware, "/").await.unwrap();
    }
    assert_eq!(text(&middleware, path).await, "1");
}

#[tokio::test]
async fn calls_at_the_same_time_have_instances_of_their_own() {
    let (_, _, middleware) = loaded().await;
    let middleware = Arc::new(middleware);
    let slow: Vec<_> = (0..4)
        .map(|_| {
            let middleware = Arc::clone(&middleware);
            tokio::spawn(async move { ask(&middleware, "/wait").await.is_err() })
        })
        .collect();
    // The clock of the test is one thread: they wait, this one is answered meanwhile.
    tokio::task::yield_now().await;
    assert_eq!(text(&middleware, "/config").await, "{\"a\":1}");
    for ended in slow {
        assert!(within("the end", ended).await.unwrap());
    }
}

#[tokio::test]
async fn one_whose_calls_all_wait_leaves_places_for_the_others() {
    let host = MiddlewareHost::new(Arc::new(Notes::default())).unwrap();
    let limits = Limits { wall_ms_max: 1_000, ..Limits::MIDDLEWARE };
    let slow = load(&host, MiddlewareConfig { limits, ..config(everything(), 1) }).await;
    let extension = "test.neighbour".parse().unwrap();
    let neighbour = load(&host, MiddlewareConfig { extension, ..config(everything(), 2) }).await;
    let slow = Arc::new(slow);
    let waiting: Vec<_> = (0..200)
        .map(|_| {
            let slow = Arc::clone(&slow);
            tokio::spawn(async move { ask(&slow, "/wait").await.is_err() })
        })
        .collect();
    // All of them have begun, or wait for a place.
    tokio::task::yield_now().await;
    for _ in 0..20 {
        assert_eq!(text(&neighbour, "/config").await, "{\"a\":1}");
    }
    for ended in waiting {
        assert!(within("the end", ended).await.unwrap());
    }
    let refused = slow.stats().refused;
    assert!(refused > 100, "{refused} of them were refused in time");
}

#[tokio::test]
async fn a_body_is_seen_up_to_what_was_granted() {
    let (_, _, middleware) = loaded().await;
    let body = |bytes: usize| RequestHead { body: Some(vec![b'a'; bytes].into()), ..head("/body") };
    let shown = async |bytes| {
        let reply = middleware.on_request(body(bytes)).await.1.unwrap().unwrap();
        String::from_utf8(reply.body.to_vec()).unwrap()
    };
    assert_eq!(shown(1024).await, "a".repeat(1024));
    assert_eq!(shown(1025).await, "no body");
}

#[tokio::test]
async fn a_reply_loses_what_is_the_hosts() {
    let (_, _, middleware) = loaded().await;
    let reply = ask(&middleware, "/refuse").await.unwrap().unwrap();
    assert_eq!(reply.status, 403);
    assert_eq!(reply.headers.keys().collect::<Vec<_>>(), ["x-why"]);
}

#[tokio::test]
async fn powers_work_when_granted_and_counts_outlive_a_reload() {
    let (notes, host, middleware) = loaded().await;
    assert_eq!(text(&middleware, "/secret").await, "true false ok");
    assert_eq!(text(&middleware, "/count").await, "1");
    assert_eq!(text(&middleware, "/measure").await, "ok");
    assert_ne!(text(&middleware, "/clock").await, "0");
    ask(&middleware, "/say").await.unwrap();
    assert!(notes.has("warning", "one\\nline"), "{:?}", notes.lines);
    let next = load(&host, config(everything(), 2)).await;
    assert_eq!(text(&next, "/count").await, "2");
    assert_eq!(next.stats().measures.len(), 1);
    assert_eq!(next.stats().load, digest(&[2]));
}

/// The manifest names them, so they are there to import; each call is answered.
#[tokio::test]
async fn what_was_not_granted_is_denied_in_each_call_and_counted() {
    let notes = Arc::new(Notes::default());
    let host = MiddlewareHost::new(Arc::clone(&notes) as Arc<dyn MiddlewareSink>).unwrap();
    let middleware = load(&host, config(Capabilities::default(), 1)).await;
    for (power, denied) in [("/secret", 1), ("/count", 2), ("/measure", 3)] {
        assert_eq!(text(&middleware, power).await, "denied", "{power}");
        assert_eq!(middleware.stats().denied, denied, "{power}");
    }
    for capability in ["secrets", "counters", "metrics"] {
        assert!(notes.has("warning", capability), "{capability}: {:?}", notes.lines);
    }
}

#[tokio::test]
async fn a_secret_that_was_not_granted_is_denied_in_the_call_and_counted() {
    let notes = Arc::new(Notes::default());
    let host = MiddlewareHost::new(Arc::clone(&notes) as Arc<dyn MiddlewareSink>).unwrap();
    let other = serde_json::json!([{ "name": "two" }]);
    let less = Capabilities {
        secrets: serde_json::from_value(other.clone()).unwrap(),
        secrets_read: serde_json::from_value(other).unwrap(),
        ..everything()
    };
    let middleware = load(&host, config(less, 1)).await;
    assert_eq!(text(&middleware, "/secret").await, "denied");
    assert_eq!(middleware.stats().denied, 1);
    assert!(notes.has("warning", "denied"));
}

#[tokio::test]
async fn one_that_fails_too_often_rests_and_is_resumed_with_another_load_of_the_same_component() {
    let notes = Arc::new(Notes::default());
    let host = MiddlewareHost::new(Arc::clone(&notes) as Arc<dyn MiddlewareSink>).unwrap();
    let rules = BreakerRules { faults_max: 2, rests_max: 1, ..BreakerRules::default() };
    let middleware = load(&host, MiddlewareConfig { rules, ..config(everything(), 1) }).await;
    for _ in 0..2 {
        assert!(matches!(ask(&middleware, "/trap").await, Err(MiddlewareError::Guest(_))));
    }
    assert_eq!(*notes.states.lock().unwrap(), [BreakerState::Quarantined]);
    assert!(matches!(ask(&middleware, "/config").await, Err(MiddlewareError::Resting)));
    let again = load(&host, MiddlewareConfig { rules, ..config(everything(), 2) }).await;
    assert!(matches!(ask(&again, "/config").await, Err(MiddlewareError::Resting)));
    let component = middleware.config().component;
    assert!(host.resume(&"test.guest".parse().unwrap(), component));
    assert_eq!(text(&middleware, "/config").await, "{\"a\":1}");
    assert_eq!(text(&again, "/config").await, "{\"a\":1}");
    let quarantined = MiddlewareConfig {
        quarantined: true,
        component: digest(b"another"),
        ..config(everything(), 3)
    };
    let quarantined = load(&host, quarantined).await;
    assert!(matches!(ask(&quarantined, "/config").await, Err(MiddlewareError::Resting)));
}

#[tokio::test]
async fn a_component_of_another_world_is_refused() {
    let host = MiddlewareHost::new(Arc::new(Notes::default())).unwrap();
    let code = code(EngineKind::Extensions, guest("guest_buildpack")).await;
    let refused = host
        .load(config(everything(), 1), code.as_fd().try_clone_to_owned().unwrap())
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("berth:middleware/request-filter@0.1.0"), "{refused}");
}
