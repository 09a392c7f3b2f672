//! Guests that ask servers that were not granted, or in ways that nobody may. Nothing is sent.

use berth_extensions::Fault;

use super::beside::attacked;
use super::host::USED;

async fn assert_refused(name: &str, code: &str) {
    let attacked = attacked(name, |_| {}).await;
    let failure = attacked.ended.failure();
    assert_eq!(failure.code, code, "{name}: {failure:?}");
    assert!(!failure.message.contains(USED), "{failure:?}");
    assert!(attacked.guest.host.sent.lock().unwrap().is_empty(), "{name} was sent");
    let denied = attacked.guest.host.denied.lock().unwrap().len();
    assert_eq!(denied > 0, code == "denied", "{name} was denied {denied} times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_granted_is_asked() {
    let attacked = attacked("hook/asks-a-server", |guest| guest.limits.wall_ms_max = 100).await;
    assert_eq!(attacked.ended.fault(), Fault::Timeout);
    let sent = attacked.guest.host.sent.lock().unwrap();
    assert_eq!(sent[0].uri, "https://api.example/");
    assert!(!sent[0].private);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_host_the_port_and_the_method_that_were_granted_are_asked() {
    for name in [
        "hook/asks-another-host",
        "hook/asks-a-longer-host",
        "hook/asks-another-port",
        "hook/asks-without-tls",
        "hook/asks-with-another-method",
        "hook/asks-for-a-tunnel",
    ] {
        assert_refused(name, "denied").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_of_one_server_and_nothing_else() {
    for name in [
        "hook/asks-by-a-user",
        "hook/asks-by-another-scheme",
        "hook/asks-without-a-host",
        "hook/asks-with-line-ends",
        "hook/asks-by-a-long-address",
        "hook/sends-a-secret-as-address",
    ] {
        assert_refused(name, "invalid").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_end_where_they_end_and_are_not_the_hosts() {
    for name in [
        "hook/sends-another-host-header",
        "hook/smuggles-a-request",
        "hook/injects-a-header",
        "hook/injects-by-a-name",
        "hook/sends-many-headers",
    ] {
        assert_refused(name, "invalid").await;
    }
}
