//! Who is slow, and what comes of it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{App, Router, read_head, route, soon, streaming_app};

#[tokio::test]
async fn a_body_that_pauses_or_trickles_is_408() {
    let app = App::echo().await;
    let head = b"POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 100000\r\n\r\nbegin";
    let router =
        Router::with(|config| config.deadlines.request_body_gap = Duration::from_millis(80)).await;
    router.publish(vec![route(&[app.target()])]).await;
    let mut raw = router.connect().await;
    raw.send(head).await;
    let reply = raw.reply().await;
    assert_eq!((reply.status, reply.code()), (408, Some("slow_client")));
    router.logged(|line| line["code"] == "slow_client" && line["app"] == "app-1").await;

    let router = Router::with(|config| {
        config.deadlines.request_body_gap = Duration::from_millis(500);
        config.deadlines.request_body_rate_after = Duration::from_millis(150);
        config.limits.request_body_bytes_per_s_min = 1000;
    })
    .await;
    router.publish(vec![route(&[app.target()])]).await;
    let mut raw = router.connect().await;
    raw.send(head).await;
    let (mut reader, mut writer) = raw.stream.into_split();
    let trickle = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut answer = [0; 12];
    soon(reader.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    trickle.abort();
}

#[tokio::test]
async fn a_slow_app_or_a_slow_reader_is_not_the_clients_slowness() {
    // The app takes the body only after a while that is longer than the client's deadlines.
    let app = App::script(|mut stream, _| async move {
        read_head(&mut stream).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut body = vec![0; 20_000_000];
        stream.read_exact(&mut body).await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        read_head(&mut stream).await;
    })
    .await;
    let router = Router::with(|config| {
        config.deadlines.request_body_gap = Duration::from_millis(100);
        config.deadlines.request_body_rate_after = Duration::from_millis(100);
    })
    .await;
    router.publish(vec![route(&[app.target()])]).await;
    let mut raw = router.connect().await;
    raw.send(b"POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 20000000\r\n\r\n").await;
    raw.send(&vec![b'x'; 20_000_000]).await;
    assert_eq!(raw.reply().await.text(), "ok");
}

#[tokio::test]
async fn a_slow_reader_is_not_the_apps_silence_but_one_that_never_reads_is_cut_off() {
    let app = App::script(|mut stream, _| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 30000000\r\n\r\n").await;
        let _ = stream.write_all(&vec![b'x'; 30_000_000]).await;
        read_head(&mut stream).await;
    })
    .await;
    let router = Router::with(|config| {
        config.deadlines.response_gap = Duration::from_millis(60);
        config.deadlines.client_write_stall = Duration::from_millis(400);
    })
    .await;
    router.publish(vec![route(&[app.target()])]).await;
    let request = b"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n";
    let mut raw = router.connect().await;
    raw.send(request).await;
    // Longer than the app may be silent, shorter than a client may stall.
    tokio::time::sleep(Duration::from_millis(200)).await;
    raw.head().await;
    assert_eq!(raw.take(30_000_000).await.len(), 30_000_000);
    let mut stuck = router.connect().await;
    stuck.send(request).await;
    let line = router.logged(|line| line["code"] == "client_gone").await;
    assert_eq!((line["status"].as_u64(), line["cut"].as_bool()), (Some(200), Some(true)));
}

#[tokio::test]
async fn an_event_stream_may_be_silent_for_longer_than_other_answers() {
    let (app, chunks) = streaming_app("text/event-stream").await;
    let router = Router::with(|config| {
        config.deadlines.response_gap = Duration::from_millis(30);
        config.limits.app_in_flight_max = 1;
    })
    .await;
    router.publish(vec![route(&[app.target()])]).await;
    let mut raw = router.connect().await;
    raw.send(b"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    chunks.send("data: 1\n\n").await.unwrap();
    raw.through(b"data: 1\n\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    chunks.send("data: 2\n\n").await.unwrap();
    raw.through(b"data: 2\n\n\r\n").await;
    // It does not hold one of the app's slots either.
    let mut other = router.connect().await;
    other.send(b"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    other.head().await;
}
