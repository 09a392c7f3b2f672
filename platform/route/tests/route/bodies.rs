//! Bodies in both directions: streamed, bounded, never gathered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::{App, Router, read_head, route, soon, streaming_app, text};

#[tokio::test]
async fn the_first_chunk_of_an_answer_arrives_before_the_last_is_sent() {
    let (app, chunks) = streaming_app("text/plain").await;
    let router = Router::to(&app).await;
    let mut raw = router.connect().await;
    raw.send(b"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    chunks.send("first").await.unwrap();
    assert!(raw.head().await.contains("transfer-encoding: chunked"));
    assert_eq!(raw.through(b"first\r\n").await, b"5\r\nfirst\r\n");
    chunks.send("last!").await.unwrap();
    assert_eq!(raw.through(b"last!\r\n").await, b"5\r\nlast!\r\n");
    drop(chunks);
    assert_eq!(raw.through(b"0\r\n\r\n").await, b"0\r\n\r\n");
}

#[tokio::test]
async fn the_first_part_of_a_request_arrives_before_the_last_is_sent() {
    let (sender, mut parts) = mpsc::channel(8);
    let app = App::http(move |mut request| {
        let sender = sender.clone();
        async move {
            while let Some(Ok(frame)) = request.frame().await {
                sender.send(frame.into_data().unwrap()).await.unwrap();
            }
            text("done")
        }
    })
    .await;
    let router = Router::to(&app).await;
    let mut raw = router.connect().await;
    raw.send(b"POST / HTTP/1.1\r\nHost: app.localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
    assert_eq!(soon(parts.recv()).await.unwrap(), "first");
    raw.send(b"4\r\nlast\r\n0\r\n\r\n").await;
    assert_eq!(soon(parts.recv()).await.unwrap(), "last");
    assert_eq!(raw.reply().await.text(), "done");
}

#[tokio::test]
async fn both_directions_can_stream_at_once() {
    let app = App::http(|request| async move {
        let frames = request.into_body().into_data_stream();
        let frames =
            futures_util::StreamExt::map(frames, |part| Ok(Frame::data(part.unwrap_or_default())));
        Response::new(BodyExt::boxed(StreamBody::new(SyncStream(frames))))
    })
    .await;
    let router = Router::to(&app).await;
    let mut raw = router.connect().await;
    raw.send(b"POST / HTTP/1.1\r\nHost: app.localhost\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for n in 0..20 {
        raw.send(format!("6\r\npart{n:02}\r\n").as_bytes()).await;
        if n == 0 {
            raw.head().await;
        }
        assert_eq!(raw.through(b"\r\n").await, b"6\r\n");
        assert_eq!(raw.through(b"\r\n").await, format!("part{n:02}\r\n").as_bytes());
    }
    raw.send(b"0\r\n\r\n").await;
    assert_eq!(raw.through(b"0\r\n\r\n").await, b"0\r\n\r\n");
}

/// A stream that is only polled by its one owner.
struct SyncStream<S>(S);

impl<S: futures_util::Stream + Unpin> futures_util::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        std::pin::Pin::new(&mut self.get_mut().0).poll_next(cx)
    }
}

#[tokio::test]
async fn a_get_with_a_body_is_forwarded_with_it() {
    let app = App::echo().await;
    let router = Router::to(&app).await;
    let reply = router
        .ask("GET / HTTP/1.1\r\nHost: app.localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        .await;
    assert_eq!(reply.text(), "hello");
    let reply =
        router.ask("GET / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(reply.text(), "hello");
}

#[tokio::test]
async fn trailers_pass_both_ways_without_what_belongs_to_the_head() {
    let app = App::http(|request| async move {
        let body = request.into_body().collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let seen = format!("{trailers:?}");
        let mut fields = hyper::HeaderMap::new();
        fields.insert("x-sum", "42".parse().unwrap());
        fields.insert("set-cookie", "a=1".parse().unwrap());
        let frames = [Ok(Frame::data(Bytes::from(seen))), Ok(Frame::trailers(fields))];
        let mut response =
            Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed());
        response.headers_mut().insert("trailer", "x-sum, set-cookie".parse().unwrap());
        response
    })
    .await;
    let router = Router::to(&app).await;
    let reply = router
        .ask(
            "POST / HTTP/1.1\r\nHost: app.localhost\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
             Trailer: x-in, x-forwarded-for\r\n\r\n5\r\nhello\r\n0\r\nX-In: 7\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
        )
        .await;
    assert_eq!(reply.text(), "{\"x-in\": \"7\"}");
    assert_eq!(reply.trailers, "x-sum: 42\r\n");
}

#[tokio::test]
async fn continue_is_said_when_the_app_wants_the_body_and_not_before() {
    let app = App::echo().await;
    let router = Router::with(|config| config.limits.request_body_bytes_max = 10).await;
    router.publish(vec![route(&[app.target()])]).await;
    let head = |bytes: usize, host: &str| {
        format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {bytes}\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    let mut raw = router.connect().await;
    raw.send(head(5, "app.localhost").as_bytes()).await;
    assert_eq!(raw.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    raw.send(b"hello").await;
    assert_eq!(raw.reply().await.text(), "hello");
    for (bytes, host, status) in [(11, "app.localhost", 413), (5, "unknown.localhost", 404)] {
        let mut raw = router.connect().await;
        raw.send(head(bytes, host).as_bytes()).await;
        assert_eq!(raw.reply().await.status, status, "refused without asking for the body");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_before_the_app_is_asked_when_its_length_is_known() {
    let app = App::echo().await;
    let router = Router::with(|config| config.limits.request_body_bytes_max = 1000).await;
    router.publish(vec![route(&[app.target()])]).await;
    let mut raw = router.connect().await;
    raw.send(b"POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 1001\r\n\r\n").await;
    raw.send(&[b'x'; 1001]).await;
    let reply = raw.reply().await;
    assert_eq!((reply.status, reply.code()), (413, Some("body_too_large")));
    assert_eq!(app.connections.load(SeqCst), 0);
    // Unknown: as soon as it is too much.
    let mut raw = router.connect().await;
    raw.send(b"POST / HTTP/1.1\r\nHost: app.localhost\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..11 {
        raw.send(b"64\r\n").await;
        raw.send(&[b'x'; 100]).await;
        raw.send(b"\r\n").await;
    }
    let reply = raw.reply().await;
    assert_eq!((reply.status, reply.code()), (413, Some("body_too_large")));
    assert!(raw.is_closed().await);
}

#[tokio::test]
async fn a_client_that_keeps_sending_still_gets_to_read_the_413() {
    let app = App::echo().await;
    let router = Router::with(|config| config.limits.request_body_bytes_max = 1000).await;
    router.publish(vec![route(&[app.target()])]).await;
    for _ in 0..10 {
        let mut raw = router.connect().await;
        raw.send(b"POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 3000000\r\n\r\n")
            .await;
        raw.send(&vec![b'x'; 3_000_000]).await;
        assert_eq!(raw.reply().await.status, 413);
    }
}

#[tokio::test]
async fn an_app_that_answers_and_closes_without_reading_the_body_is_heard() {
    let app = App::script(|mut stream, _| async move {
        read_head(&mut stream).await;
        let answer = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 7\r\n\r\nno need";
        stream.write_all(answer).await.unwrap();
    })
    .await;
    let router = Router::to(&app).await;
    for bytes in [5, 100_000, 5_000_000] {
        for _ in 0..20 {
            let mut raw = router.connect().await;
            let head =
                format!("PUT / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: {bytes}\r\n\r\n");
            raw.send(head.as_bytes()).await;
            raw.send(&vec![b'x'; bytes]).await;
            let reply = raw.reply().await;
            assert_eq!((reply.status, reply.text()), (403, "no need"));
        }
    }
}

/// Memory that this process holds, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_megabytes_pass_in_each_direction_in_bounded_memory() {
    const BYTES: usize = 200 * 1024 * 1024;
    let received = Arc::new(AtomicUsize::new(0));
    let app = App::script({
        let received = Arc::clone(&received);
        move |mut stream, _| {
            let received = Arc::clone(&received);
            async move {
                read_head(&mut stream).await;
                let mut chunk = vec![0; 64 * 1024];
                while received.load(SeqCst) < BYTES {
                    let read = stream.read(&mut chunk).await.unwrap();
                    received.fetch_add(read, SeqCst);
                }
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                for _ in 0..BYTES / chunk.len() {
                    stream.write_all(&chunk).await.unwrap();
                }
                read_head(&mut stream).await;
            }
        }
    })
    .await;
    let router = Router::to(&app).await;
    let before = resident();
    let done = CancellationToken::new();
    let peak = tokio::spawn({
        let done = done.clone();
        async move {
            let mut peak = 0;
            while !done.is_cancelled() {
                peak = peak.max(resident());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            peak
        }
    });
    let mut stream = router.connect().await.stream;
    let head = format!("POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: {BYTES}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut chunk = vec![0; 64 * 1024];
    for _ in 0..BYTES / chunk.len() {
        soon(stream.write_all(&chunk)).await.unwrap();
    }
    let head = soon(read_head(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut left = BYTES;
    while left > 0 {
        let read = soon(stream.read(&mut chunk)).await.unwrap();
        assert!(read > 0);
        left -= read;
    }
    done.cancel();
    assert_eq!(received.load(SeqCst), BYTES);
    let grown = peak.await.unwrap().saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "{grown} bytes more than before");
}
