//! Somebody else's HTTP server in the outside of a scene: it takes notes and answers as it is told.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use acceptance::Scene;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Received {
    /// Its method and path.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (own, value) = line.split_once(": ")?;
            own.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    /// Answers to the next requests; then it is 200.
    script: VecDeque<u16>,
    /// What it says with every answer.
    body: String,
    /// Whether requests are left without an answer for now.
    holds: bool,
}

/// The server; it ends with this.
pub(crate) struct Receiver {
    listener: TcpListener,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Receiver {
    /// One that speaks HTTP on every address of the outside.
    pub(crate) fn start(scene: &Scene, port: u16) -> Self {
        Self::with(scene, port, None)
    }

    /// One that speaks HTTPS as `name`; also gives the certificate of the authority that says so.
    pub(crate) fn secured(scene: &Scene, port: u16, name: &str) -> (Self, String) {
        let (config, authority) = certified(name);
        (Self::with(scene, port, Some(Arc::new(config))), authority)
    }

    fn with(scene: &Scene, port: u16, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = scene.outside(|| TcpListener::bind(("0.0.0.0", port)).unwrap());
        let accepting = listener.try_clone().unwrap();
        let state = Arc::<(Mutex<State>, Condvar)>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            // Ends when the listener is shut down.
            while let Ok((stream, _)) = accepting.accept() {
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                std::thread::spawn(move || match tls {
                    // What the other side breaks off is not answered.
                    None => drop(serve(stream, &state)),
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        drop(serve(StreamOwned::new(connection, stream), &state));
                    }
                });
            }
        });
        Self { listener, state }
    }

    /// Answers to the next requests; those after them are answered with 200.
    pub(crate) fn script(&self, statuses: &[u16]) {
        self.state.0.lock().unwrap().script = statuses.iter().copied().collect();
    }

    /// Says this with every answer from now on.
    pub(crate) fn says(&self, body: &str) {
        self.state.0.lock().unwrap().body = body.to_owned();
    }

    /// Takes requests and answers none, until it is told otherwise.
    pub(crate) fn hold(&self, holds: bool) {
        self.state.0.lock().unwrap().holds = holds;
        self.state.1.notify_all();
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.0.lock().unwrap().received.clone()
    }

    /// Waits for this many requests in all, and gives them.
    #[track_caller]
    pub(crate) fn wait(&self, count: usize) -> Vec<Received> {
        acceptance::wait_for(&format!("{count} requests"), 30, || {
            Some(self.received()).filter(|all| all.len() >= count)
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        self.hold(false);
    }
}

fn serve(mut stream: impl Read + Write, state: &(Mutex<State>, Condvar)) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let mut request = Received { head: String::from_utf8(head).unwrap(), body: Vec::new() };
    let length = request.header("content-length").map_or(0, |text| text.parse().unwrap());
    request.body.resize(length, 0);
    stream.read_exact(&mut request.body)?;
    let mut now = state.0.lock().unwrap();
    now.received.push(request);
    let held = state.1.wait_timeout_while(now, Duration::from_secs(60), |state| state.holds);
    let mut now = held.unwrap().0;
    let status = now.script.pop_front().unwrap_or(200);
    let (body, length) = (now.body.clone(), now.body.len());
    drop(now);
    write!(
        stream,
        "HTTP/1.1 {status} As Told\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    stream.flush()
}

/// An authority of the test's own, and what a server needs to be `name` for who trusts it.
fn certified(name: &str) -> (ServerConfig, String) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "authority of a test");
    let certificate = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let own = own.signed_by(&key, &issuer).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], key.into())
        .unwrap();
    (config, certificate)
}
