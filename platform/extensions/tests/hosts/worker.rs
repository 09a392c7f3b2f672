use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_extensions::app::{ValueAnswer, ValueCall};
use berth_extensions::worker::FailureCode;
use berth_extensions::{
    AppConfig, AppHostOptions, EngineKind, Env, Limits, Pool, WorkerClient, WorkerError,
    WorkerOptions, worker,
};
use berth_model::{AppId, InstanceId};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::support::{Log, app, code, digest, guest, instance, powers, within};

/// A worker in this process, on sockets in a folder.
struct Worker {
    folder: tempfile::TempDir,
    client: WorkerClient,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<Result<(), WorkerError>>>,
    listeners: [std::os::unix::net::UnixListener; 2],
}

impl Worker {
    fn start() -> Self {
        Self::start_for(rustix::process::getuid().as_raw())
    }

    fn start_for(control_uid: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listeners = ["control", "requests"]
            .map(|name| std::os::unix::net::UnixListener::bind(folder.path().join(name)).unwrap());
        let client = WorkerClient::at(folder.path().join("control"));
        let mut worker = Self { folder, client, stop: None, served: None, listeners };
        worker.run(control_uid);
        worker
    }

    /// Starts a worker on the listeners, as the agent does again after one ended.
    fn run(&mut self, control_uid: u32) {
        let options = WorkerOptions {
            host: AppHostOptions {
                pool: Pool { memories: 8, ..Pool::default() },
                ..AppHostOptions::default()
            },
            build: "build-1".to_owned(),
            control_uid,
            idle_ms_max: 30_000,
            drain_ms_max: 10_000,
        };
        let [control, requests] =
            self.listeners.each_ref().map(|of| OwnedFd::from(of.try_clone().unwrap()));
        let (stop, stopped) = oneshot::channel::<()>();
        self.stop = Some(stop);
        self.served = Some(tokio::spawn(worker::serve(
            control,
            requests,
            options,
            Arc::new(Log::default()),
            async {
                let _ = stopped.await;
            },
        )));
    }

    async fn ended(&mut self) {
        let served = self.served.take().unwrap();
        within("the worker ends", served).await.unwrap().unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn load(&self, instance: InstanceId) -> Result<(), WorkerError> {
        let wasm = guest("guest_app");
        let app = AppConfig {
            env: Env(vec![("GREETING".to_owned(), format!("hello from {instance}"))]),
            ..AppConfig::alone(instance, app(), digest(&wasm), Limits::APP)
        };
        let code = code(EngineKind::Apps, wasm).await;
        within("the load", self.client.load(app, &code)).await
    }

    async fn connect(&self) -> SendRequest<Empty<Bytes>> {
        let stream = UnixStream::connect(self.path("requests")).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn get(&self, instance: InstanceId, path: &str) -> Response<Incoming> {
        get(&mut self.connect().await, instance, path).await
    }
}

async fn get(
    connection: &mut SendRequest<Empty<Bytes>>,
    instance: InstanceId,
    path: &str,
) -> Response<Incoming> {
    let request = Request::get(path)
        .header("host", "app.localhost")
        .header("berth-instance", instance.to_string())
        .body(Empty::new())
        .unwrap();
    within(path, connection.send_request(request)).await.unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    let body = within("the body", response.into_body().collect()).await.unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn an_app_is_loaded_called_listed_and_unloaded() {
    let worker = Worker::start();
    let (one, other) = (instance(1), instance(2));
    worker.load(one).await.unwrap();
    worker.load(other).await.unwrap();
    assert_eq!(text(worker.get(one, "/hello").await).await, format!("hello from {one}"));
    assert_eq!(text(worker.get(other, "/hello").await).await, format!("hello from {other}"));
    let stats = worker.client.stats().await.unwrap();
    assert_eq!(stats.apps.iter().map(|app| app.requests).collect::<Vec<_>>(), [1, 1]);
    worker.client.unload(one).await.unwrap();
    let listed = worker.client.list().await.unwrap();
    assert_eq!(listed.iter().map(|app| app.instance).collect::<Vec<_>>(), [other]);
    assert_eq!(listed[0].component, digest(&guest("guest_app")));
}

#[tokio::test]
async fn one_connection_carries_many_requests_and_the_guest_does_not_see_the_instance() {
    let worker = Worker::start();
    worker.load(instance(1)).await.unwrap();
    let mut connection = worker.connect().await;
    for _ in 0..5 {
        assert_eq!(text(get(&mut connection, instance(1), "/headers").await).await, "");
    }
}

#[tokio::test]
async fn errors_are_named_in_a_header_of_the_workers_own() {
    let worker = Worker::start();
    worker.load(instance(1)).await.unwrap();
    let trapped = worker.get(instance(1), "/trap").await;
    assert_eq!(trapped.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(trapped.headers()["berth-error"], "trap");
    assert_eq!(text(trapped).await, "trap\n");
    let unknown = worker.get(instance(9), "/hello").await;
    assert_eq!(unknown.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(unknown.headers()["berth-error"], "not_loaded");
    assert_eq!(unknown.headers()["retry-after"], "1");
    let forged = worker.get(instance(1), "/headers").await;
    assert!(forged.headers().get("berth-error").is_none());
}

#[tokio::test]
async fn a_trap_in_the_middle_cuts_the_connection_before_the_end_of_the_body() {
    let worker = Worker::start();
    worker.load(instance(1)).await.unwrap();
    let mut stream = UnixStream::connect(worker.path("requests")).await.unwrap();
    let request =
        format!("GET /cut HTTP/1.1\r\nhost: x\r\nberth-instance: {}\r\n\r\n", instance(1));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("the end", stream.read_to_string(&mut answer)).await.unwrap();
    // Whether its beginning still went out is a matter of chance.
    assert!(!answer.contains("\r\n0\r\n"), "the body was ended as if it were whole: {answer}");
}

#[tokio::test]
async fn the_worker_keeps_its_apps_when_control_goes_and_comes_back() {
    let worker = Worker::start();
    worker.load(instance(1)).await.unwrap();
    let again = WorkerClient::at(worker.path("control"));
    assert_eq!(again.list().await.unwrap().len(), 1);
    drop(again);
    assert_eq!(worker.get(instance(1), "/hello").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_worker_that_was_started_again_has_nothing_and_can_be_told_again() {
    let mut worker = Worker::start();
    worker.load(instance(1)).await.unwrap();
    drop(worker.stop.take());
    worker.ended().await;
    worker.run(rustix::process::getuid().as_raw());
    assert!(worker.client.list().await.unwrap().is_empty());
    worker.load(instance(1)).await.unwrap();
    assert_eq!(worker.get(instance(1), "/hello").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_end_of_the_worker_is_noticed() {
    let mut worker = Worker::start();
    worker.client.list().await.unwrap();
    let path = worker.path("control");
    let watched = tokio::spawn(async move { WorkerClient::at(path).until_gone().await });
    // Its greeting was answered once a later call on another connection is.
    worker.client.list().await.unwrap();
    drop(worker.stop.take());
    worker.ended().await;
    drop(worker);
    let _ = within("the end is noticed", watched).await.unwrap();
}

#[tokio::test]
async fn a_drain_waits_for_requests_under_way() {
    let mut worker = Worker::start();
    worker.load(instance(1)).await.unwrap();
    let mut connection = worker.connect().await;
    let mut stalled = get(&mut connection, instance(1), "/stall").await;
    let first = within("a piece", stalled.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "begun");
    let drained = worker.client.drain(300);
    // It does not end by itself, so it is cut when the grace is over.
    within("the drain", drained).await.unwrap();
    worker.ended().await;
    assert!(within("the cut", stalled.body_mut().frame()).await.is_none_or(|frame| frame.is_err()));
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_end() {
    let mut worker = Worker::start();
    worker.load(instance(1)).await.unwrap();
    let mut connection = worker.connect().await;
    assert_eq!(get(&mut connection, instance(1), "/hello").await.status(), StatusCode::OK);
    drop(worker.stop.take());
    worker.ended().await;
}

#[tokio::test]
async fn a_component_that_cannot_run_is_refused_with_a_reason() {
    let worker = Worker::start();
    let wasm = wat::parse_str("(component)").unwrap();
    let app = AppConfig::alone(instance(1), app(), digest(&wasm), Limits::APP);
    let code = code(EngineKind::Apps, wasm).await;
    match worker.client.load(app, &code).await.unwrap_err() {
        WorkerError::Refused { code: FailureCode::Load, message } => {
            assert!(message.contains("incoming-handler"), "{message}");
        }
        other => panic!("{other}"),
    }
    assert!(worker.client.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_the_protocol_ends_the_connection_and_nothing_else() {
    let worker = Worker::start();
    worker.load(instance(1)).await.unwrap();
    let message = |text: &str| {
        let mut bytes = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
        bytes.push(0);
        bytes.extend_from_slice(text.as_bytes());
        bytes
    };
    let cases = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 64],
        message(r#"{"verb":"format_disk"}"#),
        message("not json"),
        // The count of descriptors lies.
        [&20_u32.to_be_bytes()[..], &[1], br#"{"verb":"list"}     "#].concat(),
    ];
    for bytes in cases {
        let mut stream = UnixStream::connect(worker.path("control")).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        within("the end", stream.read_to_end(&mut answer)).await.unwrap();
    }
    // A call before the greeting is answered, and refused.
    let mut stream = UnixStream::connect(worker.path("control")).await.unwrap();
    stream.write_all(&message(r#"{"verb":"list"}"#)).await.unwrap();
    let mut answer = vec![0; 5];
    within("an answer", stream.read_exact(&mut answer)).await.unwrap();
    let mut text =
        vec![0; u32::from_be_bytes([answer[0], answer[1], answer[2], answer[3]]) as usize];
    stream.read_exact(&mut text).await.unwrap();
    assert!(String::from_utf8(text).unwrap().contains("must be a hello"));
    assert_eq!(worker.client.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn another_protocol_version_is_refused_by_name() {
    let worker = Worker::start();
    let mut stream = UnixStream::connect(worker.path("control")).await.unwrap();
    let text = r#"{"verb":"hello","protocol":99}"#;
    let mut bytes = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.push(0);
    bytes.extend_from_slice(text.as_bytes());
    stream.write_all(&bytes).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = within("an answer", stream.read(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[5..read]).into_owned();
    assert!(answer.contains("version 2 of its protocol, not 99"), "{answer}");
}

#[tokio::test]
async fn a_worker_that_is_not_there_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let client = WorkerClient::at(folder.path().join("control"));
    assert!(matches!(client.list().await, Err(WorkerError::Unreachable(_))));
}

#[tokio::test]
async fn values_are_there_while_the_control_process_is_and_unavailable_at_once_without_it() {
    let worker = Worker::start();
    let wasm = powers();
    let config = AppConfig::alone(instance(1), app(), digest(&wasm), Limits::APP);
    let code = code(EngineKind::Apps, wasm).await;
    within("the load", worker.client.load(config, &code)).await.unwrap();
    let ask = async |path: &str| {
        let response = worker.get(instance(1), path).await;
        let body = within("the body", response.into_body().collect()).await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    };
    let begun = Instant::now();
    assert!(ask("/get?a").await.starts_with("unavailable: "));
    assert!(begun.elapsed() < Duration::from_secs(2), "nothing is waited for");

    // A control process that has one value, and answers anything else never.
    let client = WorkerClient::at(worker.path("control"));
    let (told, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let answering = tokio::spawn(async move {
        let answer = move |of: AppId, call: ValueCall| {
            let told = told.clone();
            async move {
                let known = call == ValueCall::Get { key: "a".to_owned() };
                told.send((of, call)).unwrap();
                if !known {
                    std::future::pending::<()>().await;
                }
                ValueAnswer::Value { value: Some(vec![b'x'; 200_000]) }
            }
        };
        client.answer_values(answer).await
    });
    let there = async {
        while ask("/get?a").await.starts_with("unavailable: ") {
            tokio::task::yield_now().await;
        }
    };
    within("the connection", there).await;
    let (one, two) = tokio::join!(ask("/get?a"), ask("/get?a"));
    assert_eq!((one.len(), two.len()), (200_000, 200_000));
    assert_eq!(within("the call", asked.recv()).await.unwrap().0, app());

    // It goes away while it is asked.
    let pending = ask("/put?b&c");
    let gone = async {
        let put = |call: &ValueCall| matches!(call, ValueCall::Put { key, .. } if key == "b");
        while !put(&within("the call", asked.recv()).await.unwrap().1) {}
        answering.abort();
    };
    let begun = Instant::now();
    let (said, ()) = tokio::join!(pending, gone);
    assert!(said.starts_with("unavailable: "), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(3), "its end is noticed");
    assert!(ask("/").await == "alive", "requests are served meanwhile");
}
