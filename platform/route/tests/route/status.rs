//! Every status that the router makes itself, and what its answers look like.

use std::sync::Arc;
use std::time::Duration;

use berth_model::route::RouteState;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::support::{App, Raw, Router, closed_port, read_head, route, route_of, target, text};

fn expect(reply: &crate::support::Reply, status: u16, code: &str) {
    assert_eq!((reply.status, reply.code()), (status, Some(code)), "{reply:?}");
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(status == 503, reply.header("retry-after").is_some(), "{reply:?}");
}

#[tokio::test]
async fn an_unknown_host_is_404_and_a_router_without_a_table_is_503() {
    let router = Router::start().await;
    expect(&router.get("/").await, 503, "no_table");
    router.publish(vec![]).await;
    expect(&router.get("/").await, 404, "no_route");
}

#[tokio::test]
async fn a_route_without_release_stopped_or_without_targets_is_503() {
    let router = Router::start().await;
    let state = |state, host| {
        let mut route = route_of(1, host, &[]);
        route.state = state;
        route
    };
    router
        .publish(vec![
            state(RouteState::NoRelease, "new.localhost"),
            state(RouteState::Stopped, "stopped.localhost"),
            state(RouteState::Serving, "empty.localhost"),
        ])
        .await;
    for (host, code) in [
        ("new.localhost", "no_release"),
        ("stopped.localhost", "stopped"),
        ("EMPTY.localhost.:80", "no_healthy"),
    ] {
        let reply = router.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        expect(&reply, 503, code);
    }
}

#[tokio::test]
async fn connect_is_405_a_long_target_414_and_a_large_head_431() {
    let app = App::saying("hello").await;
    let router = Router::to(&app).await;
    let ask = async |request: String| router.ask(&request).await;
    let reply =
        ask("CONNECT app.localhost:80 HTTP/1.1\r\nHost: app.localhost\r\n\r\n".into()).await;
    expect(&reply, 405, "method");
    for length in [16 * 1024 + 1, 40 * 1024, 100 * 1024] {
        let path = "a".repeat(length);
        let reply = ask(format!("GET /{path} HTTP/1.1\r\nHost: app.localhost\r\n\r\n")).await;
        expect(&reply, 414, "uri_too_long");
    }
    let value = "a".repeat(70 * 1024);
    let reply = ask(format!("GET / HTTP/1.1\r\nHost: app.localhost\r\nX: {value}\r\n\r\n")).await;
    expect(&reply, 431, "head_too_large");
    let many: String = (0..130).map(|n| format!("x-{n}: 1\r\n")).collect();
    let reply = ask(format!("GET / HTTP/1.1\r\nHost: app.localhost\r\n{many}\r\n")).await;
    expect(&reply, 431, "head_too_large");
    let enough: String = (0..127).map(|n| format!("x-{n}: 1\r\n")).collect();
    let reply = ask(format!("GET / HTTP/1.1\r\nHost: app.localhost\r\n{enough}\r\n")).await;
    assert_eq!(reply.status, 200);
    let path = "a".repeat(16 * 1024 - 1);
    assert_eq!(router.get(&format!("/{path}")).await.status, 200);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_408_and_an_empty_connection_is_just_closed() {
    let router =
        Router::with(|config| config.deadlines.request_head = Duration::from_millis(60)).await;
    let mut slow = router.connect().await;
    slow.send(b"GET / HTTP/1.1\r\nHost: app.local").await;
    expect(&slow.reply().await, 408, "slow_client");
    assert!(slow.is_closed().await);
    assert!(router.connect().await.is_closed().await);
    router.logged(|line| line["code"] == "slow_client").await;
}

#[tokio::test]
async fn an_idle_keep_alive_connection_is_closed_in_time() {
    let app = App::saying("hello").await;
    let router =
        Router::with(|config| config.deadlines.keep_alive_idle = Duration::from_millis(80)).await;
    router.publish(vec![route(&[app.target()])]).await;
    let mut raw = router.connect().await;
    assert_eq!(raw.get("/").await.text(), "hello");
    assert_eq!(raw.get("/").await.text(), "hello");
    assert!(raw.is_closed().await);
}

#[tokio::test]
async fn a_refused_connection_is_502_and_one_that_is_never_accepted_504() {
    let router = Router::with(|config| config.deadlines.connect = Duration::from_millis(60)).await;
    let refused = target(closed_port().await);
    // A backlog of one that is full: the kernel drops further SYNs.
    let full = socket_with_full_backlog().await;
    router
        .publish(vec![
            route_of(1, "app.localhost", &[refused]),
            route_of(2, "full.localhost", &[target(full.0.local_addr().unwrap())]),
        ])
        .await;
    expect(&router.get("/").await, 502, "refused");
    let reply = router.ask("GET / HTTP/1.1\r\nHost: full.localhost\r\n\r\n").await;
    expect(&reply, 504, "connect_timeout");
}

async fn socket_with_full_backlog() -> (TcpListener, Vec<Raw>) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) =
        tokio::time::timeout(Duration::from_millis(100), tokio::net::TcpStream::connect(address))
            .await
    {
        let mut raw = Raw::connect_with(stream.unwrap());
        raw.send(b"").await;
        held.push(raw);
    }
    (listener, held)
}

#[tokio::test]
async fn an_app_that_closes_or_talks_nonsense_is_502() {
    let router = Router::start().await;
    let closing = App::script(|mut stream, _| async move {
        read_head(&mut stream).await;
    })
    .await;
    let mut routes = vec![route_of(1, "app.localhost", &[closing.target()])];
    let answers: [&[u8]; 7] = [
        b"NONSENSE\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5x\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhello",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\r\n folded\r\ncontent-length: 0\r\n\r\n",
    ];
    let mut apps = Vec::new();
    for (n, answer) in answers.into_iter().enumerate() {
        let app = App::script(move |mut stream, _| async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(answer).await;
            read_head(&mut stream).await;
        })
        .await;
        routes.push(route_of(n as u8 + 2, &format!("n{n}.localhost"), &[app.target()]));
        apps.push(app);
    }
    router.publish(routes).await;
    expect(&router.get("/").await, 502, "reset");
    for n in 0..apps.len() {
        let reply = router.ask(&format!("GET / HTTP/1.1\r\nHost: n{n}.localhost\r\n\r\n")).await;
        assert_eq!(
            (reply.status, reply.code()),
            (502, Some("bad_response")),
            "answer {n}: {reply:?}"
        );
    }
}

#[tokio::test]
async fn a_response_head_over_the_limit_is_502() {
    let app = App::script(|mut stream, _| async move {
        read_head(&mut stream).await;
        let value = "a".repeat(70 * 1024);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: {value}\r\n\r\n");
        let _ = stream.write_all(head.as_bytes()).await;
        read_head(&mut stream).await;
    })
    .await;
    let router = Router::to(&app).await;
    expect(&router.get("/").await, 502, "bad_response");
}

#[tokio::test]
async fn an_app_that_does_not_answer_is_504_and_one_that_stalls_is_cut() {
    let silent = App::script(|mut stream, _| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let stalling = App::script(|mut stream, _| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
        std::future::pending::<()>().await;
    })
    .await;
    let router = Router::with(|config| {
        config.deadlines.response_head = Duration::from_millis(60);
        config.deadlines.response_gap = Duration::from_millis(60);
    })
    .await;
    router
        .publish(vec![
            route_of(1, "app.localhost", &[silent.target()]),
            route_of(2, "stalling.localhost", &[stalling.target()]),
        ])
        .await;
    expect(&router.get("/").await, 504, "header_timeout");
    let mut raw = router.connect().await;
    raw.send(b"GET / HTTP/1.1\r\nHost: stalling.localhost\r\n\r\n").await;
    raw.head().await;
    assert_eq!(raw.take(5).await, b"hello");
    assert!(raw.is_closed().await, "an answer that cannot be completed ends the connection");
    let line = router.logged(|line| line["code"] == "body_timeout").await;
    assert_eq!((line["status"].as_u64(), line["cut"].as_bool()), (Some(200), Some(true)));
}

#[tokio::test]
async fn an_app_that_does_not_take_the_request_is_504() {
    let app = App::script(|mut stream, _| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let router =
        Router::with(|config| config.deadlines.response_head = Duration::from_millis(100)).await;
    router.publish(vec![route(&[app.target()])]).await;
    let mut raw = router.connect().await;
    let size = 64 * 1024 * 1024;
    raw.send(
        format!("POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: {size}\r\n\r\n")
            .as_bytes(),
    )
    .await;
    let (mut reader, mut writer) = raw.stream.into_split();
    let writing = tokio::spawn(async move {
        let chunk = vec![0; 64 * 1024];
        while writer.write_all(&chunk).await.is_ok() {}
    });
    let mut head = vec![0; 4096];
    let read =
        crate::support::soon(tokio::io::AsyncReadExt::read(&mut reader, &mut head)).await.unwrap();
    let head = String::from_utf8_lossy(&head[..read]).into_owned();
    assert!(head.starts_with("HTTP/1.1 504") && head.contains("body_timeout"), "{head}");
    writing.abort();
}

#[tokio::test]
async fn more_requests_than_an_app_may_have_are_503_and_one_that_waits_gets_its_turn() {
    let gate = Arc::new(Notify::new());
    let app = App::http({
        let gate = Arc::clone(&gate);
        move |_| {
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                text("at last")
            }
        }
    })
    .await;
    let router = Router::with(|config| {
        config.limits.app_in_flight_max = 1;
        config.limits.app_queue_max = 1;
    })
    .await;
    router.publish(vec![route(&[app.target()])]).await;
    let request = b"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n";
    let (mut first, mut second) = (router.connect().await, router.connect().await);
    first.send(request).await;
    crate::support::until(|| app.connections.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
    second.send(request).await;
    // The second waits; whoever comes now finds the queue full.
    let mut others = 0;
    loop {
        let mut third = router.connect().await;
        third.send(request).await;
        let reply = tokio::time::timeout(Duration::from_millis(200), third.reply()).await;
        match reply {
            Ok(reply) => {
                expect(&reply, 503, "overload");
                break;
            }
            Err(_) => others += 1,
        }
        assert!(others < 10);
    }
    gate.notify_one();
    assert_eq!(first.reply().await.text(), "at last");
    gate.notify_one();
    assert_eq!(second.reply().await.text(), "at last");
}

#[tokio::test]
async fn a_wait_in_the_queue_that_is_too_long_is_503() {
    let app = App::http(|_| std::future::pending()).await;
    let router = Router::with(|config| {
        config.limits.app_in_flight_max = 1;
        config.deadlines.queue = Duration::from_millis(50);
    })
    .await;
    router.publish(vec![route(&[app.target()])]).await;
    let mut first = router.connect().await;
    first.send(b"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    crate::support::until(|| app.connections.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
    expect(&router.get("/").await, 503, "overload");
}

#[tokio::test]
async fn a_client_that_leaves_is_499_in_the_log_and_its_app_sees_it_at_once() {
    let (seen, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let app = App::script({
        let (seen, gone) = (Arc::clone(&seen), Arc::clone(&gone));
        move |mut stream, _| {
            let (seen, gone) = (Arc::clone(&seen), Arc::clone(&gone));
            async move {
                read_head(&mut stream).await;
                seen.notify_one();
                read_head(&mut stream).await;
                gone.notify_one();
            }
        }
    })
    .await;
    let router = Router::to(&app).await;
    let mut raw = router.connect().await;
    raw.send(b"GET /slow HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    crate::support::soon(seen.notified()).await;
    drop(raw);
    let left = std::time::Instant::now();
    crate::support::soon(gone.notified()).await;
    assert!(left.elapsed() < Duration::from_millis(100), "{:?}", left.elapsed());
    let line = router.logged(|line| line["path"] == "/slow").await;
    assert_eq!((line["status"].as_u64(), line["code"].as_str()), (Some(499), Some("client_gone")));
}

#[tokio::test]
async fn pages_are_html_where_html_is_asked_for_and_carry_a_request_id() {
    let router = Router::start().await;
    router.publish(vec![]).await;
    let reply = router.get("/").await;
    assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(reply.header("x-request-id").map(str::len), Some(36));
    let reply =
        router.ask("GET / HTTP/1.1\r\nHost: x.localhost\r\nAccept: text/html,*/*\r\n\r\n").await;
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(reply.text().starts_with("<!doctype html>"), "{}", reply.text());
    // HEAD: the same head, no body; the connection goes on.
    let mut raw = router.connect().await;
    raw.send(b"HEAD / HTTP/1.1\r\nHost: x.localhost\r\n\r\n").await;
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    assert_eq!(raw.get("/").await.status, 404);
}
