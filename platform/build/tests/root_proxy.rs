//! The proxy of builds on a machine with an outside of its own, and a name server that changes its
//! mind. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../tests/src/scene.rs"]
#[expect(dead_code, unreachable_pub, reason = "the acceptance tests use the rest of it")]
mod scene;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_build::proxy::{Bounds, Note, Policy, Proxy, Reach};
use scene::{MACHINE, METADATA, PORT, PRIVATE, PUBLIC, Scene, hear};

/// Answers the n-th question for an IPv4 address with the n-th of these, the last one for ever,
/// and counts them. Other questions have no answer.
struct Names {
    socket: UdpSocket,
    asked: Arc<Mutex<usize>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Names {
    fn start(answers: Vec<Ipv4Addr>) -> Self {
        let socket = UdpSocket::bind("127.0.0.53:53").unwrap();
        let asked = Arc::new(Mutex::new(0));
        let (serving, counted) = (socket.try_clone().unwrap(), Arc::clone(&asked));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            // A datagram without a header ends it.
            while let Ok((length, peer)) = serving.recv_from(&mut buffer) {
                if length < 12 {
                    return;
                }
                let end = 12 + buffer[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
                let mut reply = buffer[..end].to_vec();
                reply[2] = 0x81;
                reply[3] = 0x80;
                reply[6..12].fill(0);
                if buffer[end - 3] == 1 {
                    let mut asked = counted.lock().unwrap();
                    let address = answers[(*asked).min(answers.len() - 1)];
                    *asked += 1;
                    reply[7] = 1;
                    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                    reply.extend(address.octets());
                }
                serving.send_to(&reply, peer).unwrap();
            }
        });
        Self { socket, asked, thread: Some(thread) }
    }

    fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        let _ = self.socket.send_to(&[0], self.socket.local_addr().unwrap());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A proxy on loopback, on a runtime of its own that is in the scene as well.
fn proxy(policy: Policy) -> SocketAddr {
    proxy_for(policy, Reach::All)
}

/// The same for a step that may reach so much.
fn proxy_for(policy: Policy, reach: Reach) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let note: Note = Arc::new(|_| {});
            let proxy = Proxy::serve(listener, Arc::new(policy), Bounds::default(), note).unwrap();
            proxy.allow(reach);
            std::future::pending::<()>().await;
        });
    });
    address
}

/// What comes back through a tunnel to a host: the proxy's status, and what the host says.
fn through(proxy: SocketAddr, host: &str, port: u16) -> (String, String) {
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "CONNECT {host}:{port} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    // A refusal is kept alive: its end is not waited for.
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        text += &String::from_utf8_lossy(&buffer[..count]);
        if !text.starts_with("HTTP/1.1 200 ") && text.contains("\r\n\r\n") {
            break;
        }
    }
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().to_owned();
    (status, body.to_owned())
}

fn address(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

#[test]
fn the_address_that_was_judged_is_the_one_connected_to() {
    let scene = Scene::enter();
    scene.put_etc("resolv.conf", "nameserver 127.0.0.53\n");
    // Public when it is judged, the machine itself when it is asked for again.
    let names = Names::start(vec![address(PUBLIC), address(MACHINE)]);
    let secret = TcpListener::bind(("0.0.0.0", PORT)).unwrap();
    secret.set_nonblocking(true).unwrap();
    let proxy = proxy(Policy::default());
    let (status, text) = through(proxy, "rebinding.example", PORT);
    assert_eq!((status.as_str(), text), ("200", format!("you are {MACHINE}\n")));
    assert_eq!(names.asked(), 1, "the name was looked up more than once");
    // Now it is the machine's own.
    let (status, text) = through(proxy, "rebinding.example", PORT);
    assert!(status == "403" && text.contains("the host's own"), "{status} {text}");
    assert!(secret.accept().is_err(), "the machine's own service was connected to");
}

#[test]
fn what_a_build_may_reach_is_decided_by_where_the_name_leads() {
    let scene = Scene::enter();
    scene.put_etc("resolv.conf", "nameserver 127.0.0.53\n");
    let pinned =
        || Policy { private_hosts: vec!["pinned.example".to_owned()], ..Policy::default() };
    for (host, target, allowed) in [
        ("any.example", PUBLIC, true),
        ("any.example", PRIVATE, false),
        ("pinned.example", PRIVATE, true),
        ("pinned.example", METADATA, false),
        ("pinned.example", MACHINE, false),
        ("pinned.example", "127.0.0.1", false),
    ] {
        let _names = Names::start(vec![address(target)]);
        let (status, text) = through(proxy(pinned()), host, PORT);
        let expected = if allowed { "200" } else { "403" };
        assert_eq!(status, expected, "{host} at {target}: {text}");
        assert_eq!(text.starts_with("you are "), allowed, "{host} at {target}: {text}");
        if target == METADATA {
            assert!(hear(target, PORT).is_some(), "it is there for the machine");
        }
    }
}

#[test]
fn a_mirror_in_a_private_network_is_reached_by_the_steps_of_its_role_alone() {
    let scene = Scene::enter();
    scene.put_etc("resolv.conf", "nameserver 127.0.0.53\n");
    let pinned = |url: &str| Policy {
        mirrors: [("python".to_owned(), url.parse().unwrap())].into(),
        ..Policy::default()
    };
    let names = format!("http://mirror.example:{PORT}/simple/");
    let role = |name: &str| Reach::of(&[name.to_owned()]);
    for (reach, host, port, target, allowed) in [
        (role("python"), "mirror.example", PORT, PRIVATE, true),
        (role("python"), "MIRROR.example", PORT, PRIVATE, true),
        (Reach::All, "mirror.example", PORT, PRIVATE, true),
        (role("node"), "mirror.example", PORT, PRIVATE, false),
        (Reach::None, "mirror.example", PORT, PRIVATE, false),
        (role("python"), "mirror.example", PORT + 1, PRIVATE, false),
        (role("python"), "other.example", PORT, PRIVATE, false),
        (role("python"), "mirror.example", PORT, METADATA, false),
        (role("python"), "mirror.example", PORT, MACHINE, false),
    ] {
        let _names = Names::start(vec![address(target)]);
        let (status, text) = through(proxy_for(pinned(&names), reach.clone()), host, port);
        let expected = if allowed { "200" } else { "403" };
        assert_eq!(status, expected, "{reach:?} {host}:{port} at {target}: {text}");
        assert_eq!(text.starts_with("you are "), allowed, "{host} at {target}: {text}");
    }
    // Pinned by its address, and where the operator allows nothing but roles.
    let only = |policy| Policy { roles_only: true, ..policy };
    let by_address = || only(pinned(&format!("http://{PRIVATE}:{PORT}/")));
    let (status, text) = through(proxy_for(by_address(), role("python")), PRIVATE, PORT);
    assert!(status == "200" && text.starts_with("you are "), "{status} {text}");
    let (status, text) = through(proxy_for(by_address(), role("node")), PRIVATE, PORT);
    assert!(status == "403" && text.contains("no role"), "{status} {text}");
}
