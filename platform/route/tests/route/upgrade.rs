//! WebSocket and other upgrades: through, untouched by other changes, ended in time.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::support::{App, Router, read_head, route, route_of, soon};

async fn echoing() -> App {
    App::script(|stream, _| async move {
        let Ok(mut socket) = accept_async(stream).await else {
            return;
        };
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await
}

async fn open(router: &Router) -> WebSocketStream<TcpStream> {
    let stream = router.connect().await.stream;
    let (socket, answer) = soon(client_async("ws://app.localhost/chat", stream)).await.unwrap();
    assert_eq!(answer.status(), 101);
    assert!(answer.headers().contains_key("x-request-id"));
    socket
}

async fn say(socket: &mut WebSocketStream<TcpStream>, words: &str) {
    socket.send(Message::text(words)).await.unwrap();
    assert_eq!(soon(socket.next()).await.unwrap().unwrap(), Message::text(words));
}

#[tokio::test]
async fn a_websocket_passes_messages_of_any_size_both_ways() {
    let app = echoing().await;
    let router = Router::to(&app).await;
    let mut socket = open(&router).await;
    for n in 0..100 {
        say(&mut socket, &format!("message {n}")).await;
    }
    say(&mut socket, &"x".repeat(1_000_000)).await;
    soon(socket.close(None)).await.unwrap();
    while let Some(Ok(_)) = soon(socket.next()).await {}
    let line = router.logged(|line| line["status"] == 101).await;
    assert!(line["bytes"].as_u64().unwrap() > 1_000_000, "{line}");
    assert!(line["request_bytes"].as_u64().unwrap() > 1_000_000, "{line}");
    assert_eq!(line.get("code"), None);
}

#[tokio::test]
async fn other_changes_of_the_table_do_not_touch_a_websocket() {
    let (app, other) = (echoing().await, App::saying("other").await);
    let router = Router::to(&app).await;
    let mut socket = open(&router).await;
    for n in 2..20 {
        let unrelated = route_of(n, &format!("n{n}.localhost"), &[other.target()]);
        router.publish(vec![route(&[app.target()]), unrelated]).await;
        say(&mut socket, "still here").await;
    }
}

#[tokio::test]
async fn a_removed_target_keeps_its_websockets_until_the_drain_deadline() {
    let (old, new) = (echoing().await, App::saying("new").await);
    let router = Router::with(|config| config.deadlines.drain = Duration::from_millis(300)).await;
    router.publish(vec![route(&[old.target()])]).await;
    let mut socket = open(&router).await;
    let removed = Instant::now();
    router.publish(vec![route(&[new.target()])]).await;
    say(&mut socket, "during the drain").await;
    assert_eq!(router.get("/").await.text(), "new");
    // Still draining, as a control process that just came back is told.
    let again = berth_route::RouterClient::connect(&router.control).await.unwrap();
    let draining = &again.hello().draining;
    assert_eq!(
        (draining.len(), draining[0].instance, draining[0].in_flight),
        (1, old.target().instance, 1)
    );
    assert!(matches!(soon(socket.next()).await, None | Some(Err(_))), "cut");
    assert!(removed.elapsed() >= Duration::from_millis(300), "{:?}", removed.elapsed());
    router.drained(&old.target()).await;
}

#[tokio::test]
async fn a_tunnel_without_a_byte_ends_at_its_idle_limit() {
    let app = echoing().await;
    let router =
        Router::with(|config| config.deadlines.tunnel_idle = Duration::from_millis(150)).await;
    router.publish(vec![route(&[app.target()])]).await;
    let mut socket = open(&router).await;
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        say(&mut socket, "awake").await;
    }
    assert!(matches!(soon(socket.next()).await, None | Some(Err(_))));
}

#[tokio::test]
async fn a_tunnel_does_not_hold_a_slot_of_the_app() {
    let app = echoing().await;
    let router = Router::with(|config| {
        config.limits.app_in_flight_max = 1;
        config.deadlines.queue = Duration::from_millis(100);
    })
    .await;
    router.publish(vec![route(&[app.target()])]).await;
    let mut sockets = Vec::new();
    for _ in 0..5 {
        sockets.push(open(&router).await);
    }
    for socket in &mut sockets {
        say(socket, "all open").await;
    }
}

#[tokio::test]
async fn what_is_sent_behind_the_request_arrives_after_the_switch_and_half_closing_works() {
    let app = App::script(|mut stream, _| async move {
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        assert!(head.contains("upgrade: echo\r\n") && head.contains("connection: upgrade\r\n"), "{head}");
        // The switch and the first bytes in one packet.
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: Echo\r\nConnection: Upgrade\r\n\r\nwelcome ";
        stream.write_all(answer).await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        stream.write_all(&all).await.unwrap();
    })
    .await;
    let router = Router::to(&app).await;
    let mut raw = router.connect().await;
    raw.send(b"GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly ").await;
    assert!(raw.head().await.starts_with("HTTP/1.1 101"));
    assert_eq!(raw.take(8).await, b"welcome ");
    raw.send(b"and late").await;
    raw.stream.shutdown().await.unwrap();
    assert_eq!(raw.take(14).await, b"early and late");
    assert!(raw.is_closed().await);
}

#[tokio::test]
async fn an_app_sees_that_the_other_end_of_a_tunnel_has_left() {
    let (ended, mut end) = tokio::sync::mpsc::channel(1);
    let app = App::script(move |stream, _| {
        let ended = ended.clone();
        async move {
            let mut socket = accept_async(stream).await.unwrap();
            while let Some(Ok(_)) = socket.next().await {}
            ended.send(()).await.unwrap();
        }
    })
    .await;
    let router = Router::to(&app).await;
    drop(open(&router).await);
    soon(end.recv()).await.unwrap();
}
