//! Middlewares before apps: real components, the real host, real requests.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use berth_extensions::middleware::{MiddlewareConfig, Secrets};
use berth_extensions::powers::Allowed;
use berth_extensions::{AotCache, EngineKind, Limits, MacKey, compile};
use berth_model::extension::{BreakerRules, BreakerState, Capabilities, OnFailure};
use berth_model::{Digest, Route, RouteMiddleware, RouteTable};
use berth_route::{Config, RouteError, RouterClient, RouterEvent};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, client_async};

use crate::support::{App, Router, listeners, route, route_of, soon, text};

/// A component, built for wasm32-wasip2.
fn guest(workspace: &str, name: &str) -> Vec<u8> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let target = BUILT.get_or_init(|| {
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("guests");
        for workspace in ["../extensions/tests/guests", "../../plugins"] {
            let status = Command::new(env!("CARGO"))
                .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(workspace))
                .args(["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2"])
                .env("CARGO_TARGET_DIR", target.join(Path::new(workspace).file_name().unwrap()))
                .env_remove("CARGO_ENCODED_RUSTFLAGS")
                .env_remove("RUSTFLAGS")
                .status()
                .unwrap();
            assert!(status.success(), "{workspace} was not built");
        }
        target
    });
    let folder = target.join(workspace).join("wasm32-wasip2/release");
    std::fs::read(folder.join(format!("{name}.wasm"))).unwrap()
}

fn digest(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest::from_sha256(sha2::Sha256::digest(bytes).into())
}

/// Its code, as the control process has it.
async fn code(wasm: Vec<u8>) -> OwnedFd {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("aot");
    std::fs::create_dir_all(&folder).unwrap();
    let cache = AotCache::open(folder, MacKey::new([7; 32]), "test").unwrap();
    let kind = EngineKind::Extensions;
    let code = cache
        .code(kind, digest(&wasm), async |out| compile(kind, wasm.as_slice(), File::from(out)))
        .await
        .unwrap();
    code.as_fd().try_clone_to_owned().unwrap()
}

/// A middleware of a test.
pub(crate) struct Installed {
    wasm: Vec<u8>,
    config: MiddlewareConfig,
}

impl Installed {
    fn of(wasm: Vec<u8>, id: &str, config: serde_json::Value) -> Self {
        let allowed = serde_json::json!({
            "counters": {}, "clock": {}, "metrics": {}, "body": { "bytes": "1KiB" },
            "secrets": [{ "name": "hs256" }],
            "secrets-read": [{ "name": "users" }],
        });
        let allowed: Capabilities = serde_json::from_value(allowed).unwrap();
        let load = digest(format!("{id}{config}").as_bytes());
        let config = MiddlewareConfig {
            load,
            extension: id.parse().unwrap(),
            component: digest(&wasm),
            allowed: Allowed::all(allowed),
            config,
            secrets: Secrets::default(),
            limits: Limits::MIDDLEWARE,
            rules: BreakerRules { faults_max: 1_000, ..BreakerRules::default() },
            quarantined: false,
        };
        Self { wasm, config }
    }

    pub(crate) fn plugin(name: &str, config: serde_json::Value) -> Self {
        let file = format!("berth_plugin_{}", name.replace('-', "_"));
        Self::of(guest("plugins", &file), &format!("berth.{name}"), config)
    }

    fn hostile() -> Self {
        Self::of(guest("guests", "guest_middleware"), "test.guest", serde_json::json!({}))
    }

    pub(crate) fn secret(mut self, name: &str, value: &str) -> Self {
        self.config.secrets.0.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    async fn load(&self, client: &RouterClient) {
        let code = code(self.wasm.clone()).await;
        soon(client.load(self.config.clone(), code.as_fd())).await.unwrap();
    }

    fn named(&self, on_failure: OnFailure) -> RouteMiddleware {
        RouteMiddleware {
            load: self.config.load,
            extension: self.config.extension.clone(),
            on_failure,
        }
    }
}

fn before(app: &App, chain: Vec<RouteMiddleware>) -> Route {
    Route { middleware: chain, ..route(&[app.target()]) }
}

/// A router with these before `app.localhost`, in order.
pub(crate) async fn behind(app: &App, chain: &[&Installed]) -> Router {
    let router = Router::start().await;
    for installed in chain {
        installed.load(&router.client).await;
    }
    let named = chain.iter().map(|installed| installed.named(OnFailure::Closed)).collect();
    router.publish(vec![before(app, named)]).await;
    router
}

pub(crate) async fn ask(router: &Router, path: &str, headers: &str) -> crate::support::Reply {
    router.ask(&format!("GET {path} HTTP/1.1\r\nHost: app.localhost\r\n{headers}\r\n")).await
}

#[tokio::test]
async fn basic_auth_refuses_and_admits_and_hands_the_name_on() {
    let app = App::mirror().await;
    let config = serde_json::json!({ "realm": "Here", "except": ["/healthz"] });
    let auth = Installed::plugin("basic-auth", config).secret("users", "ann:one\nbob:t:w:o\r\n");
    let router = behind(&app, &[&auth]).await;
    let refused = ask(&router, "/", "").await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("www-authenticate"), Some("Basic realm=\"Here\", charset=\"UTF-8\""));
    assert!(refused.header("x-request-id").is_some());
    assert_eq!(refused.code(), None, "it is no fault of the router");
    // ann:two, ann:one, bob:t:w:o
    for (given, status) in [("YW5uOnR3bw==", 401), ("YW5uOm9uZQ==", 200), ("Ym9iOnQ6dzpv", 200)] {
        let reply = ask(&router, "/", &format!("Authorization: Basic {given}\r\n")).await;
        assert_eq!(reply.status, status, "{given}");
    }
    let headers = "Authorization: basic YW5uOm9uZQ==\r\nX-Auth-User: root\r\n";
    let admitted = ask(&router, "/", headers).await;
    assert!(admitted.text().contains("x-auth-user: ann\n"), "{}", admitted.text());
    assert!(!admitted.text().contains("root") && !admitted.text().contains("authorization"));
    let open = ask(&router, "/healthz?x", "X-Auth-User: root\r\n").await;
    assert_eq!(open.status, 200);
    assert!(!open.text().contains("root"), "{}", open.text());
    for path in ["/healthz/../admin", "/healthz/%2e%2e/admin", "/health"] {
        assert_eq!(ask(&router, path, "").await.status, 401, "{path}");
    }
    let line = router.logged(|line| line["status"] == 401).await;
    assert_eq!(line["extension"], "berth.basic-auth");
    router.end().await;
}

#[tokio::test]
async fn basic_auth_without_its_secret_lets_nobody_in() {
    let app = App::mirror().await;
    let auth = Installed::plugin("basic-auth", serde_json::json!({}));
    let router = behind(&app, &[&auth]).await;
    for headers in ["", "Authorization: Basic Og==\r\n", "Authorization: Basic \r\n"] {
        assert_eq!(ask(&router, "/", headers).await.status, 401, "{headers}");
    }
    router
        .event(|event| match event {
            RouterEvent::Lines { lines, .. } => lines
                .iter()
                .any(|line| line.level == "error" && line.text.contains("nobody is let in"))
                .then_some(()),
            _ => None,
        })
        .await;
    router.end().await;
}

#[tokio::test]
async fn header_rules_change_requests_and_responses_also_of_another_middleware() {
    let app = App::mirror().await;
    let rules = Installed::plugin(
        "header-rules",
        serde_json::json!({
            "request": { "set": { "x-stage": "test", "host": "evil" }, "remove": ["x-debug"] },
            "response": { "set": { "x-frame-options": "DENY" }, "remove": ["server"] },
        }),
    );
    let auth = Installed::plugin("basic-auth", serde_json::json!({}));
    let router = behind(&app, &[&rules]).await;
    let reply = ask(&router, "/", "X-Debug: 1\r\n").await;
    assert!(reply.text().contains("x-stage: test\n") && !reply.text().contains("x-debug"));
    assert!(reply.text().contains("host: app.localhost\n"), "{}", reply.text());
    assert_eq!(reply.header("x-frame-options"), Some("DENY"));
    auth.load(&router.client).await;
    rules.load(&router.client).await;
    let chain = [&rules, &auth].map(|one| one.named(OnFailure::Closed)).to_vec();
    router.publish(vec![before(&app, chain)]).await;
    let refused = ask(&router, "/", "").await;
    assert_eq!((refused.status, refused.header("x-frame-options")), (401, Some("DENY")));
    router.end().await;
}

#[tokio::test]
async fn a_rate_limit_answers_429_with_the_time_to_wait_and_outlives_a_reload() {
    let app = App::saying("mine").await;
    let limit = |requests: u32| {
        let config = serde_json::json!({ "requests": requests, "by-header": "x-key" });
        Installed::plugin("rate-limit", config)
    };
    let router = behind(&app, &[&limit(3)]).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(ask(&router, "/", "X-Key: a\r\n").await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert_eq!(ask(&router, "/", "X-Key: b\r\n").await.status, 200);
    let refused = ask(&router, "/", "X-Key: a\r\n").await;
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let next = limit(6);
    next.load(&router.client).await;
    router.publish(vec![before(&app, vec![next.named(OnFailure::Open)])]).await;
    assert_eq!(ask(&router, "/", "X-Key: a\r\n").await.status, 200, "the sixth of six");
    assert_eq!(ask(&router, "/", "X-Key: a\r\n").await.status, 429);
    router.end().await;
}

#[tokio::test]
async fn what_fails_is_refused_or_goes_on_as_its_installation_says_and_neighbours_go_on() {
    let app = App::mirror().await;
    let hostile = Installed::hostile();
    let router = Router::start().await;
    hostile.load(&router.client).await;
    let open = Route {
        middleware: vec![hostile.named(OnFailure::Open)],
        ..route_of(2, "open.localhost", &[app.target()])
    };
    let plain = route_of(3, "plain.localhost", &[app.target()]);
    let closed = before(&app, vec![hostile.named(OnFailure::Closed)]);
    router.publish(vec![closed, open, plain]).await;
    for path in ["/loop", "/trap", "/memory", "/wait", "/after/trap"] {
        let started = Instant::now();
        let ask = |host: &str| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}.localhost\r\n\r\n");
            let router = &router;
            async move { router.ask(&request).await }
        };
        let (refused, went_on, neighbour) = tokio::join!(ask("app"), ask("open"), ask("plain"));
        assert_eq!((refused.status, refused.code()), (503, Some("middleware")), "{path}");
        assert_eq!(went_on.status, 200, "{path}");
        assert!(path.contains("after") || !went_on.text().contains("x-changed"), "{path}");
        assert_eq!(neighbour.status, 200, "{path}");
        let took = started.elapsed();
        assert!(took < Duration::from_secs(1), "{path} took {took:?}");
    }
    let line = router.logged(|line| line["code"] == "middleware").await;
    assert_eq!(line["extension"], "test.guest");
    router.end().await;
}

#[tokio::test]
async fn one_that_keeps_failing_is_not_called_until_it_is_resumed() {
    let app = App::mirror().await;
    let mut hostile = Installed::hostile();
    hostile.config.rules = BreakerRules { faults_max: 2, rests_max: 1, ..BreakerRules::default() };
    let router = behind(&app, &[&hostile]).await;
    for _ in 0..2 {
        assert_eq!(router.get("/trap").await.code(), Some("middleware"));
    }
    let judged = |event| match event {
        RouterEvent::Breaker { extension, component, state } => Some((extension, component, state)),
        _ => None,
    };
    let (extension, component, state) = router.event(judged).await;
    assert_eq!(state, BreakerState::Quarantined);
    assert_eq!(router.get("/").await.code(), Some("middleware"), "it is not called");
    let late = soon(RouterClient::connect(&router.control)).await.unwrap();
    assert_eq!(late.hello().quarantined, [(extension.clone(), component)]);
    router.client.resume(extension, component).await.unwrap();
    router
        .client
        .publish(&RouteTable {
            generation: 2,
            routes: vec![before(&app, vec![hostile.named(OnFailure::Closed)])],
        })
        .await
        .unwrap();
    assert_eq!(router.get("/").await.status, 200);
    let late = soon(RouterClient::connect(&router.control)).await.unwrap();
    assert!(late.hello().quarantined.is_empty());
    router.end().await;
}

#[tokio::test]
async fn a_router_that_starts_without_the_control_process_refuses_what_it_cannot_protect() {
    let app = App::mirror().await;
    let auth = Installed::plugin("basic-auth", serde_json::json!({})).secret("users", "ann:one");
    let rules = Installed::plugin("header-rules", serde_json::json!({}));
    let router = Router::start().await;
    auth.load(&router.client).await;
    rules.load(&router.client).await;
    let chain = vec![rules.named(OnFailure::Open), auth.named(OnFailure::Closed)];
    let table = vec![before(&app, chain), route_of(2, "plain.localhost", &[app.target()])];
    router.publish(table.clone()).await;
    assert_eq!(router.get("/").await.status, 401);

    let folder = tempfile::tempdir().unwrap();
    let (control, http, address, path) = listeners(&folder).await;
    // The first router's folder goes with it; the snapshot is what the next one starts from.
    let kept = folder.path().join("route");
    std::fs::create_dir(&kept).unwrap();
    let snapshot = router.folder.path().join("route/routes.json");
    std::fs::copy(snapshot, kept.join("routes.json")).unwrap();
    let config = Config::new(kept, "/nonexistent", "next");
    router.end().await;
    let serving = tokio::spawn(berth_route::serve(config, control, http, std::future::pending()));
    let ask = |host: &'static str| async move {
        let mut raw = crate::support::Raw::connect(address).await;
        let credentials = "Authorization: Basic YW5uOm9uZQ==";
        let request = format!("GET / HTTP/1.1\r\nHost: {host}.localhost\r\n{credentials}\r\n\r\n");
        raw.send(request.as_bytes()).await;
        raw.reply().await
    };
    assert_eq!(ask("app").await.code(), Some("middleware"));
    assert_eq!(ask("plain").await.status, 200);
    let client = soon(RouterClient::connect(&path)).await.unwrap();
    assert!(client.hello().middleware.is_empty());
    auth.load(&client).await;
    assert_eq!(ask("app").await.status, 200, "as soon as it is there, without another table");
    assert_eq!(client.hello().generation, 1);
    let again = soon(RouterClient::connect(&path)).await.unwrap();
    assert_eq!(again.hello().middleware, [auth.config.load]);
    client.drain().await.unwrap();
    soon(serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_no_table_names_is_forgotten_and_bad_code_is_refused() {
    let app = App::mirror().await;
    let auth = Installed::plugin("basic-auth", serde_json::json!({}));
    let router = behind(&app, &[&auth]).await;
    router.publish(vec![before(&app, vec![])]).await;
    assert_eq!(router.get("/").await.status, 200);
    let again = soon(RouterClient::connect(&router.control)).await.unwrap();
    assert!(again.hello().middleware.is_empty());
    let not_code = File::open("/proc/self/exe").unwrap();
    let refused = soon(router.client.load(auth.config.clone(), not_code.as_fd())).await;
    assert!(matches!(refused, Err(RouteError::NotLoaded(_))), "{refused:?}");
    router.end().await;
}

#[tokio::test]
async fn a_body_is_shown_up_to_what_was_granted_and_arrives_whole() {
    let app = App::http(|request| async move {
        use http_body_util::BodyExt;
        let shown = request.headers().get("x-body").map(|v| v.to_str().unwrap().to_owned());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        text(format!("{} {}", shown.unwrap_or_default(), body.len()))
    })
    .await;
    let router = behind(&app, &[&Installed::hostile()]).await;
    for (bytes, shown) in [(0, "0"), (5, "5"), (1024, "1024"), (1025, "-1"), (300_000, "-1")] {
        let body = "a".repeat(bytes);
        let start = "POST /body-on HTTP/1.1\r\nHost: app.localhost\r\n";
        let with_length = format!("{start}Content-Length: {bytes}\r\n\r\n{body}");
        let chunk = if bytes == 0 { String::new() } else { format!("{bytes:x}\r\n{body}\r\n") };
        let chunked = format!("{start}Transfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n");
        for request in [with_length, chunked] {
            assert_eq!(router.ask(&request).await.text(), format!("{shown} {bytes}"));
        }
    }
    router.end().await;
}

#[tokio::test]
async fn an_upgrade_passes_the_filters_and_then_flows_freely() {
    let app = App::script(|stream, _| async move {
        let Ok(mut socket) = accept_async(stream).await else { return };
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await;
    let auth = Installed::plugin("basic-auth", serde_json::json!({})).secret("users", "ann:one");
    let rules = Installed::plugin(
        "header-rules",
        serde_json::json!({ "response": { "set": { "x-stage": "test" } } }),
    );
    let router = behind(&app, &[&rules, &auth]).await;
    let stream = router.connect().await.stream;
    assert!(soon(client_async("ws://app.localhost/chat", stream)).await.is_err(), "401");
    let stream = router.connect().await.stream;
    let request = http::Request::builder()
        .uri("ws://app.localhost/chat")
        .header("host", "app.localhost")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("authorization", "Basic YW5uOm9uZQ==")
        .body(())
        .unwrap();
    let (mut socket, answer) = soon(client_async(request, stream)).await.unwrap();
    assert_eq!(answer.headers()["x-stage"], "test");
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(soon(socket.next()).await.unwrap().unwrap(), Message::text("hello"));
    // The end of a router waits for tunnels.
    drop(socket);
    router.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_under_load_fails_no_request_and_the_new_version_answers() {
    let app = App::saying("mine").await;
    let version = |n: u32| {
        let set = serde_json::json!({ "x-version": n.to_string() });
        let config = serde_json::json!({ "response": { "set": set } });
        let mut version = Installed::plugin("header-rules", config);
        // A busy machine is not what this is about.
        version.config.limits =
            Limits { cpu_ms_max: 500, wall_ms_max: 5_000, ..Limits::MIDDLEWARE };
        version
    };
    let router = behind(&app, &[&version(0)]).await;
    let address = router.address;
    let stop = tokio_util::sync::CancellationToken::new();
    let load: Vec<_> = (0..8)
        .map(|_| {
            let stop = stop.clone();
            tokio::spawn(async move {
                let mut raw = crate::support::Raw::connect(address).await;
                let mut answered = 0_u32;
                while !stop.is_cancelled() {
                    let reply = raw.get("/").await;
                    assert_eq!((reply.status, reply.text()), (200, "mine"));
                    assert!(reply.header("x-version").is_some());
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for n in 1..=50 {
        let next = version(n);
        next.load(&router.client).await;
        router.publish(vec![before(&app, vec![next.named(OnFailure::Closed)])]).await;
        let seen = router.get("/").await;
        assert_eq!(seen.header("x-version"), Some(n.to_string().as_str()));
    }
    stop.cancel();
    for task in load {
        assert!(soon(task).await.unwrap() > 0);
    }
    router.end().await;
}
