//! Real sockets on loopback. The host's own addresses are always refused, so the tests that reach
//! something go through an upstream proxy of their own.

use std::net::SocketAddr;
use std::sync::mpsc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

async fn proxy(
    policy: Policy,
    bounds: Bounds,
    reach: Reach,
) -> (Proxy, SocketAddr, mpsc::Receiver<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (notes, noted) = mpsc::channel();
    let note: Note = Arc::new(move |line| drop(notes.send(line.to_owned())));
    let proxy = Proxy::serve(listener, Arc::new(policy), bounds, note).unwrap();
    proxy.allow(reach);
    (proxy, address, noted)
}

/// A listener that answers every connection with what `answer` says of its first bytes.
async fn server(answer: impl Fn(String) -> String + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                while let Ok(count) = stream.read(&mut buffer).await {
                    let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                    if count == 0 || stream.write_all(answer(text).as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let count = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

/// An upstream that opens any tunnel and then echoes.
async fn upstream(no_proxy: &str) -> Upstream {
    let address = server(|text| {
        if text.starts_with("CONNECT ") { "HTTP/1.1 200 OK\r\n\r\n".to_owned() } else { text }
    })
    .await;
    Upstream::parse(&format!("http://me:secret@{address}"), no_proxy).unwrap()
}

#[tokio::test]
async fn the_hosts_own_services_are_refused_by_name_and_by_address() {
    let target = server(|_| "reached".to_owned()).await;
    let (_proxy, address, noted) = proxy(
        Policy { private_hosts: vec!["*".to_owned()], ..Policy::default() },
        Bounds::default(),
        Reach::All,
    )
    .await;
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let request = format!("CONNECT {host}:{} HTTP/1.1\r\nHost: x\r\n\r\n", target.port());
        let answer = exchange(address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{host}: {answer}");
    }
    let answer = exchange(
        address,
        &format!("GET http://localhost:{}/ HTTP/1.1\r\nHost: x\r\n\r\n", target.port()),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(noted.try_iter().all(|line| line.contains("never reached")));
}

#[tokio::test]
async fn metadata_and_instance_addresses_are_refused() {
    let policy = Policy {
        instances: Some(Ipv4Addr::new(10, 200, 0, 0)),
        private_hosts: vec!["*".to_owned()],
        ..Policy::default()
    };
    let (_proxy, address, _) = proxy(policy, Bounds::default(), Reach::All).await;
    for host in ["169.254.169.254", "10.200.1.2", "[fd00:ec2::254]"] {
        let answer =
            exchange(address, &format!("CONNECT {host}:80 HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{host}: {answer}");
    }
}

#[tokio::test]
async fn a_private_address_needs_the_operators_word() {
    let (_proxy, address, noted) = proxy(Policy::default(), Bounds::default(), Reach::All).await;
    let answer = exchange(address, "CONNECT 192.168.77.1:443 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(noted.recv().unwrap().contains("where the operator allows"));
}

#[tokio::test]
async fn a_tunnel_through_the_operators_proxy_carries_bytes_both_ways() {
    let policy = Policy { upstream: Some(upstream("").await), ..Policy::default() };
    let (proxy, address, noted) = proxy(policy, Bounds::default(), Reach::All).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"CONNECT packages.example:443 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 200 "));
    stream.write_all(b"hello").await.unwrap();
    let mut echoed = [0; 5];
    stream.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"hello");
    assert!(proxy.bytes() >= 10);
    let line = noted.recv().unwrap();
    assert!(line.contains("packages.example:443") && !line.contains("secret"), "{line}");
}

#[tokio::test]
async fn a_request_in_absolute_form_is_passed_on_in_origin_form() {
    let (seen, heads) = mpsc::channel();
    let seen = std::sync::Mutex::new(seen);
    let origin = server(move |text| {
        if text.starts_with("CONNECT ") {
            return "HTTP/1.1 200 OK\r\n\r\n".to_owned();
        }
        seen.lock().unwrap().send(text).unwrap();
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\nok".to_owned()
    })
    .await;
    let policy = Policy {
        upstream: Some(Upstream::parse(&format!("http://{origin}"), "").unwrap()),
        ..Policy::default()
    };
    let (_proxy, address, _) = proxy(policy, Bounds::default(), Reach::All).await;
    let request = "GET http://packages.example/a?b=c HTTP/1.1\r\nHost: elsewhere\r\nProxy-Authorization: Basic eA==\r\n\r\n";
    let answer = exchange(address, request).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && !answer.to_lowercase().contains("x-hop"),
        "{answer}"
    );
    let head = heads.recv().unwrap().to_lowercase();
    assert!(head.starts_with("get /a?b=c http/1.1"), "{head}");
    assert!(
        head.contains("host: packages.example\r\n") && !head.contains("proxy-authorization"),
        "{head}"
    );
}

#[tokio::test]
async fn a_step_without_network_reaches_nothing_and_a_role_only_its_hosts() {
    let upstream = upstream("").await;
    let roles = BTreeMap::from([("python".to_owned(), vec!["*.packages.example".to_owned()])]);
    let policy = Policy { roles_only: true, roles, upstream: Some(upstream), ..Policy::default() };
    let (proxy, address, _) = proxy(policy, Bounds::default(), Reach::None).await;
    let ask = |host: &str| format!("CONNECT {host}:443 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(exchange(address, &ask("a.packages.example")).await.starts_with("HTTP/1.1 403 "));
    proxy.allow(Reach::of(&["python".to_owned()]));
    assert!(exchange(address, &ask("a.packages.example")).await.starts_with("HTTP/1.1 200 "));
    assert!(exchange(address, &ask("evil-packages.example")).await.starts_with("HTTP/1.1 403 "));
    proxy.allow(Reach::of(&["none".to_owned()]));
    assert!(exchange(address, &ask("a.packages.example")).await.starts_with("HTTP/1.1 403 "));
}

#[tokio::test]
async fn what_is_not_a_proxy_request_is_refused() {
    let (_proxy, address, _) = proxy(Policy::default(), Bounds::default(), Reach::All).await;
    for request in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET ftp://a/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT a:0 HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let answer = exchange(address, request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request}: {answer}");
    }
}

#[tokio::test]
async fn bytes_are_bounded_over_all_connections() {
    let policy = Policy { upstream: Some(upstream("").await), ..Policy::default() };
    let bounds = Bounds { bytes_max: 10_000, ..Bounds::default() };
    let (_proxy, address, _) = proxy(policy, bounds, Reach::All).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"CONNECT packages.example:443 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut total = 0;
    let mut buffer = [0; 4096];
    loop {
        // The connection is closed in the middle, so both may fail.
        let written = stream.write_all(&[b'x'; 2000]).await;
        let count = stream.read(&mut buffer).await.unwrap_or(0);
        total += count;
        if written.is_err() || count == 0 {
            break;
        }
    }
    assert!(total <= 10_000, "{total}");
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let policy = Policy { upstream: Some(upstream("").await), ..Policy::default() };
    let bounds = Bounds { idle_s_max: 0, ..Bounds::default() };
    let (_proxy, address, _) = proxy(policy, bounds, Reach::All).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Closed without a word of ours: the end is what this waits for.
    let mut buffer = [0; 1];
    assert_eq!(stream.read(&mut buffer).await.unwrap_or(0), 0);
}
