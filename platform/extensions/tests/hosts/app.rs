use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_extensions::app::NoValues;
use berth_extensions::{
    AppConfig, AppError, AppHost, AppHostOptions, EngineKind, Env, Fault, Limits, LoadError, Pool,
};
use berth_model::log::LogStream;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};

use super::support::{Log, app, code, digest, eventually, guest, instance, powers, sample, within};

struct Apps {
    host: Arc<AppHost>,
    log: Log,
}

const SMALL: AppHostOptions = AppHostOptions {
    pool: Pool { memories: 8, memory_bytes_max: 256 << 20 },
    memory_bytes_max: 1 << 30,
    requests_per_app_max: 4,
    queue_per_app_max: 8,
    queue_wait_ms_max: 5_000,
};

impl Apps {
    fn new(options: AppHostOptions) -> Self {
        let log = Log::default();
        Self {
            host: Arc::new(
                AppHost::new(options, Arc::new(log.clone()), Arc::new(NoValues)).unwrap(),
            ),
            log,
        }
    }

    async fn load(&self, limits: Limits) {
        self.load_component(guest("guest_app"), limits).await;
    }

    async fn load_component(&self, wasm: Vec<u8>, limits: Limits) {
        let config = AppConfig {
            env: Env(vec![("GREETING".to_owned(), "hello from the environment".to_owned())]),
            ..AppConfig::alone(instance(1), app(), digest(&wasm), limits)
        };
        self.host.load(config, code(EngineKind::Apps, wasm).await).unwrap();
    }

    async fn with(limits: Limits) -> Self {
        let apps = Self::new(SMALL);
        apps.load(limits).await;
        apps
    }

    async fn get(&self, path: &str) -> Result<Response<berth_extensions::app::AppBody>, AppError> {
        within(path, self.host.serve(instance(1), request(Method::GET, path))).await
    }

    async fn fault(&self, path: &str) -> Fault {
        match self.get(path).await.err().expect(path) {
            AppError::Guest(error) => error.fault,
            other => panic!("{path}: {other}"),
        }
    }

    fn active(&self) -> u32 {
        self.host.stats()[0].active
    }
}

fn request(method: Method, path: &str) -> Request<Empty<Bytes>> {
    let builder = Request::builder().method(method).uri(path).header("host", "app.localhost");
    builder.body(Empty::new()).unwrap()
}

async fn text<B: http_body::Body>(response: Response<B>) -> String
where
    B::Error: std::fmt::Debug,
{
    let bytes = within("the body", response.into_body().collect()).await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_request_is_answered_with_the_apps_environment_and_its_output_is_logged() {
    let apps = Apps::with(Limits::APP).await;
    let response = apps.get("/hello").await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(response).await, "hello from the environment");
    eventually("the guest ends", || apps.active() == 0).await;
    assert_eq!(apps.log.of(LogStream::Stdout), ["hello from stdout"]);
    assert_eq!(apps.log.of(LogStream::Stderr), ["hello from stderr"]);
    assert_eq!(apps.host.stats()[0].requests, 1);
    assert_eq!(apps.host.stats()[0].failures, 0);
    assert!(apps.host.stats()[0].cpu_us > 0);
    assert!(apps.host.stats()[0].memory_peak_bytes >= 1 << 16);
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let apps = Apps::with(Limits::APP).await;
    let (pieces, body) = tokio::sync::mpsc::channel::<Bytes>(1);
    let stream = futures_channel(body);
    let sent = Request::post("/echo").header("host", "x").body(stream).unwrap();
    let mut answer =
        within("the head", apps.host.serve(instance(1), sent)).await.unwrap().into_body();
    // Each piece comes back before the next one is sent, so nothing waits for the whole.
    for number in 0..20 {
        let piece = Bytes::from(format!("{number:0>10000}"));
        pieces.send(piece.clone()).await.unwrap();
        let mut back = Vec::new();
        while back.len() < piece.len() {
            let frame = within("a piece", answer.frame()).await.unwrap().unwrap();
            back.extend_from_slice(&frame.into_data().unwrap());
        }
        assert_eq!(back, piece);
    }
    drop(pieces);
    assert!(within("the end", answer.frame()).await.is_none());
}

/// A body of what comes through a channel.
fn futures_channel(mut pieces: tokio::sync::mpsc::Receiver<Bytes>) -> BoxBody<Bytes, Infallible> {
    let stream = futures_util::stream::poll_fn(move |context| {
        pieces.poll_recv(context).map(|piece| piece.map(|piece| Ok(http_body::Frame::data(piece))))
    });
    BodyExt::boxed(StreamBody::new(stream))
}

#[tokio::test]
async fn a_large_body_is_not_kept_in_the_host() {
    let apps = Apps::with(Limits::APP).await;
    let whole = vec![7; 8 << 20];
    let sent = Request::post("/echo").header("host", "x").body(Full::from(whole.clone())).unwrap();
    let answer = within("the head", apps.host.serve(instance(1), sent)).await.unwrap();
    let back = within("the body", answer.into_body().collect()).await.unwrap().to_bytes();
    assert!(back == whole, "{} bytes came back", back.len());
}

#[tokio::test]
async fn the_host_header_and_berths_own_headers_stay_with_the_platform() {
    let apps = Apps::with(Limits::APP).await;
    let response = apps.get("/headers").await.unwrap();
    assert!(response.headers().get("berth-error").is_none());
    assert_eq!(response.headers()["x-own"], "yes");
    assert_eq!(text(response).await, "");
}

#[tokio::test]
async fn a_loop_ends_with_its_processor_time_and_the_host_goes_on() {
    let apps = Apps::with(Limits { cpu_ms_max: 60, ..Limits::APP }).await;
    assert_eq!(apps.fault("/loop").await, Fault::Cpu);
    assert_eq!(apps.get("/hello").await.unwrap().status(), StatusCode::OK);
    let said = apps.log.of(LogStream::System);
    assert!(said[0].starts_with("GET /loop failed: the component used up its processor time"));
}

#[tokio::test]
async fn a_guest_that_reads_the_clock_for_ever_ends_too() {
    let apps = Apps::with(Limits { cpu_ms_max: 60, ..Limits::APP }).await;
    assert_eq!(apps.fault("/clock").await, Fault::Cpu);
    let apps = Apps::with(Limits { host_calls_max: 10_000, ..Limits::APP }).await;
    assert_eq!(apps.fault("/clock").await, Fault::HostCalls);
}

#[tokio::test]
async fn a_guest_that_waits_for_ever_is_a_timeout() {
    let apps = Apps::with(Limits { reply_ms_max: 60, ..Limits::APP }).await;
    let error = apps.get("/wait").await.err().unwrap();
    assert_eq!((error.code(), error.status()), ("timeout", StatusCode::GATEWAY_TIMEOUT));
    let apps = Apps::with(Limits { wall_ms_max: 60, ..Limits::APP }).await;
    assert_eq!(apps.fault("/wait").await, Fault::Timeout);
    eventually("the guest is gone", || apps.active() == 0).await;
}

#[tokio::test]
async fn traps_recursion_memory_and_exits_end_one_request_only() {
    let apps = Apps::with(Limits { memory_bytes_max: 16 << 20, ..Limits::APP }).await;
    for (path, expected) in [
        ("/trap", Fault::Trap),
        ("/recursion", Fault::Trap),
        ("/exit", Fault::Trap),
        ("/nothing", Fault::Trap),
        ("/switch", Fault::Trap),
        ("/handles", Fault::Trap),
        ("/random", Fault::Trap),
        ("/mem", Fault::Memory),
    ] {
        assert_eq!(apps.fault(path).await, expected, "{path}");
    }
    assert_eq!(apps.get("/hello").await.unwrap().status(), StatusCode::OK);
    let said = apps.log.of(LogStream::System).join("\n");
    assert!(said.contains("exit code 1"), "{said}");
    assert!(said.contains("memory of 16 MiB"), "{said}");
    assert!(said.contains("GET /nothing failed: the component ended without an answer"), "{said}");
    assert_eq!(apps.host.stats()[0].failures, 8);
}

#[tokio::test]
async fn a_trap_after_the_head_cuts_the_body_instead_of_ending_it() {
    let apps = Apps::with(Limits::APP).await;
    let response = apps.get("/cut").await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let cut = within("the body", response.into_body().collect()).await.unwrap_err();
    assert!(cut.to_string().contains("ended early"), "{cut}");
}

#[tokio::test]
async fn a_client_that_goes_away_stops_the_guest() {
    let apps = Apps::with(Limits::APP).await;
    // Before the head...
    let waiting = tokio::spawn({
        let host = Arc::clone(&apps.host);
        async move { host.serve(instance(1), request(Method::GET, "/wait")).await.is_ok() }
    });
    eventually("the guest runs", || apps.active() == 1).await;
    waiting.abort();
    eventually("the guest is gone", || apps.active() == 0).await;
    // ...and in the middle of the body.
    let mut response = apps.get("/stall").await.unwrap();
    let first = within("a piece", response.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "begun");
    assert_eq!(apps.active(), 1);
    drop(response);
    eventually("the guest is gone", || apps.active() == 0).await;
}

#[tokio::test]
async fn a_guest_may_go_on_after_its_response() {
    let apps = Apps::with(Limits::APP).await;
    assert_eq!(text(apps.get("/late").await.unwrap()).await, "answer");
    eventually("the line", || apps.log.of(LogStream::Stdout) == ["after the answer"]).await;
}

#[tokio::test]
async fn output_over_the_limit_is_dropped_with_a_word_and_the_request_goes_on() {
    let apps = Apps::with(Limits { output_bytes_max: 10_000, ..Limits::APP }).await;
    assert_eq!(text(apps.get("/noise").await.unwrap()).await, "made noise");
    eventually("the guest ends", || apps.active() == 0).await;
    let lines = apps.log.of(LogStream::Stdout);
    assert!(lines.iter().map(String::len).sum::<usize>() <= 10_000);
    assert!(apps.log.of(LogStream::System)[0].contains("more than 10000 bytes"));
}

#[tokio::test]
async fn an_app_has_no_files_no_sockets_no_names_and_no_outbound_requests() {
    let apps = Apps::with(Limits::APP).await;
    let world = text(apps.get("/world").await.unwrap()).await;
    assert!(world.starts_with("files refused: true, sockets: "), "{world}");
    assert!(world.contains("ermission") || world.contains("enied"), "{world}");
    assert!(world.ends_with("names refused: true, arguments: 0"), "{world}");
    let outbound = text(apps.get("/outbound").await.unwrap()).await;
    assert!(outbound.contains("HttpRequestDenied"), "{outbound}");
}

#[tokio::test]
async fn an_idle_app_is_unmapped_and_comes_back() {
    let apps = Apps::with(Limits::APP).await;
    assert!(apps.host.stats()[0].mapped);
    assert_eq!(apps.host.unmap_idle(Duration::from_secs(3600)), 0);
    let mut stalled = apps.get("/stall").await.unwrap();
    assert_eq!(apps.host.unmap_idle(Duration::ZERO), 0, "it is in use");
    let _ = within("a piece", stalled.body_mut().frame()).await;
    drop(stalled);
    eventually("it is idle", || apps.host.unmap_idle(Duration::ZERO) == 1).await;
    assert!(!apps.host.stats()[0].mapped);
    assert_eq!(text(apps.get("/hello").await.unwrap()).await, "hello from the environment");
    assert!(apps.host.stats()[0].mapped);
}

#[tokio::test]
async fn an_app_that_was_unloaded_is_not_found_and_its_requests_end_well() {
    let apps = Apps::with(Limits::APP).await;
    let response = apps.get("/late").await.unwrap();
    assert!(apps.host.unload(instance(1)));
    assert!(!apps.host.unload(instance(1)));
    assert_eq!(text(response).await, "answer");
    let error = apps.get("/hello").await.err().unwrap();
    assert_eq!((error.code(), error.status()), ("not_loaded", StatusCode::SERVICE_UNAVAILABLE));
}

#[tokio::test]
async fn requests_over_the_share_of_an_app_wait_and_then_are_refused() {
    let options = AppHostOptions {
        requests_per_app_max: 1,
        queue_per_app_max: 1,
        queue_wait_ms_max: 100,
        ..SMALL
    };
    let apps = Apps::new(options);
    apps.load(Limits::APP).await;
    let held = apps.get("/stall").await.unwrap();
    let started = Instant::now();
    let error = apps.get("/hello").await.err().unwrap();
    assert_eq!((error.code(), error.status()), ("overload", StatusCode::SERVICE_UNAVAILABLE));
    assert!(started.elapsed() >= Duration::from_millis(100));
    // One that waits is served when the other is done.
    let waits = apps.get("/hello");
    let frees = async {
        drop(held);
    };
    let (served, ()) = tokio::join!(waits, frees);
    assert_eq!(served.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_full_pool_makes_requests_wait_and_not_fail() {
    let options = AppHostOptions {
        pool: Pool { memories: 2, ..SMALL.pool },
        requests_per_app_max: 64,
        queue_per_app_max: 64,
        ..SMALL
    };
    let apps = Apps::new(options);
    apps.load(Limits::APP).await;
    let requests = (0..40).map(|_| {
        let host = Arc::clone(&apps.host);
        tokio::spawn(async move {
            let answer = host.serve(instance(1), request(Method::GET, "/hello")).await.unwrap();
            text(answer).await
        })
    });
    for answered in requests.collect::<Vec<_>>() {
        assert_eq!(within("an answer", answered).await.unwrap(), "hello from the environment");
    }
}

#[tokio::test]
async fn the_memory_of_all_guests_together_is_bounded() {
    let options = AppHostOptions { memory_bytes_max: 3 << 20, ..SMALL };
    let apps = Apps::new(options);
    apps.load(Limits::APP).await;
    let error = apps.get("/mem").await.err().unwrap();
    assert_eq!(error.code(), "overload");
    eventually("it is given back", || apps.host.memory_left_bytes() == 3 << 20).await;
}

#[tokio::test]
async fn the_answer_to_head_has_no_body_and_ends_well() {
    let apps = Apps::with(Limits::APP).await;
    let answer = apps.host.serve(instance(1), request(Method::HEAD, "/late")).await.unwrap();
    drop(answer);
    eventually("the guest ends by itself", || {
        apps.log.of(LogStream::Stdout) == ["after the answer"]
    })
    .await;
}

#[tokio::test]
async fn a_request_without_a_host_is_refused() {
    let apps = Apps::with(Limits::APP).await;
    let bare = Request::get("/hello").body(Empty::<Bytes>::new()).unwrap();
    let error = apps.host.serve(instance(1), bare).await.err().unwrap();
    assert_eq!((error.code(), error.status()), ("bad_request", StatusCode::BAD_REQUEST));
}

#[tokio::test]
async fn components_that_cannot_run_here_are_refused_when_they_are_loaded() {
    let apps = Apps::new(SMALL);
    let refused = async |kind, wasm: Vec<u8>, limits| {
        let config = AppConfig::alone(instance(1), app(), digest(&wasm), limits);
        apps.host.load(config, code(kind, wasm).await).unwrap_err()
    };
    let other_world =
        refused(EngineKind::Apps, wat::parse_str("(component)").unwrap(), Limits::APP);
    assert!(
        matches!(other_world.await, LoadError::Link(text) if text.contains("incoming-handler"))
    );
    let other_engine = refused(EngineKind::Extensions, guest("guest_app"), Limits::APP);
    assert!(matches!(other_engine.await, LoadError::Map(_)));
    let too_much = Limits { memory_bytes_max: 1 << 30, ..Limits::APP };
    let too_large = refused(EngineKind::Apps, guest("guest_app"), too_much);
    assert!(matches!(too_large.await, LoadError::Link(text) if text.contains("1024 MiB")));
    assert!(apps.host.loaded().is_empty());
}

#[tokio::test]
async fn the_environment_is_not_shown() {
    let config = AppConfig {
        env: Env(vec![("TOKEN".to_owned(), "s3cret".to_owned())]),
        secrets: Env(vec![("KEY".to_owned(), "s3cret".to_owned())]),
        ..AppConfig::alone(instance(1), app(), digest(b""), Limits::APP)
    };
    let shown = format!("{config:?}");
    assert!(shown.contains("TOKEN") && shown.contains("KEY"), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[tokio::test]
async fn the_sample_app_greets_echoes_and_streams() {
    let apps = Apps::new(SMALL);
    apps.load_component(sample(), Limits::APP).await;
    assert_eq!(text(apps.get("/").await.unwrap()).await, "hello from the environment\n");
    let sent = Request::post("/").header("host", "x").body(Full::from("sent")).unwrap();
    let echoed = within("the head", apps.host.serve(instance(1), sent)).await.unwrap();
    assert_eq!(text(echoed).await, "sent");
    assert_eq!(text(apps.get("/count").await.unwrap()).await, "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n");
    assert_eq!(apps.get("/nowhere").await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_app_asks_only_servers_that_it_names_and_is_told_what_was_refused() {
    let apps = Apps::new(SMALL);
    let wasm = powers();
    let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    own.set_nonblocking(true).unwrap();
    let port = own.local_addr().unwrap().port();
    let config = AppConfig {
        http: vec![format!("127.0.0.1:{port}").parse().unwrap()],
        secrets: Env(vec![("API_KEY".to_owned(), "s3cret".to_owned())]),
        private_hosts: vec!["*".parse().unwrap()],
        ..AppConfig::alone(instance(1), app(), digest(&wasm), Limits::APP)
    };
    apps.host.load(config, code(EngineKind::Apps, wasm).await).unwrap();
    let ask = async |path: &str| text(apps.get(path).await.unwrap()).await;
    // By wasi:http and by berth:http-out alike, typed.
    let said = ask("/fetch?https://api.example/x").await;
    assert!(said.contains("HttpRequestDenied"), "{said}");
    let said = ask("/send?https://api.example/x").await;
    assert!(said.starts_with("denied: ") && said.contains("api.example:443"), "{said}");
    let said = ask("/fetch?http://user@api.example/x").await;
    assert!(!said.starts_with("200"), "{said}");
    // Named, but nobody may go there.
    let said = ask(&format!("/fetch?http://127.0.0.1:{port}/")).await;
    assert!(said.contains("DestinationIpProhibited"), "{said}");
    assert!(own.accept().is_err(), "the machine itself was asked");
    let lines = apps.log.of(LogStream::System);
    assert!(lines[0].contains("[wasm] http = [\"api.example\"]"), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("the host's own addresses")), "{lines:?}");
    assert!(apps.host.stats()[0].denied >= 3, "{:?}", apps.host.stats());
}

#[tokio::test]
async fn a_secret_of_an_app_is_a_handle_and_not_in_its_environment() {
    let apps = Apps::new(SMALL);
    let wasm = powers();
    let config = AppConfig {
        env: Env(vec![("PLAIN".to_owned(), "seen".to_owned())]),
        secrets: Env(vec![("API_KEY".to_owned(), "s3cret".to_owned())]),
        ..AppConfig::alone(instance(1), app(), digest(&wasm), Limits::APP)
    };
    apps.host.load(config, code(EngineKind::Apps, wasm).await).unwrap();
    let ask = async |path: &str| text(apps.get(path).await.unwrap()).await;
    assert_eq!(ask("/env?PLAIN").await, "true");
    assert_eq!(ask("/env?API_KEY").await, "false");
    assert_eq!(ask("/secret?API_KEY&s3cret").await, "true");
    assert_eq!(ask("/secret?API_KEY&other").await, "false");
    assert!(ask("/secret?PLAIN&seen").await.starts_with("denied: "));
    // A value of the store is bounded before anybody is asked for it.
    assert!(ask("/fill?key&300000").await.starts_with("too-large: "));
    assert!(ask("/fill?key&100").await.starts_with("unavailable: "));
}

#[tokio::test]
async fn an_app_that_asks_for_one_request_at_once_has_one() {
    let apps = Apps::new(SMALL);
    let wasm = guest("guest_app");
    let config = AppConfig {
        requests_max: 1,
        ..AppConfig::alone(instance(1), app(), digest(&wasm), Limits::APP)
    };
    apps.host.load(config, code(EngineKind::Apps, wasm).await).unwrap();
    let stalled = apps.get("/stall").await.unwrap();
    assert_eq!(apps.active(), 1);
    let waiting = apps.get("/hello");
    let mut waiting = std::pin::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(200), waiting.as_mut()).await;
    assert!(early.is_err(), "a second request ran beside the first");
    drop(stalled);
    assert_eq!(waiting.await.unwrap().status(), StatusCode::OK);
}
