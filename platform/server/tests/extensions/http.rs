//! Extensions through the API, as an administrator has them.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use berth_model::Role;
use berth_store::NewToken;
use berthd::http::{BuildpackActions, Platform, router};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::guests::{component, everything_but, hook, manifest};
use crate::packs::Packs;
use crate::rooms::Rooms;
use crate::support::{World, by, compile, does, id};

pub(crate) struct Api {
    pub(crate) world: World,
    address: SocketAddr,
    client: reqwest::Client,
    token: String,
}

impl Api {
    pub(crate) async fn start() -> Self {
        let world = World::new().await;
        let packs = Packs::new(world.store.clone());
        Self::over(world, Box::new(packs)).await
    }

    pub(crate) async fn over(world: World, buildpacks: Box<dyn BuildpackActions>) -> Self {
        let (store, registry) = (world.store.clone(), Box::new(world.registry.clone()));
        let new = NewToken::of_team("ada", store.default_team(), Role::Admin);
        let (_, token) = store.create_token(&new, &by()).await.unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 1));
        let rooms = Arc::new(Rooms::with(store.clone(), registry, buildpacks));
        let platform = Platform::new(store, rooms, berthd::clock::now_ms, Vec::new(), any, any);
        let service = router(Arc::new(platform), axum::Router::new())
            .into_make_service_with_connect_info::<SocketAddr>();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, service).await });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { world, address, client, token }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        self.client.request(method.parse().unwrap(), url).bearer_auth(&self.token)
    }

    pub(crate) async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// What somebody else's token gets.
    pub(crate) async fn get_as(&self, token: &str, path: &str) -> (StatusCode, Value) {
        let request = self.client.get(format!("http://{}{path}", self.address));
        Self::answer(request.bearer_auth(token)).await
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let request = self.request(method, path);
        Self::answer(if body.is_null() { request } else { request.json(&body) }).await
    }

    pub(crate) async fn must(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {answer}");
        answer
    }

    async fn send(&self, query: &str, component: &[u8]) -> (StatusCode, Value) {
        compile(component).await;
        let request = self.request("POST", &format!("/v1/extensions{query}"));
        let request = request.header("content-type", "application/wasm").body(component.to_vec());
        Self::answer(request).await
    }
}

const HOOK: &str = "/v1/extensions/acme.hook";

#[tokio::test]
async fn an_extension_is_reviewed_accepted_and_installed() {
    let api = Api::start().await;
    let (status, review) = api.send("?review=true", &hook("1.0.0")).await;
    assert_eq!(status, 200);
    assert_eq!((&review["id"], &review["kind"]), (&json!("acme.hook"), &json!("hook")));
    let asks = json!({ "what": "keeps up to 1KiB of data", "why": "to remember" });
    assert!(review["asks"].as_array().unwrap().contains(&asks), "{review}");
    assert_eq!(api.must("GET", "/v1/extensions", Value::Null).await["items"], json!([]));

    let (status, problem) = api.send("", &hook("1.0.0")).await;
    assert_eq!((status, &problem["type"]), (StatusCode::CONFLICT, &json!("needs-approval")));
    assert_eq!(problem["review"], review);
    let (status, problem) = api.send("?accept=0123456789abcdef", &hook("1.0.0")).await;
    assert_eq!((status, &problem["type"]), (StatusCode::CONFLICT, &json!("needs-approval")));

    let hash = review["hash"].as_str().unwrap();
    let query = format!("?accept={hash}&apps=hello&config=%7B%22do%22%3A%22kv.get%22%7D");
    let (status, installed) = api.send(&query, &hook("1.0.0")).await;
    assert_eq!(status, 201, "{installed}");
    assert_eq!((&installed["live"], &installed["review"]), (&json!(true), &Value::Null));
    let list = api.must("GET", "/v1/extensions", Value::Null).await;
    assert_eq!(list["items"][0], installed["extension"]);
    assert_eq!(list["items"][0]["apps"], json!(["hello"]));
    assert_eq!(api.world.hook(json!({})).await, "ok");
    let (status, _) = api.send("", &hook("1.0.0")).await;
    assert_eq!(status, 200, "it is not new");

    let details = api.must("GET", HOOK, Value::Null).await;
    assert_eq!(details["config"], does("kv.get"));
    assert_eq!((&details["withheld"], &details["state"]), (&json!([]), &json!("active")));
    assert!(details["granted"].as_array().unwrap().contains(&asks), "{details}");
    assert_eq!(details["grants"][0]["actor"], "ada");
    assert_eq!(details["health"]["breaker"], "healthy");
    assert_eq!(details["health"]["calls"], json!({ "error": 1 }));
    assert!(details["health"]["p99_us"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_component_is_given_back_as_it_was_installed() {
    let api = Api::start().await;
    let component = hook("1.0.0");
    api.world.install(&component, json!({})).await;
    let path = format!("{HOOK}/component");
    let answer = api.request("GET", &path).send().await.unwrap();
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/wasm");
    assert_eq!(header("content-length"), component.len().to_string());
    let digest = STANDARD.encode(Sha256::digest(&component));
    assert_eq!(header("repr-digest"), format!("sha-256=:{digest}:"));
    assert!(answer.bytes().await.unwrap() == component, "the same bytes");
    let (status, _) = api.call("GET", "/v1/extensions/acme.other/component", Value::Null).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn an_update_that_asks_for_more_waits_to_be_granted() {
    let api = Api::start().await;
    api.world.install(&hook("1.0.0"), json!({})).await;
    let more = everything_but("").replace("1KiB", "2KiB");
    let (status, waits) = api.send("", &component("hook", &manifest("hook", "1.1.0", &more))).await;
    assert_eq!((status, &waits["live"]), (StatusCode::OK, &json!(false)));
    assert_eq!(waits["review"]["beyond"], json!(["keeps up to 2KiB of data"]));
    assert_eq!(
        (&waits["extension"]["version"], &waits["extension"]["waiting"]),
        (&json!("1.0.0"), &json!("1.1.0"))
    );
    let details = api.must("GET", HOOK, Value::Null).await;
    assert_eq!(details["review"], waits["review"]);
    let (status, problem) = api.call("POST", &format!("{HOOK}/grant"), json!({})).await;
    assert_eq!((status, &problem["review"]), (StatusCode::CONFLICT, &waits["review"]));
    let grant = json!({ "accept": waits["review"]["hash"] });
    let granted = api.must("POST", &format!("{HOOK}/grant"), grant).await;
    assert_eq!((&granted["version"], &granted["waiting"]), (&json!("1.1.0"), &Value::Null));
    // Less than it asks for, in the place of that.
    let grant = json!({ "granted": { "clock": {} } });
    api.must("POST", &format!("{HOOK}/grant"), grant).await;
    let details = api.must("GET", HOOK, Value::Null).await;
    assert_eq!(details["granted"], json!([{ "what": "knows the time", "why": "" }]));
    assert!(details["withheld"].as_array().unwrap().contains(&json!("keeps up to 2KiB of data")));
    assert_eq!(details["grants"].as_array().unwrap().len(), 3);
    let (status, problem) =
        api.call("POST", &format!("{HOOK}/grant"), json!({ "granted": { "clok": {} } })).await;
    assert_eq!(
        (status, &problem["errors"][0]["pointer"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("/granted"))
    );
}

#[tokio::test]
async fn what_is_wrong_is_said_and_changes_nothing() {
    let api = Api::start().await;
    api.world.install(&hook("1.0.0"), json!({})).await;
    let request = api.request("POST", "/v1/extensions").json(&json!({}));
    assert_eq!(Api::answer(request).await.0, 415);
    let wasm = |bytes: Vec<u8>| {
        let request = api.request("POST", "/v1/extensions");
        Api::answer(request.header("content-type", "application/wasm").body(bytes))
    };
    let (status, problem) = wasm(b"no component".to_vec()).await;
    assert_eq!(
        (status, &problem["errors"][0]["pointer"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("component"))
    );
    assert_eq!(wasm(vec![0; (64 << 20) + 1]).await.0, 413);
    let (status, problem) = api.send("?config=%7B", &hook("1.0.0")).await;
    assert_eq!(
        (status, &problem["errors"][0]["pointer"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("config"))
    );
    assert_eq!(api.send("?apps=nobody", &hook("1.0.0")).await.0, 404);
    let (status, problem) = api.call("PUT", &format!("{HOOK}/config"), json!([])).await;
    assert_eq!(
        (status, &problem["errors"][0]["pointer"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("config"))
    );
    let secret = format!("{HOOK}/secrets/three");
    assert_eq!(api.call("PUT", &secret, json!({ "value": "x" })).await.0, 409);
    assert_eq!(api.call("DELETE", &secret, Value::Null).await.0, 404);
    for path in ["/v1/extensions/acme.none", "/v1/extensions/NO"] {
        assert_eq!(api.call("GET", path, Value::Null).await.0, 404, "{path}");
    }
    assert_eq!(api.world.events("extension.changed").await, []);
}

#[tokio::test]
async fn a_secret_is_set_and_never_shown() {
    let api = Api::start().await;
    api.world.install(&hook("1.0.0"), json!({})).await;
    let path = format!("{HOOK}/secrets/two");
    let (status, _) = api.call("PUT", &path, json!({ "value": "swordfish" })).await;
    assert_eq!(status, 204);
    assert_eq!(api.world.hook(json!({ "do": "secrets.open", "name": "two" })).await, "ok");
    let details = api.must("GET", HOOK, Value::Null).await;
    let shown = json!([{ "name": "one", "set": false }, { "name": "two", "set": true }]);
    assert_eq!(details["secrets"], shown);
    let events = api.must("GET", "/v1/events?limit=200", Value::Null).await;
    let log = api.must("GET", &format!("{HOOK}/log"), Value::Null).await;
    for text in [details, events, log] {
        assert!(!text.to_string().contains("swordfish"), "{text}");
    }
    assert_eq!(api.call("DELETE", &path, Value::Null).await.0, 204);
    assert_eq!(api.world.hook(json!({ "do": "secrets.open", "name": "two" })).await, "not-found");
}

#[tokio::test]
async fn how_an_extension_does_is_shown_and_measured() {
    let api = Api::start().await;
    api.world.install(&hook("1.0.0"), json!({})).await;
    assert_eq!(api.world.hook(does("metrics.add")).await, "ok");
    assert_eq!(api.world.hook(does("metrics.set")).await, "ok");
    api.world.hook(does("trap")).await;
    api.world.hook(json!({ "do": "emit", "name": "other" })).await;
    let health = api.must("GET", HOOK, Value::Null).await["health"].clone();
    assert_eq!(health["calls"], json!({ "error": 3, "trap": 1 }));
    assert_eq!((&health["denied"], &health["refused"]), (&json!(1), &json!(0)));
    assert!(health["cpu_us"].as_u64().unwrap() > 0);
    assert!(health["memory_peak_bytes"].as_u64().unwrap() >= 65_536);

    let answer = api.request("GET", "/metrics").send().await.unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let text = answer.text().await.unwrap();
    for line in [
        "# TYPE berth_extension_calls_total counter",
        "berth_extension_info{extension=\"acme.hook\",kind=\"hook\",version=\"1.0.0\",state=\"active\"} 1",
        "berth_extension_calls_total{extension=\"acme.hook\",outcome=\"error\"} 3",
        "berth_extension_calls_total{extension=\"acme.hook\",outcome=\"trap\"} 1",
        "berth_extension_denied_total{extension=\"acme.hook\"} 1",
        "berth_extension_refused_total{extension=\"acme.hook\"} 0",
        "berth_extension_loads_total{extension=\"acme.hook\"} 1",
        "berth_extension_broken{extension=\"acme.hook\"} 0",
        "berth_extension_breaker_state{extension=\"acme.hook\"} 0",
        "berth_extension_duration_seconds_bucket{extension=\"acme.hook\",le=\"+Inf\"} 4",
        "berth_extension_duration_seconds_count{extension=\"acme.hook\"} 4",
        "# TYPE berth_extension_own_seen_total counter",
        "berth_extension_own_seen_total{extension=\"acme.hook\"} 1",
        "# TYPE berth_extension_own_level gauge",
        "berth_extension_own_level{extension=\"acme.hook\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
    for name in ["berth_extension_cpu_seconds_total", "berth_extension_memory_peak_bytes"] {
        let line = text.lines().find(|line| line.starts_with(&format!("{name}{{"))).unwrap();
        assert!(line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() > 0.0, "{line}");
    }
}

#[tokio::test]
async fn an_extension_is_switched_off_resumed_and_removed() {
    let api = Api::start().await;
    api.world.install(&hook("1.0.0"), json!({})).await;
    let off = api.must("POST", &format!("{HOOK}/disable"), Value::Null).await;
    assert_eq!(off["state"], "disabled");
    assert_eq!(api.world.hook(does("trap")).await, "nothing");
    let on = api.must("POST", &format!("{HOOK}/resume"), Value::Null).await;
    assert_eq!(on["state"], "active");
    assert_eq!(api.world.hook(does("kv.get")).await, "ok");
    let off = api.must("POST", "/v1/extensions/disable", Value::Null).await;
    assert_eq!(off, json!(["acme.hook"]));
    let apps = json!({ "apps": ["hello"] });
    assert_eq!(api.must("PUT", &format!("{HOOK}/apps"), apps).await["apps"], json!(["hello"]));
    let replayed = api.must("POST", &format!("{HOOK}/replay"), json!({})).await;
    assert_eq!(replayed, json!({ "events": 0 }));
    let waiting = api.must("GET", &format!("{HOOK}/deliveries"), Value::Null).await;
    assert_eq!(waiting["items"], json!([]));
    assert_eq!(api.call("DELETE", HOOK, Value::Null).await.0, 204);
    assert_eq!(api.call("GET", HOOK, Value::Null).await.0, 404);
    assert!(api.world.registry.health(&id("acme.hook")).is_none());
}

#[tokio::test]
async fn its_log_is_read_and_followed() {
    use futures_util::StreamExt;
    let api = Api::start().await;
    api.world.install(&hook("1.0.0"), json!({})).await;
    api.world.hook(json!({ "do": "log", "text": "first" })).await;
    api.world.logged("acme.hook", "ok").await;
    let log = api.must("GET", &format!("{HOOK}/log?lines=1"), Value::Null).await;
    assert_eq!(
        (&log["items"][0]["line"], &log["items"][0]["level"]),
        (&json!("ok"), &json!("error"))
    );
    let stream = api.request("GET", &format!("{HOOK}/log?follow=true")).send().await.unwrap();
    let mut stream = stream.bytes_stream();
    let mut text = String::new();
    let mut until = async |what: &str| {
        while !text.contains(what) {
            let part = crate::support::within(what, stream.next()).await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(&part).unwrap());
        }
    };
    until("first").await;
    api.world.hook(json!({ "do": "log", "text": "second" })).await;
    until("second").await;
}
