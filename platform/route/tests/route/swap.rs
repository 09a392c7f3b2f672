//! Targets come and go under load, and no request notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use tokio::sync::Notify;

use crate::support::{App, Raw, Router, route, route_of, soon, text};

/// An app that counts what it was asked.
async fn counting(asked: &Arc<AtomicUsize>) -> App {
    let asked = Arc::clone(asked);
    App::http(move |request| {
        let asked = Arc::clone(&asked);
        async move {
            asked.fetch_add(1, SeqCst);
            let body = request.into_body().collect().await.unwrap().to_bytes();
            text(if body.is_empty() { "get".into() } else { body })
        }
    })
    .await
}

/// Asks until told to stop; half on one connection, half on new ones, GET and POST.
async fn load(
    address: std::net::SocketAddr,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    keep: bool,
) {
    let mut kept = Raw::connect(address).await;
    let mut n = 0u64;
    while !stop.load(SeqCst) {
        n += 1;
        if !keep {
            kept = Raw::connect(address).await;
        }
        let reply = if n.is_multiple_of(2) {
            kept.get("/").await
        } else {
            let body = format!("{n:010}");
            let head = "POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 10\r\n\r\n";
            kept.send(format!("{head}{body}").as_bytes()).await;
            let reply = kept.reply().await;
            assert_eq!(reply.text(), body);
            reply
        };
        assert_eq!(reply.status, 200, "{reply:?}");
        done.fetch_add(1, SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_the_only_target_is_replaced_again_and_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let router = Router::start().await;
    let mut current = counting(&asked).await;
    router.publish(vec![route(&[current.target()])]).await;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|n| {
            tokio::spawn(load(router.address, Arc::clone(&stop), Arc::clone(&done), n % 2 == 0))
        })
        .collect();
    let mut swaps = 0;
    while done.load(SeqCst) < 4000 {
        let before = done.load(SeqCst);
        let next = counting(&asked).await;
        router.publish(vec![route(&[next.target()])]).await;
        // As the platform does it: the old one is killed once it has drained.
        let old = std::mem::replace(&mut current, next);
        router.drained(&old.target()).await;
        old.kill().await;
        swaps += 1;
        soon(async {
            while done.load(SeqCst) < before + 40 {
                assert!(clients.iter().all(|client| !client.is_finished()), "a request failed");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    stop.store(true, SeqCst);
    for client in clients {
        soon(client).await.unwrap();
    }
    assert!(swaps > 5, "{swaps}");
    assert_eq!(asked.load(SeqCst) as u64, done.load(SeqCst), "each request reached an app once");
}

#[tokio::test]
async fn a_removed_target_finishes_what_it_has_gets_nothing_new_and_is_reported() {
    let (began, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let old = App::http({
        let (began, gate) = (Arc::clone(&began), Arc::clone(&gate));
        move |_| {
            let (began, gate) = (Arc::clone(&began), Arc::clone(&gate));
            async move {
                began.notify_one();
                gate.notified().await;
                text("old")
            }
        }
    })
    .await;
    let new = App::saying("new").await;
    let router = Router::to(&old).await;
    let mut raw = router.connect().await;
    raw.send(b"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    soon(began.notified()).await;
    router.publish(vec![route(&[new.target()])]).await;
    for _ in 0..10 {
        assert_eq!(router.get("/").await.text(), "new");
    }
    let hello = berth_route::RouterClient::connect(&router.control).await.unwrap();
    assert_eq!(hello.hello().draining.len(), 1);
    gate.notify_one();
    assert_eq!(raw.reply().await.text(), "old");
    router.drained(&old.target()).await;
    let hello = berth_route::RouterClient::connect(&router.control).await.unwrap();
    assert_eq!((hello.hello().draining.len(), hello.hello().generation), (0, 2));
    // The client's connection goes on, to the new target.
    assert_eq!(raw.get("/").await.text(), "new");
    // A target without requests is drained at once.
    router.publish(vec![]).await;
    router.drained(&new.target()).await;
}

#[tokio::test]
async fn a_request_that_outlives_the_drain_is_504() {
    let began = Arc::new(Notify::new());
    let app = App::http({
        let began = Arc::clone(&began);
        move |_| {
            began.notify_one();
            std::future::pending()
        }
    })
    .await;
    let router = Router::with(|config| config.deadlines.drain = Duration::from_millis(100)).await;
    router.publish(vec![route(&[app.target()])]).await;
    let mut raw = router.connect().await;
    raw.send(b"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    soon(began.notified()).await;
    let removed = Instant::now();
    router.publish(vec![]).await;
    let reply = raw.reply().await;
    assert_eq!((reply.status, reply.code()), (504, Some("drain_cut")));
    assert!(removed.elapsed() >= Duration::from_millis(100));
    router.drained(&app.target()).await;
}

#[tokio::test]
async fn a_connect_refused_by_a_target_that_was_just_removed_goes_to_the_new_ones() {
    // A burst of swaps in which the old target dies before the router is told.
    let router = Router::start().await;
    let mut current = App::saying("fine").await;
    router.publish(vec![route(&[current.target()])]).await;
    for _ in 0..50 {
        let next = App::saying("fine").await;
        let both = vec![route(&[current.target(), next.target()])];
        let address = router.address;
        let asking = tokio::spawn(async move {
            let mut statuses = Vec::new();
            for _ in 0..10 {
                statuses.push(Raw::connect(address).await.get("/").await.status);
            }
            statuses
        });
        router.publish(both).await;
        let old = std::mem::replace(&mut current, next);
        router.publish(vec![route(&[current.target()])]).await;
        router.drained(&old.target()).await;
        old.kill().await;
        assert_eq!(soon(asking).await.unwrap(), [200; 10]);
    }
}

#[tokio::test]
async fn a_change_of_one_route_among_ten_thousand_is_quick_and_touches_no_connection() {
    let app = App::saying("mine").await;
    let router = Router::start().await;
    let many = |mine: &App| {
        let mut routes: Vec<_> = (0..10_000)
            .map(|n: u32| {
                let mut route = route_of(0, &format!("n{n}.localhost"), &[]);
                let bytes = n.to_be_bytes();
                let random = [9, 9, 9, 9, 9, 9, bytes[0], bytes[1], bytes[2], bytes[3]];
                route.app = berth_model::AppId::new(1, random);
                route
            })
            .collect();
        routes.push(route(&[mine.target()]));
        routes
    };
    router.publish(many(&app)).await;
    let mut raw = router.connect().await;
    assert_eq!(raw.get("/").await.text(), "mine");
    let started = Instant::now();
    router.publish(many(&app)).await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?} in a debug build");
    assert_eq!(raw.get("/").await.text(), "mine");
    assert_eq!(app.connections.load(SeqCst), 1, "the pooled connection was kept");
}
