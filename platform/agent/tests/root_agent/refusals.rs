//! What the agent does not even try.

use std::os::fd::OwnedFd;

use berth_container::client::{receive, send};
use berth_container::{FailureCode, Reply, Request, Role};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::platform::{Platform, app, code, shell};

fn raw(platform: &Platform) -> OwnedFd {
    let kind = SocketType::SEQPACKET;
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    let address = SocketAddrUnix::new(platform.run().join("agent.sock")).unwrap();
    connect(&socket, &address).unwrap();
    socket
}

fn answer(socket: &OwnedFd, message: &[u8]) -> (FailureCode, String) {
    // A peer that is refused may be told before it has spoken.
    let _ = send(socket, message, &[]);
    let (bytes, _) = receive(socket).unwrap();
    match serde_json::from_slice(&bytes).unwrap() {
        Reply::Failed { code, message } => (code, message),
        reply => panic!("{reply:?}"),
    }
}

#[tokio::test]
async fn messages_that_are_not_of_the_protocol_are_refused() {
    let platform = Platform::new();
    let instance = "ins_018bcfe5680070000000000000000000";
    let unknown_field =
        format!(r#"{{"verb":"stop","instance":"{instance}","grace_ms":1,"path":"/"}}"#);
    let bad_id = r#"{"verb":"stop","instance":"../../etc","grace_ms":1}"#;
    let negative = format!(r#"{{"verb":"stop","instance":"{instance}","grace_ms":-1}}"#);
    for message in
        ["", "{}", "not json", r#"{"verb":"format_disk"}"#, &unknown_field, bad_id, &negative]
    {
        if message.is_empty() {
            continue;
        }
        let (code, text) = answer(&raw(&platform), message.as_bytes());
        assert_eq!(code, FailureCode::Refused, "{message}: {text}");
    }
    let (code, _) = answer(&raw(&platform), &vec![b' '; 100_000]);
    assert_eq!(code, FailureCode::Refused);
    let hello = platform.call(&Request::Hello { protocol: 99 }, &[]).await;
    assert_eq!(self::code(hello), FailureCode::Refused);
}

#[tokio::test]
async fn another_user_is_refused_whatever_it_says() {
    let platform = Platform::new();
    let outcome = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            #[expect(unsafe_code, reason = "changes the user of this thread alone")]
            let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) };
            assert_eq!(changed, 0);
            answer(&raw(&platform), br#"{"verb":"hello","protocol":1}"#)
        });
        other.join().unwrap()
    });
    assert_eq!(outcome.0, FailureCode::Refused);
    assert!(outcome.1.contains("65534"), "{}", outcome.1);
}

#[tokio::test]
async fn numbers_and_layers_that_cannot_be_are_refused_and_leave_nothing() {
    let platform = Platform::new();
    let mut absent = platform.request(app(1), Role::Instance);
    absent.layers.push(berth_model::Digest::from_sha256([9; 32]));
    let instance = absent.instance;
    let outcome = platform.start(absent, &shell("true")).await;
    assert_eq!(code(outcome.map(|_| ())), FailureCode::NotFound);
    let mut wide = platform.request(app(1), Role::Instance);
    wide.block = 1023;
    let outcome = platform.start(wide, &shell("true")).await;
    assert_eq!(code(outcome.map(|_| ())), FailureCode::Refused);
    let long = platform.call(&Request::Stop { instance, grace_ms: 600_001 }, &[]).await;
    assert_eq!(code(long.map(|_| ())), FailureCode::Refused);
    let unknown = platform.call(&Request::Stop { instance, grace_ms: 0 }, &[]).await;
    assert_eq!(code(unknown.map(|_| ())), FailureCode::NotFound);
    assert!(!platform.data.join("logs").join(instance.to_string()).exists());
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing_and_its_id_can_be_used() {
    let platform = Platform::new();
    let request = platform.request(app(1), Role::Instance);
    let many = crate::platform::memory(&vec![b'x'; 3 << 20]);
    let outcome = platform.call(&Request::Start(request.clone()), &[many]).await;
    assert_eq!(code(outcome.map(|_| ())), FailureCode::Limit);
    assert!(!platform.run().join("i").join(request.instance.to_string()).exists());
    let started = platform.start(request, &shell("sleep 60")).await.unwrap();
    platform.stop(started.instance, 0).await.unwrap();
}
