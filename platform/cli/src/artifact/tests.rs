//! Against registries that do what no real one should: each is a server on a socket.

use std::time::Duration;

use berth_model::Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::login::Login;
use super::registry::Trouble;
use super::*;

const SHORT: Limits = Limits {
    connect: Duration::from_secs(5),
    answer: Duration::from_millis(300),
    whole: Duration::from_secs(20),
    manifest_bytes: 2_000,
    component_bytes: 10_000,
};
const PASSWORD: &str = "swordfish";
const BASIC: &str = "authorization: basic ywrhonn3b3jkzmlzaa==";

/// What a peer sends.
enum Sends {
    Whole(String),
    /// This, and zeros without an end.
    Endless(String),
    Nothing,
}

/// A server; what it was asked, in lower case, is kept.
struct Peer {
    host: String,
    asked: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    async fn start(answer: impl Fn(&str, &str) -> Sends + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = std::sync::Arc::<std::sync::Mutex<Vec<String>>>::default();
        let (own, kept) = (host.clone(), asked.clone());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = String::new();
                let mut buffer = [0; 4096];
                while !is_whole(&head) {
                    match stream.read(&mut buffer).await {
                        Ok(count @ 1..) => {
                            let text = String::from_utf8_lossy(&buffer[..count]);
                            head.push_str(&text.to_lowercase());
                        }
                        _ => break,
                    }
                }
                let sends = answer(&own, &head);
                kept.lock().unwrap().push(head);
                match sends {
                    Sends::Whole(text) => drop(stream.write_all(text.as_bytes()).await),
                    Sends::Endless(text) => {
                        let _ = stream.write_all(text.as_bytes()).await;
                        while stream.write_all(&[b'0'; 4096]).await.is_ok() {}
                    }
                    // Whoever waits has the connection for as long as it wants.
                    Sends::Nothing => drop(stream.read(&mut buffer).await),
                }
            }
        });
        Self { host, asked, task }
    }

    fn place(&self, rest: &str) -> Place {
        format!("{}/acme/notify{rest}", self.host).parse().unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Whether a request came to its end.
fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.split_once("content-length: ").and_then(|(_, rest)| rest.lines().next());
    length.is_none_or(|length| body.len() >= length.parse().unwrap())
}

fn ok(body: &str) -> Sends {
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    Sends::Whole(head + body)
}

fn answer(status: &str, headers: &str) -> Sends {
    let head =
        format!("HTTP/1.1 {status}\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n");
    Sends::Whole(head)
}

fn manifest(component: &str) -> String {
    let layer = form::Descriptor::of(form::COMPONENT, component.as_bytes());
    serde_json::json!({ "schemaVersion": 2, "layers": [layer] }).to_string()
}

fn login() -> Login {
    Login::Password { name: "ada".to_owned(), password: PASSWORD.to_owned() }
}

async fn fetch(peer: &Peer, rest: &str, login: Login) -> Result<(Digest, Vec<u8>), Trouble> {
    let fetched = fetched(&peer.place(rest), login, SHORT, &Moved::default()).await;
    if let Err(trouble) = &fetched {
        let text = explain::failure("pull", &peer.place(rest), true, trouble).to_string();
        assert!(text.contains(&peer.host) && !text.contains(PASSWORD), "{text}");
    }
    fetched
}

#[tokio::test]
async fn a_component_is_what_the_digest_names() {
    let whole = manifest("the bytes");
    let wanted = digest(whole.as_bytes());
    let peer = Peer::start(move |_, head| match head {
        _ if head.starts_with("get /v2/ ") => ok(""),
        _ if head.contains("/manifests/") => ok(&whole),
        _ => ok("the bytes"),
    })
    .await;
    let (found, bytes) = fetch(&peer, &format!("@{wanted}"), Login::Nobody).await.unwrap();
    assert_eq!((found, bytes.as_slice()), (wanted, &b"the bytes"[..]));
    assert!(matches!(
        fetch(&peer, &format!("@{}", digest(b"other")), Login::Nobody).await,
        Err(Trouble::OtherBytes)
    ));
}

#[tokio::test]
async fn other_bytes_than_the_manifest_names_are_refused() {
    for sent in ["the bytez", "the byte", "the bytes!"] {
        let peer = Peer::start(move |_, head| match head {
            _ if head.contains("/manifests/") => ok(&manifest("the bytes")),
            _ => ok(sent),
        })
        .await;
        let found = fetch(&peer, ":1", Login::Nobody).await;
        assert!(matches!(found, Err(Trouble::OtherBytes)), "{sent}: {found:?}");
    }
}

#[tokio::test]
async fn a_registry_sends_no_more_than_is_taken() {
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    let peer = Peer::start(move |_, asked| match asked {
        _ if asked.starts_with("get /v2/ ") => ok(""),
        _ => Sends::Endless(head.to_owned()),
    })
    .await;
    let found = fetch(&peer, ":1", Login::Nobody).await;
    assert!(matches!(found, Err(Trouble::TooLarge { what: "the manifest", .. })), "{found:?}");

    let peer = Peer::start(move |_, asked| match asked {
        _ if asked.starts_with("get /v2/ ") => ok(""),
        _ if asked.contains("/manifests/") => ok(&manifest("the bytes")),
        _ => Sends::Endless(head.to_owned()),
    })
    .await;
    let found = fetch(&peer, ":1", Login::Nobody).await;
    assert!(matches!(found, Err(Trouble::OtherBytes)), "{found:?}");

    let large = manifest(&"x".repeat(10_001));
    let peer = Peer::start(move |_, _| ok(&large)).await;
    let found = fetch(&peer, ":1", Login::Nobody).await;
    assert!(matches!(found, Err(Trouble::TooLarge { what: "the component", .. })), "{found:?}");
    assert!(!peer.asked().iter().any(|head| head.contains("/blobs/")), "not even asked for");

    // What says why not, and what should be a token, are no way around it.
    let peer = Peer::start(move |_, asked| match asked {
        _ if asked.starts_with("get /v2/ ") => ok(""),
        _ => Sends::Endless("HTTP/1.1 500 No\r\nconnection: close\r\n\r\n".to_owned()),
    })
    .await;
    let found = fetch(&peer, ":1", Login::Nobody).await;
    assert!(matches!(&found, Err(Trouble::Status { said, .. }) if said.is_empty()), "{found:?}");
    let peer = Peer::start(move |own, asked| match asked {
        _ if asked.starts_with("get /token") => Sends::Endless(head.to_owned()),
        _ => {
            answer("401 No", &format!("www-authenticate: Bearer realm=\"http://{own}/token\"\r\n"))
        }
    })
    .await;
    let found = fetch(&peer, ":1", login()).await;
    assert!(matches!(found, Err(Trouble::TooLarge { .. })), "{found:?}");
}

#[tokio::test]
async fn a_registry_that_says_nothing_is_given_up() {
    for silent in ["/manifests/", "/blobs/"] {
        let peer = Peer::start(move |_, head| match head {
            _ if head.starts_with("get /v2/ ") => ok(""),
            _ if head.contains(silent) => Sends::Nothing,
            _ => ok(&manifest("the bytes")),
        })
        .await;
        let found = fetch(&peer, ":1", Login::Nobody).await;
        assert!(matches!(found, Err(Trouble::Slow)), "{silent}: {found:?}");
    }
    // Nor may it stop in the middle.
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nthe";
    let peer = Peer::start(move |_, head| match head {
        _ if head.starts_with("get /v2/ ") => ok(""),
        _ if head.contains("/manifests/") => ok(&manifest("the bytes")),
        _ => Sends::Whole(half.to_owned()),
    })
    .await;
    assert!(matches!(fetch(&peer, ":1", Login::Nobody).await, Err(Trouble::Http(_))));
}

#[tokio::test]
async fn the_login_goes_to_the_token_server_and_the_token_to_the_registry_alone() {
    let elsewhere = Peer::start(|_, _| ok("the bytes")).await;
    let other = elsewhere.host.clone();
    let peer = Peer::start(move |own, head| match head {
        _ if head.starts_with("get /token?") => ok("{\"token\":\"t0k\"}"),
        _ if !head.contains("authorization: bearer t0k") => answer(
            "401 No",
            &format!(
                "www-authenticate: Bearer realm=\"http://{own}/token\",service=\"reg\",\
                 scope=\"repository:acme/notify:pull\"\r\n"
            ),
        ),
        _ if head.contains("/manifests/") => ok(&manifest("the bytes")),
        _ => answer("307 There", &format!("location: http://{other}/signed?key=1\r\n")),
    })
    .await;
    assert_eq!(fetch(&peer, ":1", login()).await.unwrap().1, b"the bytes");
    let asked = peer.asked();
    let token: Vec<_> = asked.iter().filter(|head| head.starts_with("get /token")).collect();
    assert_eq!(token.len(), 1, "{asked:?}");
    assert!(token[0].contains("service=reg&scope=repository%3aacme%2fnotify%3apull"), "{token:?}");
    assert!(token[0].contains(BASIC), "{token:?}");
    let to_registry = asked.iter().filter(|head| !head.starts_with("get /token"));
    assert!(
        !to_registry.into_iter().any(|head| head.contains("authorization: basic")),
        "{asked:?}"
    );
    let [signed] = &elsewhere.asked()[..] else { panic!("{:?}", elsewhere.asked()) };
    assert!(!signed.contains("authorization") && !signed.contains("referer"), "{signed}");
}

#[tokio::test]
async fn an_identity_token_is_exchanged_and_never_sent_to_the_registry() {
    let peer = Peer::start(move |own, head| match head {
        _ if head.starts_with("post /token") => ok("{\"access_token\":\"t0k\"}"),
        _ if !head.contains("authorization: bearer t0k") => answer(
            "401 No",
            &format!("www-authenticate: Bearer realm=\"http://{own}/token\",service=\"reg\"\r\n"),
        ),
        _ if head.contains("/manifests/") => ok(&manifest("the bytes")),
        _ => ok("the bytes"),
    })
    .await;
    fetch(&peer, ":1", Login::Identity(PASSWORD.to_owned())).await.unwrap();
    let to_registry = peer.asked().into_iter().filter(|head| !head.starts_with("post /token"));
    assert!(!to_registry.into_iter().any(|head| head.contains(PASSWORD)));
}

#[tokio::test]
async fn a_login_is_never_sent_in_the_clear_to_another_machine() {
    let realm = "Bearer realm=\"http://192.0.2.1/token\"";
    let peer =
        Peer::start(move |_, _| answer("401 No", &format!("www-authenticate: {realm}\r\n"))).await;
    let found = fetch(&peer, ":1", login()).await;
    assert!(
        matches!(&found, Err(Trouble::Odd(why)) if why == "it asks for the login at http://192.0.2.1 without TLS"),
        "{found:?}"
    );
}

#[tokio::test]
async fn the_login_does_not_go_where_the_registry_has_an_upload_sent() {
    let elsewhere = Peer::start(|_, _| answer("201 There", "")).await;
    let other = elsewhere.host.clone();
    let peer = Peer::start(move |_, head| match head {
        _ if head.starts_with("get /v2/ ") => ok(""),
        _ if !head.contains(BASIC) => {
            answer("401 No", "www-authenticate: Basic realm=\"here\"\r\n")
        }
        _ if head.starts_with("post ") => {
            answer("202 There", &format!("location: http://{other}/signed?key=1\r\n"))
        }
        _ => answer("404 No", ""),
    })
    .await;
    let place = peer.place(":1");
    let mut registry = Registry::at(&place, login(), SHORT).await.unwrap();
    registry.put_blob(b"the bytes".to_vec(), None).await.unwrap();
    let [sent] = &elsewhere.asked()[..] else { panic!("{:?}", elsewhere.asked()) };
    let wanted = digest(b"the bytes").to_string().replace(':', "%3a");
    assert!(sent.starts_with(&format!("put /signed?key=1&digest={wanted} ")), "{sent}");
    assert!(sent.ends_with("\r\n\r\nthe bytes") && !sent.contains("authorization"), "{sent}");
}

#[tokio::test]
async fn what_is_something_else_is_said() {
    for (manifest, why) in [
        ("{}", "it has 0 layers, not one"),
        ("{\"manifests\":[]}", "it is an image for several platforms"),
        ("[]", "what lies there is no manifest of an image"),
        ("<html>", "what lies there is no manifest of an image"),
        (
            "{\"layers\":[{\"mediaType\":\"text/plain\",\"digest\":\"sha256:0\",\"size\":1}]}",
            "its layer is text/plain, not application/wasm",
        ),
        (
            "{\"layers\":[{\"mediaType\":\"application/wasm\",\"digest\":\"md5:0\",\"size\":1}]}",
            "its layer has no SHA-256 digest",
        ),
    ] {
        let peer = Peer::start(move |_, _| ok(manifest)).await;
        let found = fetch(&peer, ":1", Login::Nobody).await;
        assert!(matches!(&found, Err(Trouble::NoExtension(said)) if said == why), "{found:?}");
    }
}

#[test]
fn the_artifact_has_the_form_of_the_layout_and_is_always_the_same() {
    let manifest = ExtensionManifest::parse(
        "[extension]\nid = 'acme.notify'\nversion = '0.1.0'\nkind = 'hook'\n\
         api = 'berth:hook@0.1.0'\ndescription = 'Tells people.'\n",
    )
    .unwrap();
    let contents = Contents {
        manifest: manifest.clone(),
        imports: vec!["berth:log/log@0.1.0".to_owned()],
        exports: vec!["berth:hook/hook@0.1.0".to_owned()],
    };
    let layer = form::Descriptor::of(form::COMPONENT, b"component");
    let config = form::config(&layer, &contents);
    let text = String::from_utf8(form::manifest(&config, layer, &manifest)).unwrap();
    insta::assert_snapshot!(format!("{}\n{text}", String::from_utf8(config).unwrap()));
}
