//! JSON lines by HTTPS, received by a server with a certificate of the test's authority.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use berth_model::drain::Reach;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::certificates::{self, Certificates};
use crate::world::{World, until};

#[derive(Debug, Clone)]
struct Request {
    head: String,
    body: String,
    at: std::time::Instant,
}

/// Answers each request with the next of `answers`, then with 204, and keeps what was sent.
struct Server {
    port: u16,
    certificates: Certificates,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    async fn start(answers: &[&'static str]) -> Self {
        Self::start_as(certificates::made(), answers).await
    }

    async fn start_as(certificates: Certificates, answers: &[&'static str]) -> Self {
        let chain =
            vec![CertificateDer::from_pem_slice(certificates.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(certificates.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(VecDeque::from(answers.to_vec())));
        let kept = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, kept, answers) =
                    (acceptor.clone(), Arc::clone(&kept), Arc::clone(&answers));
                tokio::spawn(async move {
                    // A client that does not trust it goes away.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let mut stream = BufReader::new(stream);
                    while let Some(request) = read(&mut stream).await {
                        kept.lock().unwrap().push(request);
                        let answer = answers.lock().unwrap().pop_front();
                        let answer = answer.unwrap_or("204 No Content\r\n\r\n");
                        let text = format!("HTTP/1.1 {answer}");
                        stream.write_all(text.as_bytes()).await.unwrap();
                        stream.flush().await.unwrap();
                    }
                });
            }
        });
        Self { port, certificates, requests }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    async fn asked(&self, count: usize) -> Vec<Request> {
        until("requests", || async {
            let requests = self.requests();
            (requests.len() >= count).then_some(requests)
        })
        .await
    }
}

async fn read<S: tokio::io::AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<Request> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let at = std::time::Instant::now();
    Some(Request { head, body: String::from_utf8(body).unwrap(), at })
}

#[tokio::test]
async fn json_lines_are_posted_with_the_credential_of_the_address() {
    let server = Server::start(&[]).await;
    let mut world = World::new().await;
    let url = format!("https://user:swordfish@localhost:{}/inputs?token=x", server.port);
    let drain = world.add(&url, Some(&server.certificates.ca)).await;
    assert!(!drain.shown.contains("swordfish") && !drain.shown.contains("token"));
    world.write("one");
    world.write("two");
    world.start();
    let counts = world.sent(drain.id, 2).await.counts;
    assert_eq!((counts.sent, counts.dropped), (2, 0));
    let requests = server.requests();
    let head = requests[0].head.to_ascii_lowercase();
    assert!(head.starts_with("post /inputs?token=x http/1.1"), "{head}");
    assert!(head.contains("content-type: application/x-ndjson"), "{head}");
    assert!(requests[0].head.contains("Basic dXNlcjpzd29yZGZpc2g="), "{head}");
    let lines: Vec<Value> =
        requests[0].body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["line"], &lines[1]["line"]), (&"one".into(), &"two".into()));
    assert_eq!(lines[1]["seq"], 2);
    world.stop().await;
}

#[tokio::test]
async fn a_server_that_fails_is_asked_again_not_before_it_wants_to_be() {
    let later = "503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 4\r\n\r\nbusy";
    let server = Server::start(&[later]).await;
    let mut world = World::new().await;
    let url = format!("https://localhost:{}/swordfish", server.port);
    let drain = world.add(&url, Some(&server.certificates.ca)).await;
    world.start();
    world.write("one");
    let error = world.error(drain.id).await;
    assert_eq!(error, format!("localhost:{} answered 503: busy", server.port));
    let requests = server.asked(2).await;
    assert_eq!(requests[0].body, requests[1].body);
    assert!(requests[1].at - requests[0].at >= std::time::Duration::from_secs(2));
    let counts = world.sent(drain.id, 1).await.counts;
    assert_eq!((counts.sent, counts.dropped), (1, 0));
    world.stop().await;
}

#[tokio::test]
async fn a_batch_that_a_server_will_never_take_is_given_up_and_the_next_one_is_sent() {
    let never = "400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start(&[never]).await;
    let mut world = World::new().await;
    let url = format!("https://localhost:{}/", server.port);
    let drain = world.add(&url, Some(&server.certificates.ca)).await;
    world.start();
    world.write("one");
    server.asked(1).await;
    world.write("two");
    let counts = world.sent(drain.id, 1).await.counts;
    assert_eq!((counts.sent, counts.dropped), (1, 1));
    world.stop().await;
}

#[tokio::test]
async fn a_certificate_of_another_name_or_of_an_authority_that_is_not_trusted_is_refused() {
    let other = Server::start_as(certificates::made_for(&["elsewhere.example"]), &[]).await;
    let strange = Server::start(&[]).await;
    let mut world = World::new().await;
    let url = |server: &Server| format!("https://localhost:{}/", server.port);
    let drains = [
        world.add(&url(&other), Some(&other.certificates.ca)).await,
        world.add(&url(&strange), Some(&other.certificates.ca)).await,
        world.add(&url(&strange), None).await,
    ];
    world.start();
    world.write("a secret");
    for drain in drains {
        let error = world.error(drain.id).await;
        assert!(error.contains("certificate"), "{error}");
    }
    world.stop().await;
    assert!(other.requests().is_empty() && strange.requests().is_empty());
}

#[tokio::test]
async fn a_redirection_is_not_followed() {
    let elsewhere = Server::start(&[]).await;
    let moved: &'static str = format!(
        "307 Temporary Redirect\r\nLocation: https://localhost:{}/\r\nContent-Length: 0\r\n\r\n",
        elsewhere.port
    )
    .leak();
    let server = Server::start(&[moved, moved]).await;
    let mut world = World::new().await;
    let url = format!("https://localhost:{}/", server.port);
    let drain = world.add(&url, Some(&server.certificates.ca)).await;
    world.start();
    world.write("one");
    let error = world.error(drain.id).await;
    assert!(error.ends_with("answered 307"), "{error}");
    server.asked(3).await;
    assert!(elsewhere.requests().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn an_address_of_this_machine_is_refused_to_a_drain_of_a_team() {
    let server = Server::start(&[]).await;
    let mut world = World::new().await;
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{}/", server.port);
        world.add_with(&url, Some(&server.certificates.ca), Reach::Private).await;
    }
    world.start();
    world.write("a secret");
    for drain in world.store.drains(berth_store::Visible::All, None, None, 10).await.unwrap() {
        let error = world.error(drain.id).await;
        assert!(error.contains("own addresses"), "{error}");
    }
    world.stop().await;
    assert!(server.requests().is_empty());
}
