//! Which target answers, over which connection, and what happens when one fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use berth_model::{Route, Target, TargetAddress};
use berth_route::RouterEvent;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::support::{App, Router, closed_port, read_head, route, route_of, target, text, until};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn one_connection_to_a_target_serves_many_requests() {
    let app = App::saying("hello").await;
    let router = Router::to(&app).await;
    for _ in 0..20 {
        assert_eq!(router.get("/").await.text(), "hello");
    }
    assert_eq!(app.connections.load(SeqCst), 1);
}

#[tokio::test]
async fn no_more_idle_connections_are_kept_than_allowed() {
    let together = Arc::new(tokio::sync::Barrier::new(8));
    let app = App::http(move |request| {
        let together = Arc::clone(&together);
        async move {
            if request.uri().path() == "/together" {
                together.wait().await;
            }
            text("hello")
        }
    })
    .await;
    let router = Router::with(|config| config.limits.pool_idle_per_target_max = 2).await;
    router.publish(vec![route(&[app.target()])]).await;
    let rounds = async || {
        let gets = (0..8).map(|_| router.get("/together"));
        for reply in futures_util::future::join_all(gets).await {
            assert_eq!(reply.text(), "hello");
        }
    };
    rounds().await;
    assert_eq!(app.connections.load(SeqCst), 8);
    rounds().await;
    assert_eq!(app.connections.load(SeqCst), 14, "two of eight were kept");
}

#[tokio::test]
async fn an_idle_connection_is_not_used_past_its_age_or_the_apps_own_limit() {
    let app = App::script(|mut stream, _| async move {
        while read_head(&mut stream).await.contains("HTTP/1.1") {
            stream.write_all(OK).await.unwrap();
        }
    })
    .await;
    let hinting = App::script(|mut stream, _| async move {
        while read_head(&mut stream).await.contains("HTTP/1.1") {
            let answer = b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=1\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
        }
    })
    .await;
    let router =
        Router::with(|config| config.deadlines.pool_idle = Duration::from_millis(100)).await;
    router
        .publish(vec![
            route(&[app.target()]),
            route_of(2, "hinting.localhost", &[hinting.target()]),
        ])
        .await;
    router.get("/").await;
    router.get("/").await;
    assert_eq!(app.connections.load(SeqCst), 1);
    tokio::time::sleep(Duration::from_millis(120)).await;
    router.get("/").await;
    assert_eq!(app.connections.load(SeqCst), 2);
    for n in 1..4 {
        router.ask("GET / HTTP/1.1\r\nHost: hinting.localhost\r\n\r\n").await;
        assert_eq!(hinting.connections.load(SeqCst), n, "one second less than one second is none");
    }
}

#[tokio::test]
async fn a_connection_that_the_app_closes_after_its_answer_is_not_used_again() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"[..],
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nok",
    ] {
        let app = App::script(move |mut stream, _| async move {
            read_head(&mut stream).await;
            stream.write_all(answer).await.unwrap();
        })
        .await;
        let router = Router::to(&app).await;
        for n in 1..10 {
            let mut raw = router.connect().await;
            raw.send(b"POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 0\r\n\r\n").await;
            let reply = raw.reply().await;
            assert_eq!((reply.status, reply.text()), (200, "ok"));
            assert_eq!(app.connections.load(SeqCst), n);
        }
    }
}

/// Answers the first request of each connection, and closes when the second arrives.
async fn closing_on_reuse() -> App {
    App::script(|mut stream, _| async move {
        let first = read_head(&mut stream).await;
        let length = first.to_ascii_lowercase().contains("content-length: 5");
        let mut body = vec![0; if length { 5 } else { 0 }];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut body).await.unwrap();
        stream.write_all(OK).await.unwrap();
        read_head(&mut stream).await;
    })
    .await
}

#[tokio::test]
async fn a_request_on_a_connection_that_just_died_is_repeated_only_if_that_is_safe() {
    let app = closing_on_reuse().await;
    let router = Router::to(&app).await;
    let ask = async |method: &str, body: &str| {
        let request = format!(
            "{method} / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        router.ask(&request).await
    };
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        assert_eq!(ask("GET", "").await.status, 200);
        assert_eq!(ask(method, "").await.status, 200, "{method}");
    }
    // A POST that reached the app may have had its effect.
    assert_eq!(ask("GET", "").await.status, 200);
    let reply = ask("POST", "").await;
    assert_eq!((reply.status, reply.code()), (502, Some("reset")));
    // So may a PUT whose body was read.
    assert_eq!(ask("GET", "").await.status, 200);
    let reply = ask("PUT", "hello").await;
    assert_eq!((reply.status, reply.code()), (502, Some("reset")));
    // A PUT whose body is still to come is repeated with it.
    assert_eq!(ask("GET", "").await.status, 200);
    let before = app.connections.load(SeqCst);
    let mut raw = router.connect().await;
    raw.send(b"PUT / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 5\r\n\r\n").await;
    crate::support::until(|| app.connections.load(SeqCst) > before).await;
    raw.send(b"hello").await;
    assert_eq!(raw.reply().await.status, 200);
    let line = router.logged(|line| line["method"] == "DELETE").await;
    assert_eq!(line["retries"], 1);
}

#[tokio::test]
async fn a_post_does_not_ride_a_connection_that_was_idle_for_long() {
    let app = closing_on_reuse().await;
    let router =
        Router::with(|config| config.deadlines.pool_idle_unsafe = Duration::from_millis(50)).await;
    router.publish(vec![route(&[app.target()])]).await;
    assert_eq!(router.get("/").await.status, 200);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let reply = router
        .ask("POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn an_answer_that_began_is_never_repeated() {
    let requests = Arc::new(AtomicUsize::new(0));
    let app = App::script({
        let requests = Arc::clone(&requests);
        move |mut stream, _| {
            let requests = Arc::clone(&requests);
            async move {
                while read_head(&mut stream).await.contains("HTTP/1.1") {
                    if requests.fetch_add(1, SeqCst) == 0 {
                        stream.write_all(OK).await.unwrap();
                    } else {
                        stream.write_all(b"HTTP/1.1 200 O").await.unwrap();
                        return;
                    }
                }
            }
        }
    })
    .await;
    let router = Router::to(&app).await;
    assert_eq!(router.get("/").await.status, 200);
    let reply = router.get("/").await;
    assert_eq!((reply.status, reply.code()), (502, Some("reset")));
    assert_eq!(requests.load(SeqCst), 2);
}

#[tokio::test]
async fn a_failed_connect_is_tried_elsewhere_with_any_method() {
    let app = App::echo().await;
    let router = Router::start().await;
    let dead = [target(closed_port().await), target(closed_port().await)];
    router.publish(vec![route(&[dead[0].clone(), app.target(), dead[1].clone()])]).await;
    for n in 0..30 {
        let body = format!("body {n:02}");
        let request =
            format!("POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 7\r\n\r\n{body}");
        let reply = router.ask(&request).await;
        assert_eq!((reply.status, reply.text()), (200, body.as_str()));
    }
}

#[tokio::test]
async fn retries_are_bounded() {
    let router = Router::start().await;
    let mut dead = Vec::new();
    for _ in 0..6 {
        dead.push(target(closed_port().await));
    }
    router.publish(vec![route(&dead)]).await;
    let reply = router.get("/").await;
    assert_eq!((reply.status, reply.code()), (502, Some("refused")));
    let line = router.logged(|line| line["code"] == "refused").await;
    assert_eq!(line["retries"], 2);
}

#[tokio::test]
async fn a_target_that_keeps_failing_is_left_alone_and_comes_back() {
    let broken = Arc::new(AtomicBool::new(true));
    let (good, bad) = (App::saying("good").await, {
        let broken = Arc::clone(&broken);
        App::script(move |mut stream, _| {
            let broken = Arc::clone(&broken);
            async move {
                read_head(&mut stream).await;
                if !broken.load(SeqCst) {
                    let _ = stream.write_all(OK).await;
                }
            }
        })
        .await
    });
    let router =
        Router::with(|config| config.deadlines.ejection = Duration::from_millis(300)).await;
    router.publish(vec![route(&[good.target(), bad.target()])]).await;
    let mut failed = 0;
    while bad.connections.load(SeqCst) < 5 {
        failed += usize::from(router.get("/").await.status == 502);
    }
    assert!(failed >= 4, "{failed}");
    let instance = bad.target().instance;
    let ejected = router
        .event(|e| match e {
            RouterEvent::Health { instance: i, ejected } if i == instance => Some(ejected),
            _ => None,
        })
        .await;
    assert!(ejected);
    for _ in 0..30 {
        assert_eq!(router.get("/").await.text(), "good");
    }
    broken.store(false, SeqCst);
    let mut back = false;
    while !back {
        back = router.get("/").await.text() == "ok";
    }
    let ejected = router
        .event(|e| match e {
            RouterEvent::Health { ejected, .. } => Some(ejected),
            _ => None,
        })
        .await;
    assert!(!ejected);
}

#[tokio::test]
async fn the_only_target_is_never_left_alone() {
    let broken = Arc::new(AtomicBool::new(true));
    let app = App::script({
        let broken = Arc::clone(&broken);
        move |mut stream, _| {
            let broken = Arc::clone(&broken);
            async move {
                read_head(&mut stream).await;
                if !broken.load(SeqCst) {
                    let _ = stream.write_all(OK).await;
                }
            }
        }
    })
    .await;
    let router = Router::to(&app).await;
    for _ in 0..10 {
        assert_eq!(router.get("/").await.code(), Some("reset"));
    }
    broken.store(false, SeqCst);
    assert_eq!(router.get("/").await.status, 200);
}

/// Stands where the Wasm worker does. Says which instance was named and the request's body; `/late`
/// only when the test says so.
struct Worker {
    connections: Arc<AtomicUsize>,
    /// How many `/late` wait, and how many may be answered.
    waiting: Arc<AtomicUsize>,
    late: Arc<Semaphore>,
    serving: JoinHandle<()>,
}

impl Worker {
    fn of(router: &Router) -> Self {
        let listener = UnixListener::bind(router.folder.path().join("wasm.sock")).unwrap();
        let (connections, late) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let waiting = Arc::new(AtomicUsize::new(0));
        let (counted, arrived) = (Arc::clone(&connections), Arc::clone(&waiting));
        let permits = Arc::clone(&late);
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, SeqCst);
                let (permits, arrived) = (Arc::clone(&permits), Arc::clone(&arrived));
                let service = service_fn(move |request: hyper::Request<Incoming>| {
                    let (permits, arrived) = (Arc::clone(&permits), Arc::clone(&arrived));
                    async move {
                        if request.uri().path() == "/late" {
                            arrived.fetch_add(1, SeqCst);
                            permits.acquire().await.unwrap().forget();
                        }
                        let named: Vec<_> =
                            request.headers().get_all("berth-instance").iter().cloned().collect();
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let body = String::from_utf8(body.to_vec()).unwrap();
                        Ok::<_, std::convert::Infallible>(text(format!("{named:?} {body}")))
                    }
                });
                let io = hyper_util::rt::TokioIo::new(stream);
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service),
                );
            }
        });
        Self { connections, waiting, late, serving }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// `app.localhost` and `other.localhost`, each with an instance in the worker.
fn two_wasm_apps(router: &Router) -> [(Route, Target); 2] {
    let wasm = || Target { address: TargetAddress::Wasm, ..target(router.address) };
    [(1, "app.localhost"), (2, "other.localhost")].map(|(n, host)| {
        let target = wasm();
        (route_of(n, host, std::slice::from_ref(&target)), target)
    })
}

#[tokio::test]
async fn wasm_targets_share_connections_to_the_worker_and_each_is_named_to_it() {
    let router = Router::start().await;
    let worker = Worker::of(&router);
    let apps = two_wasm_apps(&router);
    router.publish(apps.iter().map(|(route, _)| route.clone()).collect()).await;
    for _ in 0..2 {
        for (route, target) in &apps {
            let host = &route.hosts[0];
            let reply = router
                .ask(&format!(
                    "POST / HTTP/1.1\r\nHost: {host}\r\nBerth-Instance: forged\r\nContent-Length: 4\r\n\r\nwasm"
                ))
                .await;
            assert_eq!(reply.text(), format!("[\"{}\"] wasm", target.instance));
        }
    }
    assert_eq!(worker.connections.load(SeqCst), 1);
    // That one of them goes closes nothing for the other.
    router.publish(vec![apps[1].0.clone()]).await;
    let reply = router.ask("GET / HTTP/1.1\r\nHost: other.localhost\r\n\r\n").await;
    assert_eq!(reply.text(), format!("[\"{}\"] ", apps[1].1.instance));
    assert_eq!(worker.connections.load(SeqCst), 1);
}

#[tokio::test]
async fn the_drain_of_a_wasm_target_cuts_its_own_requests_only() {
    let router = Router::with(|config| config.deadlines.drain = Duration::from_millis(100)).await;
    let worker = Worker::of(&router);
    let apps = two_wasm_apps(&router);
    router.publish(apps.iter().map(|(route, _)| route.clone()).collect()).await;
    // Each has used the connection that the other one holds next.
    for host in ["app.localhost", "other.localhost"] {
        let reply = router.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(reply.status, 200);
    }
    let mut asked = [router.connect().await, router.connect().await];
    for (raw, host) in asked.iter_mut().zip(["other.localhost", "app.localhost"]) {
        raw.send(format!("GET /late HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await;
    }
    until(|| worker.waiting.load(SeqCst) == 2).await;
    let [other, app] = &mut asked;
    router.publish(vec![apps[1].0.clone()]).await;
    let reply = app.reply().await;
    assert_eq!((reply.status, reply.code()), (504, Some("drain_cut")));
    router.drained(&apps[0].1).await;
    worker.late.add_permits(2);
    assert_eq!(other.reply().await.status, 200);
}
