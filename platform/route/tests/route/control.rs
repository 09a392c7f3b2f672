//! The control connection: tables, refusals, reports, and the listener for a successor.

use std::io::{Read, Write};
use std::time::Duration;

use berth_model::RouteTable;
use berth_route::{Config, PROTOCOL, RouteError, RouterClient};

use crate::support::{App, Raw, Router, listeners, route, route_of, soon, until};

#[tokio::test]
async fn an_older_or_contradictory_table_is_refused_and_the_served_one_stays() {
    let app = App::saying("mine").await;
    let router = Router::start().await;
    let table = |generation, routes| RouteTable { generation, routes };
    let good = table(5, vec![route(&[app.target()])]);
    assert!(router.client.publish(&good).await.unwrap(), "on disk");
    let refused = router.client.publish(&table(4, vec![])).await.unwrap_err();
    assert!(matches!(refused, RouteError::Refused { generation: 4, current: 5, .. }), "{refused}");
    let twice = table(6, vec![route(&[]), route_of(2, "app.localhost", &[])]);
    let refused = router.client.publish(&twice).await.unwrap_err();
    assert!(refused.to_string().contains("app.localhost"), "{refused}");
    assert_eq!(router.get("/").await.text(), "mine");
    router.client.publish(&good).await.unwrap();
    let again = RouterClient::connect(&router.control).await.unwrap();
    assert_eq!((again.hello().generation, again.hello().build.as_str()), (5, "test"));
    assert_eq!(again.hello().protocol, PROTOCOL);
}

#[tokio::test]
async fn a_successor_serves_on_the_same_socket_with_the_last_table() {
    let app = App::saying("mine").await;
    let router = Router::to(&app).await;
    let http = soon(router.client.listeners()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (control, _, _, path) = listeners(&folder).await;
    let config = Config::new(router.folder.path().join("route"), "/nonexistent", "next");
    let serving = tokio::spawn(berth_route::serve(config, control, http, std::future::pending()));
    let client = soon(RouterClient::connect(&path)).await.unwrap();
    assert_eq!((client.hello().generation, client.hello().build.as_str()), (1, "next"));
    let address = router.address;
    router.client.drain().await.unwrap();
    soon(router.client.closed()).await;
    for _ in 0..20 {
        assert_eq!(Raw::connect(address).await.get("/").await.text(), "mine");
    }
    client.drain().await.unwrap();
    soon(serving).await.unwrap().unwrap();
    router.end().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the last duplicate is closed");
}

#[tokio::test]
async fn requests_are_counted_by_app_status_bytes_and_time() {
    let app = App::echo().await;
    let router = Router::start().await;
    router.publish(vec![route(&[app.target()])]).await;
    let metrics = soon(router.client.metrics()).await.unwrap();
    assert_eq!((metrics.apps.len(), metrics.log_dropped), (0, 0), "nothing was asked");
    for _ in 0..3 {
        router
            .ask("POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 5\r\n\r\nhello")
            .await;
    }
    // Of no app.
    router.ask("GET / HTTP/1.1\r\nHost: other.localhost\r\n\r\n").await;
    let metrics = counted(&router, 3).await;
    assert_eq!(metrics.app, route(&[]).app);
    assert_eq!(metrics.statuses, [0, 3, 0, 0, 0, 0]);
    assert_eq!((metrics.bytes_in, metrics.bytes_out, metrics.faults), (15, 15, 0));
    assert_eq!(metrics.latency.iter().sum::<u64>(), 3);
    router.publish(vec![route(&[])]).await;
    router.get("/").await;
    let metrics = counted(&router, 4).await;
    assert_eq!((metrics.statuses, metrics.faults), ([0, 3, 0, 0, 1, 0], 1), "the router's own");
}

#[tokio::test]
async fn requests_that_come_at_once_are_all_counted() {
    const CLIENTS: u64 = 8;
    const EACH: u64 = 50;
    let app = App::echo().await;
    let router = Router::start().await;
    router.publish(vec![route(&[app.target()])]).await;
    let address = router.address;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            tokio::spawn(async move {
                let mut raw = Raw::connect(address).await;
                for _ in 0..EACH {
                    raw.get("/").await;
                }
            })
        })
        .collect();
    for client in clients {
        soon(client).await.unwrap();
    }
    let metrics = counted(&router, CLIENTS * EACH).await;
    assert_eq!(metrics.statuses[1], CLIENTS * EACH);
    assert_eq!(metrics.latency.iter().sum::<u64>(), CLIENTS * EACH);
}

/// The counters of the only app, once it had so many requests. A request is counted when its answer
/// has left the router, so that its client may be a little earlier.
async fn counted(router: &Router, requests: u64) -> berth_route::AppMetrics {
    soon(async {
        loop {
            let mut metrics = router.client.metrics().await.unwrap();
            if let Some(app) = metrics.apps.pop()
                && app.requests >= requests
            {
                assert_eq!((app.requests, metrics.apps.len()), (requests, 0));
                return app;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn a_peer_of_another_protocol_or_with_nonsense_is_sent_away() {
    let router = Router::start().await;
    let talk = |frame: Vec<u8>| {
        let path = router.control.clone();
        tokio::task::spawn_blocking(move || {
            let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(&frame).unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            String::from_utf8_lossy(&answer).into_owned()
        })
    };
    let frame = |text: &str| [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat();
    let answer = soon(talk(frame(r#"{"kind":"hello","protocol":99}"#))).await.unwrap();
    assert!(answer.contains("incompatible"), "{answer:?}");
    assert_eq!(soon(talk(frame(r#"{"kind":"drain"}"#))).await.unwrap(), "", "no hello");
    assert_eq!(soon(talk(frame("nonsense"))).await.unwrap(), "");
    assert_eq!(soon(talk(vec![0xff; 8])).await.unwrap(), "", "a frame of four gigabytes");
    // The router is none the worse for it.
    router.publish(vec![]).await;
    assert_eq!(router.get("/").await.status, 404);
}

#[tokio::test]
async fn a_router_that_cannot_write_its_snapshot_serves_the_table_and_says_so() {
    let app = App::saying("mine").await;
    let router = Router::start().await;
    std::fs::remove_dir_all(router.folder.path().join("route")).unwrap();
    let table = RouteTable { generation: 1, routes: vec![route(&[app.target()])] };
    assert!(!router.client.publish(&table).await.unwrap());
    assert_eq!(router.get("/").await.text(), "mine");
}

#[tokio::test]
async fn traffic_goes_on_while_no_control_process_is_there() {
    let app = App::saying("mine").await;
    let folder = tempfile::tempdir().unwrap();
    let (control, http, address, path) = listeners(&folder).await;
    let config = Config::new(folder.path().join("route"), "/nonexistent", "test");
    let serving = tokio::spawn(berth_route::serve(config, control, http, std::future::pending()));
    let client = soon(RouterClient::connect(&path)).await.unwrap();
    client
        .publish(&RouteTable { generation: 1, routes: vec![route(&[app.target()])] })
        .await
        .unwrap();
    drop(client);
    assert_eq!(Raw::connect(address).await.get("/").await.text(), "mine");
    // The connection of the handle that was dropped is closed.
    let client = soon(RouterClient::connect(&path)).await.unwrap();
    client.drain().await.unwrap();
    soon(serving).await.unwrap().unwrap();
    until(|| std::fs::metadata(folder.path().join("route/access.log")).is_ok()).await;
}
