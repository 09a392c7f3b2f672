//! The way out of guests, on a machine with an outside of its own. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../tests/src/scene.rs"]
#[expect(dead_code, unreachable_pub, reason = "the acceptance tests use the rest of it")]
mod scene;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use berth_extensions::outbound::{Outbound, OutboundError, SendLimits, Share};
use berth_model::extension::{Capabilities, HttpAccess};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use scene::{MACHINE, METADATA, PRIVATE, PUBLIC, Scene};

const PORT: u16 = 8080;

/// A server outside that answers every connection with these bytes, and tells what it was asked.
/// Connections stay open until the server is dropped.
struct Server {
    listener: TcpListener,
    asked: Receiver<String>,
    thread: Option<std::thread::JoinHandle<Vec<TcpStream>>>,
}

impl Server {
    fn start(scene: &Scene, port: u16, answer: impl Into<Vec<u8>>) -> Self {
        let listener = scene.outside(|| TcpListener::bind(("0.0.0.0", port)).unwrap());
        let (accepting, answer) = (listener.try_clone().unwrap(), answer.into());
        let (tell, asked) = channel();
        let thread = std::thread::spawn(move || {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = accepting.accept() {
                let head = head(&mut stream);
                let _ = stream.write_all(&answer);
                let _ = tell.send(head);
                open.push(stream);
            }
            open
        });
        Self { listener, asked, thread: Some(thread) }
    }

    fn asked(&self) -> String {
        self.asked.recv_timeout(Duration::from_secs(10)).unwrap()
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

fn head(stream: &mut impl Read) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

fn granted(rows: &[(&str, bool)]) -> Capabilities {
    let access = |(host, private): &(&str, bool)| HttpAccess {
        host: host.parse().unwrap(),
        methods: vec!["GET".to_owned(), "POST".to_owned()],
        ports: vec![PORT, 443, 8443],
        private: *private,
        why: String::new(),
    };
    Capabilities { http: rows.iter().map(access).collect(), ..Capabilities::default() }
}

fn get(url: &str) -> Request<Full<Bytes>> {
    Request::get(url).body(Full::default()).unwrap()
}

/// Short, so that a test of a limit does not take long.
fn limits() -> SendLimits {
    SendLimits {
        connect: Duration::from_secs(5),
        first_byte: Duration::from_secs(5),
        between_bytes: Duration::from_secs(5),
        request_bytes_max: 1000,
        response_bytes_max: 1000,
    }
}

/// Sends, and reads the whole answer.
fn answer(
    outbound: &Outbound,
    allow: &Capabilities,
    request: Request<Full<Bytes>>,
    limits: SendLimits,
) -> Result<Response<Bytes>, OutboundError> {
    runtime().block_on(async {
        let answer = outbound.send(&Share::of(1), allow, request, limits).await?;
        let (parts, body) = answer.into_parts();
        Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
    })
}

fn runtime() -> tokio::runtime::Runtime {
    // Its threads are started by this one, so they are in the scene as well.
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn only_the_granted_server_is_asked_and_a_redirect_is_an_answer() {
    let scene = Scene::enter();
    scene.put_etc("hosts", &format!("{PUBLIC} api.example other.example\n"));
    let server = Server::start(
        &scene,
        PORT,
        "HTTP/1.1 302 Found\r\nLocation: http://other.example:8080/\r\nContent-Length: 2\r\n\
         Keep-Alive: timeout=5\r\nSet-Cookie: a=b\r\n\r\nhi",
    );
    let (outbound, allow) = (Outbound::new(None), granted(&[("api.example", false)]));
    let request = Request::post("http://API.example:8080/a?b")
        .header("host", "other.example")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .body(Full::from("body"))
        .unwrap();
    let answered = answer(&outbound, &allow, request, limits()).unwrap();
    assert_eq!(answered.status(), 302);
    assert_eq!(answered.headers()["set-cookie"], "a=b");
    assert!(!answered.headers().contains_key("keep-alive"));
    assert_eq!(answered.body(), "hi");
    let asked = server.asked();
    assert!(asked.starts_with("POST /a?b HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("host: api.example:8080\r\n"), "{asked}");
    assert!(!asked.contains("other.example") && !asked.contains("x-hop"), "{asked}");

    for request in [
        get("http://other.example:8080/"),
        get("http://api.example:8081/"),
        get("http://api.example/"),
        get(&format!("http://{PUBLIC}:8080/")),
        Request::delete("http://api.example:8080/").body(Full::default()).unwrap(),
    ] {
        let error = answer(&outbound, &allow, request, limits()).unwrap_err();
        assert!(matches!(error, OutboundError::Denied { .. }), "{error}");
    }
    assert!(server.asked.try_recv().is_err(), "a server that was not granted was asked");
}

#[test]
fn addresses_that_nobody_may_reach_are_refused_by_whatever_name() {
    let scene = Scene::enter();
    let names = [
        ("public.example", PUBLIC),
        ("private.example", PRIVATE),
        ("metadata.example", METADATA),
        ("own.example", MACHINE),
        ("loopback.example", "127.0.0.1"),
        ("mapped.example", "::ffff:169.254.169.254"),
        ("instance.example", "10.200.3.4"),
        ("mixed.example", "127.0.0.1"),
        ("mixed.example", PUBLIC),
    ];
    let hosts: String = names.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
    scene.put_etc("hosts", &hosts);
    let _server = Server::start(&scene, PORT, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    // What a request to the machine itself would find.
    let own = TcpListener::bind(("0.0.0.0", PORT)).unwrap();
    own.set_nonblocking(true).unwrap();
    let outbound = Outbound::new("10.200.0.0".parse().ok());
    for private in [false, true] {
        let allow = granted(&[("*", private)]);
        for (host, reached) in [
            ("public.example", true),
            ("mixed.example", true),
            ("private.example", private),
            ("metadata.example", false),
            ("own.example", false),
            ("loopback.example", false),
            ("mapped.example", false),
            ("instance.example", false),
            (PRIVATE, private),
            (METADATA, false),
            ("127.0.0.1", false),
            ("[::ffff:127.0.0.1]", false),
            ("2130706433", false),
        ] {
            let url = format!("http://{host}:{PORT}/");
            let answered = answer(&outbound, &allow, get(&url), limits());
            match answered {
                Ok(answered) => assert!(reached, "{host} answered {}", answered.status()),
                Err(OutboundError::Prohibited { .. }) => assert!(!reached, "{host} was refused"),
                Err(error) => panic!("{host}: {error}"),
            }
        }
    }
    assert!(own.accept().is_err(), "the machine's own service was connected to");
}

#[test]
fn what_takes_too_long_or_is_too_long_is_given_up() {
    let scene = Scene::enter();
    scene.put_etc("hosts", &format!("{PUBLIC} api.example\n"));
    let (outbound, allow) = (Outbound::new(None), granted(&[("api.example", false)]));
    let short = SendLimits {
        first_byte: Duration::from_millis(300),
        between_bytes: Duration::from_millis(300),
        ..limits()
    };
    let ask = |answer_bytes: &str, limits| {
        let _server = Server::start(&scene, PORT, answer_bytes);
        let request = get("http://api.example:8080/");
        answer(&outbound, &allow, request, limits).unwrap_err()
    };
    let silent = ask("", short);
    assert!(matches!(silent, OutboundError::Timeout("the answer", 300)), "{silent}");
    let stalls = ask("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", short);
    assert!(matches!(stalls, OutboundError::Timeout("the next part of the answer", 300)));
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n{}", "x".repeat(1001));
    assert!(matches!(ask(&long, limits()), OutboundError::TooLarge("response", 1000)));
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}\r\n", "x".repeat(200_000));
    assert!(matches!(ask(&endless, limits()), OutboundError::Protocol { .. }));
    let switched = ask("HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", limits());
    assert!(matches!(switched, OutboundError::Protocol { .. }), "{switched}");

    let _server = Server::start(&scene, PORT, "");
    let sent = Request::post("http://api.example:8080/").body(Full::from("x".repeat(1001)));
    let error = answer(&outbound, &allow, sent.unwrap(), limits()).unwrap_err();
    assert!(matches!(error, OutboundError::TooLarge("request", 1000)), "{error}");
}

#[test]
fn one_share_has_so_many_connections_and_no_more() {
    let scene = Scene::enter();
    scene.put_etc("hosts", &format!("{PUBLIC} api.example\n"));
    let _server = Server::start(&scene, PORT, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    let (outbound, allow) = (Outbound::new(None), granted(&[("api.example", false)]));
    runtime().block_on(async {
        let share = Share::of(1);
        let send = || outbound.send(&share, &allow, get("http://api.example:8080/"), limits());
        let held = send().await.unwrap();
        assert!(matches!(send().await.err(), Some(OutboundError::Busy)));
        // The response that is given up gives its place back.
        drop(held);
        assert!(send().await.is_ok());
    });
}

#[test]
fn tls_is_with_the_name_that_was_asked_for_by_the_machines_certificates() {
    let scene = Scene::enter();
    scene.put_etc("hosts", &format!("{PUBLIC} api.example other.example\n"));
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = parameters.self_signed(&authority).unwrap();
    let issuer = rcgen::Issuer::new(parameters, authority);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["api.example".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let pem = |der: &[u8]| {
        use std::process::{Command, Stdio};
        let mut openssl = Command::new("openssl")
            .args(["x509", "-inform", "der"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        openssl.stdin.take().unwrap().write_all(der).unwrap();
        String::from_utf8(openssl.wait_with_output().unwrap().stdout).unwrap()
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let secret = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], secret.into())
        .unwrap();
    let listener = scene.outside(|| TcpListener::bind(("0.0.0.0", 8443)).unwrap());
    let accepting = listener.try_clone().unwrap();
    let serving = std::thread::spawn(move || {
        while let Ok((stream, _)) = accepting.accept() {
            let session = rustls::ServerConnection::new(Arc::new(config.clone())).unwrap();
            let mut stream = rustls::StreamOwned::new(session, stream);
            if !head(&mut stream).is_empty() {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
                let _ = stream.flush();
            }
        }
    });
    let allow = granted(&[("*", false)]);
    let ask = |outbound: &Outbound, host: &str| {
        answer(outbound, &allow, get(&format!("https://{host}:8443/")), limits())
    };
    // Not trusted by the machine as it is.
    let error = ask(&Outbound::new(None), "api.example").unwrap_err();
    assert!(matches!(error, OutboundError::Tls { .. }), "{error}");
    scene.put_etc("ssl/certs/ca-certificates.crt", &pem(root.der()));
    let outbound = Outbound::new(None);
    assert_eq!(ask(&outbound, "api.example").unwrap().body(), "hi");
    for host in ["other.example", PUBLIC] {
        let error = ask(&outbound, host).unwrap_err();
        assert!(matches!(error, OutboundError::Tls { .. }), "{host}: {error}");
    }
    let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
    serving.join().unwrap();
}
