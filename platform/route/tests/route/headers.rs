//! What apps and clients get to see of each other's headers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::AsyncWriteExt;

use crate::support::{App, Router, read_head, route};

#[tokio::test]
async fn what_a_client_says_about_itself_is_replaced_by_what_the_router_knows() {
    let app = App::mirror().await;
    let router = Router::to(&app).await;
    let reply = router
        .ask(
            "GET / HTTP/1.1\r\nHost: app.localhost:8080\r\n\
             X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
             X-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /x\r\nX-Real-IP: 1.2.3.4\r\n\
             X-Request-Start: t=0\r\nForwarded: for=1.2.3.4\r\nBerth-Instance: ins_1\r\n\
             X_Forwarded_For: 1.2.3.4\r\nProxy: http://evil\r\nProxy-Authorization: x\r\nKept: yes\r\n\r\n",
        )
        .await;
    let lines: Vec<&str> = reply.text().lines().collect();
    let has = |line: &str| assert!(lines.contains(&line), "{line} in {lines:?}");
    has("x-forwarded-for: 127.0.0.1");
    has("x-real-ip: 127.0.0.1");
    has("x-forwarded-proto: http");
    has("x-forwarded-host: app.localhost:8080");
    has(&format!("x-forwarded-port: {}", router.address.port()));
    has("host: app.localhost:8080");
    has("kept: yes");
    for absent in ["1.2.3.4", "evil", "prefix", "forwarded: for", "berth-", "_", "proxy", "https"] {
        assert!(!reply.text().contains(absent), "{absent} in {lines:?}");
    }
    let start = lines.iter().find_map(|l| l.strip_prefix("x-request-start: t=")).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let age = now - Duration::from_millis(start.parse().unwrap());
    assert!(age < Duration::from_secs(60), "{age:?}");
}

#[tokio::test]
async fn a_client_cannot_have_the_routers_headers_removed() {
    let app = App::mirror().await;
    let router = Router::to(&app).await;
    let reply = router
        .ask(
            "GET / HTTP/1.1\r\nHost: app.localhost\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nTE: gzip\r\n\
             Connection: X-Forwarded-For, x-real-ip, X-Request-Id, Host, X-Mine, close\r\n\r\n",
        )
        .await;
    for present in
        ["x-forwarded-for: 127.0.0.1", "x-real-ip: ", "x-request-id: ", "host: app.localhost"]
    {
        assert!(reply.text().contains(present), "{present} in {}", reply.text());
    }
    for absent in ["x-mine", "connection", "keep-alive", "te:"] {
        assert!(!reply.text().contains(absent), "{absent} in {}", reply.text());
    }
}

#[tokio::test]
async fn a_request_id_is_kept_when_harmless_made_when_not_and_always_echoed() {
    let app = App::mirror().await;
    let router = Router::to(&app).await;
    let ask = async |id: &str| {
        router
            .ask(&format!("GET / HTTP/1.1\r\nHost: app.localhost\r\nX-Request-Id: {id}\r\n\r\n"))
            .await
    };
    let id = "my-own-request-id-0123456789";
    let reply = ask(id).await;
    assert_eq!(reply.header("x-request-id"), Some(id));
    assert!(reply.text().contains(&format!("x-request-id: {id}\n")));
    for bad in ["short", "has spaces in it, and a comma", &"x".repeat(201)] {
        let reply = ask(bad).await;
        let id = reply.header("x-request-id").unwrap();
        assert_ne!(id, bad);
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'7'), "a UUIDv7: {id}");
        assert!(reply.text().contains(&format!("x-request-id: {id}\n")));
    }
    let line = router.logged(|line| line["id"] == id).await;
    assert_eq!(line["path"], "/");
}

#[tokio::test]
async fn an_apps_hop_by_hop_headers_end_at_the_router() {
    let app = App::script(|mut stream, _| async move {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 200 Fine\r\nConnection: x-internal, keep-alive\r\nX-Internal: secret\r\n\
                      Keep-Alive: timeout=60\r\nUpgrade: h2c\r\nProxy-Authenticate: Basic\r\nAlt-Svc: h3\r\n\
                      X-Router-Error: forged\r\nBerth-Secret: 1\r\nX-Request-Id: forged\r\nServer: mine\r\n\
                      Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(answer.as_bytes()).await.unwrap();
        read_head(&mut stream).await;
    })
    .await;
    let router = Router::to(&app).await;
    let reply = router.get("/").await;
    assert!(reply.head.starts_with("HTTP/1.1 200 Fine\r\n"), "{}", reply.head);
    for absent in [
        "connection",
        "x-internal",
        "keep-alive",
        "upgrade",
        "proxy-authenticate",
        "alt-svc",
        "x-router-error",
        "berth-secret",
    ] {
        assert_eq!(reply.header(absent), None, "{}", reply.head);
    }
    assert_eq!(reply.headers("set-cookie").collect::<Vec<_>>(), ["a=1", "b=2"]);
    assert_eq!(reply.header("server"), Some("mine"));
    assert_ne!(reply.header("x-request-id"), Some("forged"));
    assert!(reply.header("date").is_some());
}

#[tokio::test]
async fn http_1_0_clients_are_served_and_keep_alive_only_when_they_ask() {
    let app = App::http(|_| async {
        use http_body_util::{BodyExt, StreamBody};
        let frames = ["one ", "two"].map(|text| Ok(hyper::body::Frame::data(text.into())));
        hyper::Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed())
    })
    .await;
    let router = Router::to(&app).await;
    // No chunked coding in HTTP/1.0: the end of the connection is the end of the body.
    let mut raw = router.connect().await;
    raw.send(b"GET / HTTP/1.0\r\nHost: app.localhost\r\n\r\n").await;
    let reply = raw.reply().await;
    assert_eq!((reply.status, reply.text()), (200, "one two"));
    assert_eq!(reply.header("transfer-encoding"), None);
    // With a known length it may stay open.
    let app = App::saying("known").await;
    router.publish(vec![route(&[app.target()])]).await;
    let mut raw = router.connect().await;
    for _ in 0..3 {
        raw.send(b"GET / HTTP/1.0\r\nHost: app.localhost\r\nConnection: keep-alive\r\n\r\n").await;
        let reply = raw.reply().await;
        assert_eq!((reply.text(), reply.header("connection")), ("known", Some("keep-alive")));
    }
    raw.send(b"GET / HTTP/1.0\r\nHost: app.localhost\r\n\r\n").await;
    assert_eq!(raw.reply().await.text(), "known");
    assert!(raw.is_closed().await);
}

#[tokio::test]
async fn a_head_answer_keeps_its_length_and_has_no_body() {
    let app = App::script(|mut stream, _| async move {
        loop {
            let head = read_head(&mut stream).await;
            let answer: &[u8] = match head.split(' ').next() {
                Some("HEAD") => b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n",
                Some("GET") => b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n",
                Some("DELETE") => b"HTTP/1.1 204 No Content\r\n\r\n",
                _ => return,
            };
            stream.write_all(answer).await.unwrap();
        }
    })
    .await;
    let router = Router::to(&app).await;
    let mut raw = router.connect().await;
    raw.send(b"HEAD / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    let head = raw.head().await;
    assert!(head.contains("content-length: 1234\r\n"), "{head}");
    assert_eq!(raw.get("/").await.status, 304);
    raw.send(b"DELETE / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    assert_eq!(raw.reply().await.status, 204);
    assert_eq!(app.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_line_of_the_access_log_names_the_request_and_not_its_query() {
    let app = App::echo().await;
    let router = Router::to(&app).await;
    router
        .ask(
            "POST /path?token=secret HTTP/1.1\r\nHost: app.localhost:80\r\nContent-Length: 5\r\n\r\nhello",
        )
        .await;
    let line = router.logged(|line| line["path"] == "/path").await;
    assert!(!line.to_string().contains("secret"), "{line}");
    assert_eq!(line["method"], "POST");
    assert_eq!(line["host"], "app.localhost:80");
    assert_eq!(line["app"], "app-1");
    assert_eq!(line["release"], 3);
    assert_eq!(line["target"], app.target().instance.to_string());
    assert_eq!(
        (line["status"].as_u64(), line["bytes"].as_u64(), line["request_bytes"].as_u64()),
        (Some(200), Some(5), Some(5))
    );
    assert_eq!(
        (line["client"].as_str(), line["proto"].as_str()),
        (Some("127.0.0.1"), Some("HTTP/1.1"))
    );
    assert!(
        line["total_us"].as_u64().unwrap() >= line["first_byte_us"].as_u64().unwrap(),
        "{line}"
    );
    assert_eq!(line.get("code"), None);
}
