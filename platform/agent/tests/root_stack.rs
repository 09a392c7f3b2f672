//! A stack from Debian packages, through a proxy of the test's own. Needs root, mmdebstrap and a
//! package mirror; takes as long as mmdebstrap does.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "root_agent/platform.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod platform;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use berth_blobs::Hashing;
use berth_blobs::tar::{Caps, Kind, Reader};
use berth_container::{FailureCode, Reply, Request, Stack};
use berth_model::Digest;
use platform::{Platform, code, memory};

/// Making a stack takes no longer.
const MAKING: Duration = Duration::from_secs(480);

/// Serves CONNECT, and GET with an absolute address, as apt asks for them. Ends with the listener.
fn proxy(listener: TcpListener) {
    for stream in listener.incoming().map_while(Result::ok) {
        std::thread::spawn(move || relay(stream));
    }
}

/// One client; every request of it goes to one host.
fn relay(client: TcpStream) -> Option<()> {
    let mut requests = BufReader::new(client.try_clone().ok()?);
    let mut upstream: Option<TcpStream> = None;
    loop {
        let mut first = String::new();
        requests.read_line(&mut first).ok().filter(|count| *count > 0)?;
        let words: Vec<&str> = first.split(' ').collect();
        let [method, target, version] = words[..] else { return None };
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && head != "\r\n" {
            requests.read_line(&mut head).ok().filter(|count| *count > 0)?;
        }
        if method == "CONNECT" {
            let upstream = TcpStream::connect(target).ok()?;
            (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
            back(upstream.try_clone().ok()?, client.try_clone().ok()?);
            std::io::copy(&mut requests, &mut &upstream).ok()?;
            return upstream.shutdown(Shutdown::Write).ok();
        }
        let (host, path) = target.strip_prefix("http://")?.split_once('/')?;
        if upstream.is_none() {
            let made = TcpStream::connect((host, 80)).ok()?;
            back(made.try_clone().ok()?, client.try_clone().ok()?);
            upstream = Some(made);
        }
        upstream
            .as_mut()?
            .write_all(format!("{method} /{path} {version}{head}").as_bytes())
            .ok()?;
    }
}

fn back(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// Makes the stack: its tar, and the lines of progress.
async fn make(platform: &Platform, stack: Stack) -> (File, String) {
    let (archive, progress) = (memory(b""), memory(b""));
    let descriptors = [archive.try_clone().unwrap(), progress.try_clone().unwrap()];
    let mut session =
        platform.agent.session(&Request::Stack { stack }, &descriptors).await.unwrap();
    let (reply, mut listeners) = session.reply().await.unwrap();
    assert_eq!((reply, listeners.len()), (Reply::Attached {}, 1));
    let listener = TcpListener::from(listeners.remove(0));
    assert_eq!(listener.local_addr().unwrap().to_string(), "127.0.0.1:3128");
    let stop = listener.try_clone().unwrap();
    let served = std::thread::spawn(move || proxy(listener));
    let reply = session.reply().await;
    // A listening socket that is shut down accepts no more.
    rustix::net::shutdown(&stop, rustix::net::Shutdown::Both).unwrap();
    served.join().unwrap();
    let progress = platform::text_of(progress);
    assert_eq!(reply.unwrap_or_else(|e| panic!("{e}\n{progress}")).0, Reply::Done {});
    (File::from(archive), progress)
}

fn digest(file: &mut File) -> (Digest, u64) {
    std::io::Seek::rewind(file).unwrap();
    let mut hashing = Hashing::new(file);
    std::io::copy(&mut hashing, &mut std::io::sink()).unwrap();
    let (_, digest, bytes) = hashing.finish();
    (digest, bytes)
}

struct Found {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    content: Option<Vec<u8>>,
}

/// Every entry; contents of those that a test looks into.
fn entries(file: &mut File) -> BTreeMap<String, Found> {
    std::io::Seek::rewind(file).unwrap();
    let mut reader = Reader::new(BufReader::new(file), Caps::LAYER);
    let mut found = BTreeMap::new();
    while let Some(mut entry) = reader.next().unwrap() {
        let path = String::from_utf8(entry.path.clone()).unwrap();
        let mut content = None;
        if path.starts_with("etc/") || path == "var/lib/dpkg/status" {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            content = Some(bytes);
        }
        let (mode, uid, gid) = (entry.mode, entry.uid, entry.gid);
        found.insert(path, Found { kind: entry.kind.clone(), mode, uid, gid, content });
    }
    found
}

#[tokio::test]
async fn the_run_stack_is_the_same_bytes_twice_and_apps_run_on_it() {
    let platform = Platform::new();
    let (mut first, progress) = make(&platform, Stack::Debian12Run).await;
    assert!(progress.lines().count() > 5 && progress.contains("packages set up"), "{progress}");
    let (mut second, _) = make(&platform, Stack::Debian12Run).await;
    let of_first = digest(&mut first);
    if of_first != digest(&mut second) {
        let (one, other) = (entries(&mut first), entries(&mut second));
        let differ: Vec<_> = one
            .iter()
            .filter(|(path, found)| {
                other.get(*path).is_none_or(|o| {
                    o.kind != found.kind || o.mode != found.mode || o.content != found.content
                })
            })
            .map(|(path, _)| path)
            .collect();
        panic!("the second time differs: {differ:?} ({} and {} entries)", one.len(), other.len());
    }
    let kept = memory(b"");
    let find = Request::StackFind { stack: Stack::Debian12Run };
    // Another platform may be making it at this moment, which is waited for.
    let into = [kept.try_clone().unwrap()];
    let found = tokio::time::timeout(MAKING, platform.agent.call(&find, &into)).await;
    assert_eq!(found.expect("the stack is made").unwrap().0, Reply::Done {});
    assert_eq!(digest(&mut File::from(kept)), of_first, "what this machine keeps");

    let entries = entries(&mut first);
    for (path, found) in &entries {
        assert_eq!(found.mode & 0o6000, 0, "{path} is set-user-id");
        assert!(found.uid < 65_536 && found.gid < 65_536, "{path}");
    }
    let text = |path: &str| String::from_utf8(entries[path].content.clone().unwrap()).unwrap();
    assert_eq!((entries["var/local"].mode, entries["var/local"].gid), (0o775, 50));
    assert!(text("etc/passwd").contains("app:x:1000:1000::/workspace:/bin/bash"));
    assert!(text("var/lib/dpkg/status").contains("Package: libssl3"));
    for gone in [
        "etc/machine-id",
        "etc/resolv.conf",
        "etc/hostname",
        "dev/null",
        "usr/bin/gcc",
        "usr/bin/apt-get",
    ] {
        assert!(!entries.contains_key(gone), "{gone}");
    }
    assert!(!entries.keys().any(|p| p.starts_with("var/cache/") || p.starts_with("var/log/")));

    std::io::Seek::rewind(&mut first).unwrap();
    let layer: OwnedFd = first.into();
    let request = Request::LayerUnpack { diff_id: of_first.0 };
    let unpacked = platform.call(&request, &[layer]).await;
    assert_eq!(unpacked.unwrap(), Reply::Done {});
    let only = |start: &mut berth_container::Start| start.layers = vec![of_first.0];
    let script = "python3 -c 'import ssl, sqlite3, ctypes, lzma, socket; print(ssl.OPENSSL_VERSION[:9])' && \
                  id -un && ls -d /etc/ssl/certs/ca-certificates.crt /usr/share/zoneinfo/UTC && bash -c 'echo $BASH_VERSION'";
    let (exit, text) = platform.script(only, script).await;
    assert_eq!(exit.code, 0, "{text}");
    assert!(text.starts_with("OpenSSL 3\napp\n"), "{text}");
}

#[tokio::test]
async fn without_a_way_out_it_fails_and_says_why_and_one_at_a_time() {
    let platform = Platform::new();
    let request = Request::Stack { stack: Stack::Debian12Run };
    let descriptors = [memory(b""), memory(b"")];
    let mut session = platform.agent.session(&request, &descriptors).await.unwrap();
    let (_, mut listeners) = session.reply().await.unwrap();
    let busy = platform.call(&request, &descriptors).await;
    assert_eq!(code(busy), FailureCode::Conflict);
    // A proxy that refuses everyone.
    let listener = TcpListener::from(listeners.remove(0));
    let stop = listener.try_clone().unwrap();
    let refusing = std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                let _ = (&stream).read(&mut head);
                let _ = (&stream).write_all(
                    b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                );
            });
        }
    });
    let failed = tokio::time::timeout(*platform::PATIENCE * 3, session.reply()).await.unwrap();
    rustix::net::shutdown(&stop, rustix::net::Shutdown::Both).unwrap();
    refusing.join().unwrap();
    let Err(berth_container::AgentError::Failed { message, .. }) = failed else {
        panic!("it was made")
    };
    assert!(message.contains("403"), "{message}");
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_making_and_leaves_nothing() {
    let platform = Platform::new();
    let request = Request::Stack { stack: Stack::Debian12Build };
    let descriptors = [memory(b""), memory(b"")];
    let mut session = platform.agent.session(&request, &descriptors).await.unwrap();
    let (_, listeners) = session.reply().await.unwrap();
    let disk = platform.data.join("disks/stack");
    assert!(disk.exists());
    drop(session);
    platform::eventually("it is cleared away", || !disk.exists()).await;
    drop(listeners);
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&platform.id) || !mounts.contains("/stack "), "{mounts}");
}
