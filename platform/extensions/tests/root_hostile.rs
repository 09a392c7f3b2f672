//! Hostile guests and servers on a machine with an outside of its own: what guests may reach of it.
//! `tests/guests/README.md` has a row for each guest. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../tests/src/scene.rs"]
#[expect(dead_code, unreachable_pub, reason = "the acceptance tests use the rest of it")]
mod scene;

#[path = "hostile/build.rs"]
mod build;
#[path = "hostile/host.rs"]
#[expect(dead_code, reason = "the other guests use the rest of it")]
mod host;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use berth_extensions::Extensions;
use berth_extensions::outbound::{Outbound, Share};
use berth_model::extension::{Capabilities, HttpAccess};
use host::{Ended, Guest, Host};
use scene::{METADATA, PRIVATE, PUBLIC, Scene};

const PORT: u16 = 8080;

/// A server outside that answers every connection with these bytes, keeps it open, and tells.
struct Server {
    listener: TcpListener,
    asked: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(scene: &Scene, address: &str, answer: impl Into<Vec<u8>>) -> Self {
        let listener = scene.outside(|| TcpListener::bind((address, PORT)).unwrap());
        let (accepting, answer) = (listener.try_clone().unwrap(), answer.into());
        let (tell, asked) = channel();
        let thread = std::thread::spawn(move || {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = accepting.accept() {
                let _ = tell.send(());
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(&answer);
                open.push(stream);
            }
        });
        Self { listener, asked, thread: Some(thread) }
    }

    fn was_asked(&self) -> bool {
        self.asked.try_recv().is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A guest that may ask every host, but private ones only where that is said.
async fn guest(name: &str, private: bool) -> Guest {
    let mut guest = Guest::of(&Extensions::new().unwrap(), name).await;
    let access = HttpAccess {
        host: "*".parse().unwrap(),
        methods: vec!["GET".to_owned()],
        ports: vec![PORT],
        private,
        why: String::new(),
    };
    guest.asked = Capabilities { http: vec![access], ..host::everything() };
    guest.granted = guest.asked.clone();
    let outbound = Outbound::new("10.200.0.0".parse().ok());
    guest.host = Arc::new(Host::leading_out(outbound, Share::of(4)));
    guest
}

fn attack(name: &str, private: bool, wall_ms: u32) -> Ended {
    // Its threads are started by this one, so they are in the scene as well.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut guest = guest(name, private).await;
        guest.limits.wall_ms_max = wall_ms;
        let ended = guest.attack().await;
        guest.behave().await.result.unwrap();
        ended
    })
}

#[test]
fn no_guest_reaches_the_machine_its_instances_or_its_network() {
    let scene = Scene::enter();
    scene.put_etc("hosts", &format!("127.0.0.1 inside.example\n{METADATA} inside.example\n"));
    let outside =
        Server::start(&scene, "0.0.0.0", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    // What a request to the machine itself would find.
    let own = TcpListener::bind(("0.0.0.0", PORT)).unwrap();
    own.set_nonblocking(true).unwrap();
    for private in [false, true] {
        for name in [
            "hook/asks-the-machine",
            "hook/asks-for-metadata",
            "hook/asks-an-instance",
            "hook/asks-by-a-number",
            "hook/asks-by-a-mapped-address",
            "hook/asks-by-a-name",
        ] {
            let ended = attack(name, private, 10_000);
            assert_eq!(ended.failure().code, "denied", "{name}: {ended:?}");
        }
    }
    let ended = attack("hook/asks-a-private-host", false, 10_000);
    assert_eq!(ended.failure().code, "denied", "{ended:?}");
    assert!(!outside.was_asked(), "what was denied was asked");
    // The operator's word opens the private network.
    attack("hook/asks-a-private-host", true, 10_000).result.unwrap();
    assert!(outside.was_asked(), "{PRIVATE} was not asked");
    assert!(own.accept().is_err(), "the machine's own service was connected to");
}

#[test]
fn a_server_is_as_bounded_as_its_guest() {
    let scene = Scene::enter();
    scene.put_etc("hosts", &format!("{PUBLIC} api.example\n{PRIVATE} inside.example\n"));
    let ask = |answer: &[u8]| {
        let server = Server::start(&scene, PUBLIC, answer);
        let ended = attack("hook/asks-a-bad-server", false, 10_000);
        assert!(server.was_asked());
        ended
    };
    let long =
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n{}", "x".repeat(2_000_000));
    assert_eq!(ask(long.as_bytes()).failure().code, "too-large");
    let head = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(300_000));
    assert_eq!(ask(head.as_bytes()).failure().code, "unreachable");
    assert_eq!(ask(b"220 mail.example ESMTP\r\n").failure().code, "unreachable");
    let switched = b"HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    assert_eq!(ask(switched).failure().code, "unreachable");

    // The guest does not set a time, so the wall time of its call comes first.
    for slow in [b"".as_slice(), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"] {
        let _server = Server::start(&scene, PUBLIC, slow);
        let ended = attack("hook/asks-a-bad-server", false, 300);
        assert_eq!(ended.fault(), berth_extensions::Fault::Timeout);
    }

    // A redirect is an answer: nobody goes where it points.
    let other = Server::start(&scene, PRIVATE, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let target = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://{PRIVATE}:{PORT}/\r\nContent-Length: 0\r\n\r\n"
    );
    ask(target.as_bytes()).result.unwrap();
    assert!(!other.was_asked(), "a redirect was followed");
}
