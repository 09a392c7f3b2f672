//! The listener: deadlines of request heads, places of connections, what must not be cut, the end.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, State};
use axum::routing::{get, post};
use berthd::listener::{Limits, serve};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

const HEAD_WAIT: Duration = Duration::from_millis(200);
const SOON: Duration = Duration::from_secs(10);
const ASK: &[u8] = b"GET /peer HTTP/1.1\r\nHost: x\r\n\r\n";
/// The preface of HTTP/2 and an empty SETTINGS frame.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// What requests of `/wait` pass.
struct Gate {
    /// A permit for each that has come.
    come: Semaphore,
    /// A permit lets one be answered.
    go: Semaphore,
}

struct Served {
    address: SocketAddr,
    gate: Arc<Gate>,
    end: CancellationToken,
    ended: JoinHandle<()>,
}

impl Served {
    async fn start(connections_max: u32, head_wait: Duration) -> Self {
        let gate = Arc::new(Gate { come: Semaphore::new(0), go: Semaphore::new(0) });
        let router = Router::new()
            .route(
                "/peer",
                get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()),
            )
            .route("/echo", post(async |body: String| body))
            .route("/wait", get(wait))
            .route("/ws", get(async |up: WebSocketUpgrade| up.on_upgrade(echo)))
            .with_state(Arc::clone(&gate));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits =
            Limits { connections_max: NonZeroU32::new(connections_max).unwrap(), head_wait };
        let end = CancellationToken::new();
        let ended = tokio::spawn(serve(listener, router, limits, end.clone()));
        Self { address, gate, end, ended }
    }

    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }
}

async fn wait(State(gate): State<Arc<Gate>>) -> &'static str {
    gate.come.add_permits(1);
    gate.go.acquire().await.unwrap().forget();
    "waited"
}

async fn echo(mut socket: axum::extract::ws::WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Reads an answer up to and with `last`.
async fn answer(stream: &mut TcpStream, last: &str) {
    let mut text = Vec::new();
    while !text.ends_with(last.as_bytes()) {
        let read = timeout(SOON, stream.read_buf(&mut text)).await.expect("an answer in time");
        assert_ne!(read.unwrap(), 0, "closed after {:?}", String::from_utf8_lossy(&text));
    }
    assert!(text.starts_with(b"HTTP/1.1 200 "), "{:?}", String::from_utf8_lossy(&text));
}

/// Asks on an open connection, which is told its own address.
async fn ask(stream: &mut TcpStream) {
    stream.write_all(ASK).await.unwrap();
    answer_to_ask(stream).await;
}

async fn answer_to_ask(stream: &mut TcpStream) {
    let peer = stream.local_addr().unwrap().to_string();
    answer(stream, &peer).await;
}

/// Waits until the other side closes.
async fn closed(mut stream: TcpStream, what: &str) {
    let mut rest = Vec::new();
    let read = timeout(SOON, stream.read_to_end(&mut rest)).await;
    // A reset is an end as well.
    let _ = read.unwrap_or_else(|_| panic!("still open: {what}"));
}

#[tokio::test]
async fn a_head_that_does_not_come_closes_its_connection() {
    let served = Served::start(16, HEAD_WAIT).await;
    let heads: [&[u8]; 5] =
        [b"", b"G", b"GET / HTTP/1.1\r\nHost: ev", b"PRI * HTTP/2.0\r\n", HTTP2];
    let mut streams = Vec::new();
    for head in heads {
        streams.push((served.send(head).await, String::from_utf8_lossy(head)));
    }
    for (stream, head) in streams {
        closed(stream, &format!("{head:?}")).await;
    }
    let mut idle = served.send(ASK).await;
    answer_to_ask(&mut idle).await;
    closed(idle, "idle after an answer").await;
}

#[tokio::test]
async fn a_connection_too_many_waits_until_one_leaves() {
    let served = Served::start(2, SOON).await;
    let mut first = served.send(ASK).await;
    answer_to_ask(&mut first).await;
    let url = format!("ws://{}/ws", served.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();

    let mut third = served.send(ASK).await;
    let early = timeout(Duration::from_millis(300), third.readable()).await;
    assert!(early.is_err(), "a connection too many is answered");
    ask(&mut first).await;
    socket.send(Message::text("a")).await.unwrap();
    assert_eq!(timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap(), Message::text("a"));

    drop(socket);
    answer_to_ask(&mut third).await;
    ask(&mut first).await;
}

#[tokio::test]
async fn requests_that_are_silent_for_long_are_not_cut() {
    let served = Served::start(16, HEAD_WAIT).await;
    let mut poll = served.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut push =
        served.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab").await;
    let url = format!("ws://{}/ws", served.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    // The deadline passes more than once.
    for _ in 0..3 {
        closed(served.send(b"GET ").await, "a head that stops").await;
    }

    socket.send(Message::text("a")).await.unwrap();
    assert_eq!(timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap(), Message::text("a"));
    push.write_all(b"cd").await.unwrap();
    answer(&mut push, "abcd").await;
    served.gate.go.add_permits(1);
    answer(&mut poll, "waited").await;
}

#[tokio::test]
async fn the_end_closes_idle_connections_and_waits_for_requests() {
    let served = Served::start(16, Duration::from_secs(60)).await;
    let mut idle = served.send(ASK).await;
    answer_to_ask(&mut idle).await;
    let silent = served.send(b"").await;
    let mut poll = served.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    // Connections are taken in their order: those before this one are, once it is answered.
    let mut last = served.send(ASK).await;
    answer_to_ask(&mut last).await;
    timeout(SOON, served.gate.come.acquire()).await.expect("a request in time").unwrap().forget();

    served.end.cancel();
    closed(idle, "idle").await;
    closed(silent, "silent").await;
    closed(last, "idle").await;
    assert!(!served.ended.is_finished(), "a request is open");
    served.gate.go.add_permits(1);
    answer(&mut poll, "waited").await;
    timeout(SOON, served.ended).await.expect("the end in time").unwrap();
    assert!(TcpStream::connect(served.address).await.is_err(), "still listening");
}
