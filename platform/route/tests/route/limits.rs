//! Many connections, and the router's own end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::support::{App, Router, route, soon, text};

#[tokio::test]
async fn a_full_router_serves_the_connections_it_has_and_takes_the_next_when_one_leaves() {
    let app = App::saying("hello").await;
    let router = Router::with(|config| config.limits.connections_max = Some(2)).await;
    router.publish(vec![route(&[app.target()])]).await;
    let (mut first, mut second) = (router.connect().await, router.connect().await);
    assert_eq!(first.get("/").await.text(), "hello");
    assert_eq!(second.get("/").await.text(), "hello");
    let mut third = router.connect().await;
    third.send(b"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    let early = tokio::time::timeout(Duration::from_millis(100), third.stream.readable()).await;
    assert!(early.is_err(), "the third waits");
    assert_eq!(first.get("/").await.text(), "hello");
    drop(second);
    assert_eq!(third.reply().await.text(), "hello");
}

#[tokio::test]
async fn a_load_generator_on_this_machine_is_not_held_to_the_limit_per_address() {
    let app = App::saying("hello").await;
    let router = Router::with(|config| config.limits.connections_per_ip_max = 2).await;
    router.publish(vec![route(&[app.target()])]).await;
    let mut connections = Vec::new();
    for _ in 0..20 {
        connections.push(router.connect().await);
    }
    for raw in &mut connections {
        assert_eq!(raw.get("/").await.text(), "hello");
    }
}

#[tokio::test]
async fn a_router_that_ends_finishes_what_it_has_and_closes_connections_with_their_next_answer() {
    let (began, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let app = App::http({
        let (began, gate) = (Arc::clone(&began), Arc::clone(&gate));
        move |request| {
            let (began, gate) = (Arc::clone(&began), Arc::clone(&gate));
            async move {
                if request.uri().path() == "/slow" {
                    began.notify_one();
                    gate.notified().await;
                }
                text("done")
            }
        }
    })
    .await;
    let router =
        Router::with(|config| config.deadlines.drain_idle = Duration::from_millis(500)).await;
    router.publish(vec![route(&[app.target()])]).await;
    let (mut slow, mut kept, mut idle) =
        (router.connect().await, router.connect().await, router.connect().await);
    assert_eq!(kept.get("/").await.header("connection"), None);
    assert_eq!(idle.get("/").await.header("connection"), None);
    slow.send(b"GET /slow HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    soon(began.notified()).await;
    router.begin_end();
    let mut closing = false;
    while !closing {
        closing = kept.get("/").await.header("connection") == Some("close");
    }
    assert!(kept.is_closed().await);
    assert!(idle.is_closed().await, "after the moment for a request on its way");
    gate.notify_one();
    let reply = slow.reply().await;
    assert_eq!((reply.text(), reply.header("connection")), ("done", Some("close")));
    router.end().await;
}

#[tokio::test]
async fn what_outlives_the_drain_of_the_router_is_cut() {
    let began = Arc::new(Notify::new());
    let app = App::http({
        let began = Arc::clone(&began);
        move |_| {
            began.notify_one();
            std::future::pending()
        }
    })
    .await;
    let router = Router::with(|config| {
        config.deadlines.drain = Duration::from_millis(200);
        config.deadlines.drain_idle = Duration::from_millis(10);
    })
    .await;
    router.publish(vec![route(&[app.target()])]).await;
    let mut raw = router.connect().await;
    raw.send(b"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    soon(began.notified()).await;
    let started = Instant::now();
    router.end().await;
    assert!(started.elapsed() >= Duration::from_millis(200), "{:?}", started.elapsed());
    assert!(raw.is_closed().await);
}
