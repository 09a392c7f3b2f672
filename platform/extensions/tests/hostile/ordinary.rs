//! What the standard library gives a program, and a guest has not.

use std::net::TcpListener;

use berth_extensions::Fault;
use berth_model::extension::Capabilities;

use super::beside::attacked;
use super::host::{Guest, everything};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_no_files() {
    attacked("ordinary/uses-files", |_| {}).await.ended.result.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_environment_and_no_input() {
    attacked("ordinary/reads-the-environment", |_| {}).await.ended.result.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_no_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let tell = |guest: &mut Guest| guest.payload = format!("opens-sockets {address}");
    attacked("ordinary/opens-sockets", tell).await.ended.result.unwrap();
    assert!(listener.accept().is_err(), "the machine's own service was connected to");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_no_names_to_resolve() {
    attacked("ordinary/resolves-names", |_| {}).await.ended.result.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chance_is_the_same_each_time() {
    let attacked = attacked("ordinary/rolls-dice", |_| {}).await;
    let first = attacked.ended.message();
    for _ in 0..3 {
        assert_eq!(attacked.guest.attack().await.message(), first);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_stands_still_for_who_may_not_know_it() {
    let ungranted = |guest: &mut Guest| {
        guest.granted = Capabilities { clock: None, ..everything() };
    };
    attacked("ordinary/watches-the-clock", ungranted).await.ended.result.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chance_comes_in_small_portions() {
    let ended = attacked("ordinary/asks-for-much-chance", |_| {}).await.ended;
    assert_eq!(ended.fault(), Fault::Trap);
    assert!(ended.usage.memory_peak_bytes < 16 << 20, "{:?}", ended.usage);
}
