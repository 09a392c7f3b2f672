//! Requests and answers that two servers could read differently: the router reads them in one way
//! only, or refuses them.

use std::sync::atomic::Ordering::SeqCst;

use tokio::io::AsyncWriteExt;

use crate::support::{App, Router, read_head, route};

async fn status_of(router: &Router, request: &[u8]) -> u16 {
    let mut raw = router.connect().await;
    raw.send(request).await;
    raw.reply().await.status
}

#[tokio::test]
async fn a_request_has_exactly_one_valid_host() {
    let app = App::mirror().await;
    let router = Router::to(&app).await;
    for head in [
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "GET / HTTP/1.1\r\nHost: app.localhost\r\nHost: app.localhost\r\n",
        "GET / HTTP/1.1\r\nHost: app.localhost, other\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n",
        "GET / HTTP/1.1\r\nHost: user@app.localhost\r\n",
        "GET / HTTP/1.1\r\nHost: app.localhost:99999\r\n",
        "GET / HTTP/1.1\r\nHost: app.localhost/path\r\n",
        "GET http://user@app.localhost/ HTTP/1.1\r\nHost: app.localhost\r\n",
        "GET http://app.localhost/ HTTP/1.1\r\n",
    ] {
        let reply = router.ask(&format!("{head}\r\n")).await;
        assert_eq!((reply.status, reply.code()), (400, Some("bad_host")), "{head:?}");
    }
    // An absolute target overrides the header, and is forwarded in origin form.
    let reply = router
        .ask("GET http://APP.localhost:80/a?b HTTP/1.1\r\nHost: other.localhost\r\n\r\n")
        .await;
    assert_eq!(reply.status, 200);
    assert!(reply.text().starts_with("GET /a?b\n"), "{}", reply.text());
    assert!(reply.text().contains("\nhost: APP.localhost:80\n"), "{}", reply.text());
    assert!(!reply.text().contains("other.localhost"), "{}", reply.text());
}

#[tokio::test]
async fn a_target_is_a_path_or_absolute_and_is_forwarded_as_it_was_written() {
    let app = App::mirror().await;
    let router = Router::to(&app).await;
    let ask = async |target: &str, method: &str| {
        router.ask(&format!("{method} {target} HTTP/1.1\r\nHost: app.localhost\r\n\r\n")).await
    };
    for target in ["/a/../b//c%2f%2e%2E?x=%41", "/", "/?", "/%00", "//double"] {
        let reply = ask(target, "GET").await;
        assert!(reply.text().starts_with(&format!("GET {target}\n")), "{}", reply.text());
    }
    assert!(ask("*", "OPTIONS").await.text().starts_with("OPTIONS *\n"));
    for target in ["*", "app.localhost:80", "ftp://app.localhost/"] {
        let reply = ask(target, "GET").await;
        assert_eq!(reply.status, 400, "{target}");
        assert_eq!(reply.code(), Some("bad_uri"), "{target}");
    }
}

#[tokio::test]
async fn ambiguous_framing_is_refused() {
    let app = App::echo().await;
    let router = Router::to(&app).await;
    let post = |fields: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nHost: app.localhost\r\n{fields}\r\n{body}")
    };
    for request in [
        post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
        post("Content-Length: +5\r\n", "hello"),
        post("Content-Length: 0x5\r\n", "hello"),
        post("Content-Length: 5, 6\r\n", "hello!"),
        post("Content-Length: 99999999999999999999\r\n", "hello"),
        post("Transfer-Encoding: gzip\r\n", "hello"),
        post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
        "POST / HTTP/1.0\r\nHost: app.localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            .into(),
    ] {
        let mut raw = router.connect().await;
        raw.send(request.as_bytes()).await;
        let reply = raw.reply().await;
        assert_eq!((reply.status, reply.code()), (400, Some("bad_framing")), "{request:?}");
        assert!(raw.is_closed().await, "{request:?}");
    }
    assert_eq!(app.connections.load(SeqCst), 0, "nothing of it reached the app");
}

#[tokio::test]
async fn a_length_beside_a_transfer_coding_is_dropped_and_the_connection_closed() {
    let app = App::script(|mut stream, _| async move {
        let head = read_head(&mut stream).await;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{head}", head.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        read_head(&mut stream).await;
    })
    .await;
    let router = Router::to(&app).await;
    let mut raw = router.connect().await;
    raw.send(
        b"POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
          5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: app.localhost\r\n\r\n",
    )
    .await;
    let reply = raw.reply().await;
    assert_eq!(reply.status, 200);
    let head = reply.text().to_ascii_lowercase();
    assert!(
        head.contains("transfer-encoding: chunked") && !head.contains("content-length"),
        "{head}"
    );
    assert!(raw.is_closed().await, "what follows such a request is not read");
}

#[tokio::test]
async fn heads_with_bare_line_ends_folded_lines_or_stray_bytes_are_refused() {
    let app = App::echo().await;
    let router = Router::to(&app).await;
    let heads: [&[u8]; 12] = [
        b"GET / HTTP/1.1\nHost: app.localhost\n\n",
        b"GET / HTTP/1.1\r\nHost: app.localhost\r\nX: a\nY: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.localhost\r\nX: a\rY: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.localhost\r\nX: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.localhost\r\nX : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.localhost\r\n X: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.localhost\r\nX: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.localhost\r\nX\0: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.localhost\r\nNoColon\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: app.localhost\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: app.localhost\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: app.localhost\r\n\r\n",
    ];
    for head in heads {
        let mut raw = router.connect().await;
        raw.send(head).await;
        let reply = raw.reply().await;
        let text = String::from_utf8_lossy(head);
        assert_eq!((reply.status, reply.code()), (400, Some("bad_framing")), "{text:?}");
    }
    assert_eq!(app.connections.load(SeqCst), 0, "nothing of it reached the app");
    router.logged(|line| line["code"] == "bad_framing" && line["method"] == "-").await;
    // The same on a connection that was used before, and cut into single bytes.
    let mut raw = router.connect().await;
    assert_eq!(raw.get("/").await.status, 200);
    for byte in b"GET / HTTP/1.1\nHost" {
        raw.send(&[*byte]).await;
    }
    assert_eq!(raw.reply().await.status, 400);
}

#[tokio::test]
async fn a_broken_chunked_body_is_400() {
    let app = App::echo().await;
    let router = Router::to(&app).await;
    for chunk in [
        "x\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "ffffffffffffffffff\r\n",
    ] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: app.localhost\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
        );
        assert_eq!(status_of(&router, request.as_bytes()).await, 400, "{chunk:?}");
    }
}

#[tokio::test]
async fn bytes_after_an_upgrade_request_reach_the_app_only_after_its_101() {
    let app = App::script(|mut stream, _| async move {
        read_head(&mut stream).await;
        // Anything that was forwarded too early would be here by now.
        let mut early = [0; 64];
        let wait = std::time::Duration::from_millis(50);
        let read = tokio::io::AsyncReadExt::read(&mut stream, &mut early);
        let early = tokio::time::timeout(wait, read).await.is_ok();
        let status = if early { "500 Early" } else { "403 Forbidden" };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
        read_head(&mut stream).await;
    })
    .await;
    let router = Router::to(&app).await;
    let mut raw = router.connect().await;
    raw.send(
        b"GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\
          GET /admin HTTP/1.1\r\nHost: unknown.localhost\r\n\r\n",
    )
    .await;
    assert_eq!(raw.reply().await.status, 403);
    // What followed was a request after all, and is routed as one.
    assert_eq!(raw.reply().await.code(), Some("no_route"));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let app = App::mirror().await;
    let router = Router::to(&app).await;
    let mut raw = router.connect().await;
    let requests: String =
        (0..50).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: app.localhost\r\n\r\n")).collect();
    raw.send(requests.as_bytes()).await;
    for n in 0..50 {
        let reply = raw.reply().await;
        assert!(reply.text().starts_with(&format!("GET /{n}\n")), "{}", reply.text());
    }
    // One of them is bad: those before it are answered.
    raw.send(
        b"GET /a HTTP/1.1\r\nHost: app.localhost\r\n\r\nGET /b HTTP/1.1\r\nHost : app.localhost\r\n\r\n",
    )
    .await;
    assert_eq!(raw.reply().await.status, 200);
    let reply = raw.reply().await;
    assert_eq!((reply.status, reply.code()), (400, Some("bad_framing")));
}

#[tokio::test]
async fn an_app_that_talks_unasked_loses_its_connection_and_no_request() {
    // Each connection answers once and then says something that nobody asked for.
    let app = App::script(|mut stream, n| async move {
        read_head(&mut stream).await;
        let body = format!("connection {n}");
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged").await;
        read_head(&mut stream).await;
    })
    .await;
    let router = Router::to(&app).await;
    let mut raw = router.connect().await;
    for n in 0..20 {
        let reply = raw.get("/").await;
        assert_eq!((reply.status, reply.text()), (200, format!("connection {n}").as_str()));
    }
}

#[tokio::test]
async fn an_early_answer_leaves_no_bytes_of_the_body_behind() {
    // The app answers before it has read the body.
    let app = App::script(|mut stream, _| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await;
        let mut sink = [0; 1024];
        while tokio::io::AsyncReadExt::read(&mut stream, &mut sink).await.unwrap_or(0) > 0 {}
    })
    .await;
    let router = Router::start().await;
    router.publish(vec![route(&[app.target()])]).await;
    let mut raw = router.connect().await;
    raw.send(b"POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 100000\r\n\r\nbegin")
        .await;
    let reply = raw.reply().await;
    assert_eq!((reply.status, reply.text()), (403, "no"));
    raw.send(&[b'x'; 1000]).await;
    raw.send(b"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    assert!(raw.is_closed().await, "the rest of the body is never taken for a request");
}
