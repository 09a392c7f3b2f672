//! Guests that take more memory than they may have, their own or the host's.

use berth_extensions::Fault;

use super::beside::{attacked, attacked_at_once};
use super::host::Guest;

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_grows_to_the_limit_and_no_further() {
    let attacked = attacked("hook/grows-memory", |_| {}).await;
    assert_eq!(attacked.ended.fault(), Fault::Memory);
    let peak = attacked.ended.usage.memory_peak_bytes;
    assert!((62 * MIB..=64 * MIB).contains(&peak), "{peak}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ordinary_code_allocates_is_bounded() {
    let ended = attacked("ordinary/allocates", |_| {}).await.ended;
    assert_eq!(ended.fault(), Fault::Memory);
    assert!(ended.usage.memory_peak_bytes <= 64 * MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memories_are_one_sum() {
    let ended = attacked_at_once("hook/three-memories", |_| {}).await.ended;
    assert_eq!(ended.fault(), Fault::Memory);
    assert!(ended.usage.memory_peak_bytes <= 64 * MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_elements_of_tables_are_bounded() {
    assert_eq!(attacked("hook/grows-a-table", |_| {}).await.ended.fault(), Fault::Memory);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memories_and_tables_are_counted() {
    for (name, what) in [("hook/many-memories", "memory"), ("hook/many-tables", "table")] {
        let ended = attacked_at_once(name, |_| {}).await.ended;
        assert_eq!(ended.fault(), Fault::Trap);
        assert!(ended.message().contains(&format!("{what} count too high")), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_that_a_guest_makes_by_itself_are_counted() {
    let ended = attacked("hook/makes-handles", |_| {}).await.ended;
    assert_eq!(ended.fault(), Fault::Trap);
    assert!(ended.message().contains("handle limit exceeded"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_that_the_host_gives_are_counted_and_no_failure_of_the_host() {
    let prepare = |guest: &mut Guest| {
        guest.limits.handles_max = 100;
        guest.limits.host_calls_max = 10_000;
    };
    let ended = attacked("hook/hoards-secrets", prepare).await.ended;
    assert_eq!(ended.fault(), Fault::Memory);
    assert!((100..110).contains(&ended.usage.host_calls), "{:?}", ended.usage);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_that_are_never_dropped_are_counted() {
    let prepare = |guest: &mut Guest| guest.limits.host_calls_max = 10_000;
    let ended = attacked("ordinary/hoards-timers", prepare).await.ended;
    assert_eq!(ended.fault(), Fault::Trap);
    assert!(ended.usage.host_calls < 2_000, "{:?}", ended.usage);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_host_keeps_for_a_guest_counts_as_its_memory() {
    for name in ["hook/hoards-requests", "hook/hoards-headers"] {
        let ended = attacked(name, |_| {}).await.ended;
        assert_eq!(ended.fault(), Fault::Memory, "{name}");
        assert!(ended.usage.host_calls < 60, "{name}: {:?}", ended.usage);
        assert!(ended.usage.memory_peak_bytes <= 64 * MIB, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_handed_over_in_one_call_is_bounded() {
    for name in ["hook/hands-over-too-much", "hook/hands-over-copies"] {
        assert_too_much(&attacked(name, |_| {}).await.ended);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_returned_is_bounded() {
    for name in ["hook/returns-copies", "log-processor/repeats-a-line"] {
        assert_too_much(&attacked(name, |_| {}).await.ended);
    }
}

#[track_caller]
fn assert_too_much(ended: &super::host::Ended) {
    assert_eq!(ended.fault(), Fault::Trap);
    assert!(ended.message().contains("too much data"), "{ended:?}");
}
