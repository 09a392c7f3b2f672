//! GELF, received by plain sockets and put together as its specification says.

use std::collections::BTreeMap;
use std::net::UdpSocket;

use berth_container::logfile::LogLimits;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::world::{DEADLINE, World};

/// The next message, from one datagram or from chunks.
fn message(socket: &UdpSocket) -> Value {
    let mut chunks: BTreeMap<Vec<u8>, BTreeMap<u8, Vec<u8>>> = BTreeMap::new();
    let mut bytes = vec![0; 65_536];
    loop {
        let count = socket.recv(&mut bytes).unwrap();
        let datagram = &bytes[..count];
        if !datagram.starts_with(&[0x1e, 0x0f]) {
            return serde_json::from_slice(datagram).unwrap();
        }
        let (id, number, of) = (datagram[2..10].to_vec(), datagram[10], datagram[11]);
        let parts = chunks.entry(id).or_default();
        parts.insert(number, datagram[12..].to_vec());
        if parts.len() == usize::from(of) {
            return serde_json::from_slice(&parts.values().flatten().copied().collect::<Vec<_>>())
                .unwrap();
        }
    }
}

#[tokio::test]
async fn gelf_comes_by_udp_in_chunks_where_a_line_is_long() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut world = World::new().await;
    let port = socket.local_addr().unwrap().port();
    let drain = world.add(&format!("gelf+udp://127.0.0.1:{port}"), None).await;
    world.start();
    let long = "long line ".repeat(800);
    world.write("hello");
    world.write(&long);
    let received = tokio::task::spawn_blocking(move || [message(&socket), message(&socket)]);
    let [first, second] = received.await.unwrap();
    assert_eq!(first["short_message"], "hello");
    assert_eq!((&first["_app"], &first["_instance"]), (&"shop".into(), &"web.1".into()));
    assert_eq!(first["_instance-id"], world.instance.id.to_string());
    assert_eq!(second["short_message"], long);
    world.sent(drain.id, 2).await;
    world.stop().await;
}

#[tokio::test]
async fn gelf_comes_by_tcp_with_a_null_byte_after_each_message() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut world = World::new().await;
    let port = listener.local_addr().unwrap().port();
    world.add(&format!("gelf+tcp://127.0.0.1:{port}"), None).await;
    world.start();
    world.write("one");
    world.write("two");
    let (stream, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    let mut reader = BufReader::new(stream);
    for expected in ["one", "two"] {
        let mut bytes = Vec::new();
        timeout(DEADLINE, reader.read_until(0, &mut bytes)).await.unwrap().unwrap();
        assert_eq!(bytes.pop(), Some(0));
        let json: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["short_message"], expected);
    }
    drop(reader);
    world.stop().await;
}

#[tokio::test]
async fn lines_that_the_log_has_lost_while_the_receiver_was_away_are_counted_in_a_line() {
    let small = LogLimits { file_bytes_max: 4096, files_max: 2, ..LogLimits::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut world = World::with(small).await;
    let drain = world.add(&format!("gelf+tcp://127.0.0.1:{port}"), None).await;
    world.start();
    world.write("first");
    let (stream, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    world.sent(drain.id, 1).await;
    drop(stream);
    // The platform is away, and the log goes round.
    world.stop().await;
    (0..1000).for_each(|n| world.write(&format!("line {n:04}")));
    world.start();
    let (stream, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    let mut reader = BufReader::new(stream);
    let mut next = async || -> Value {
        let mut bytes = Vec::new();
        timeout(DEADLINE, reader.read_until(0, &mut bytes)).await.unwrap().unwrap();
        bytes.pop();
        serde_json::from_slice(&bytes).unwrap()
    };
    let notice = next().await;
    let text = notice["short_message"].as_str().unwrap();
    assert_eq!(notice["_stream"], "system");
    let lost: u64 = text
        .strip_suffix(" lines were dropped: they came faster than this drain's receiver took them")
        .unwrap()
        .parse()
        .unwrap();
    let line = next().await;
    assert_eq!(line["short_message"], format!("line {lost:04}"), "the first that is left");
    let counted = world.sent(drain.id, 1000 - lost + 1).await;
    assert_eq!(counted.counts.dropped, lost);
    world.stop().await;
}
