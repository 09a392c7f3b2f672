//! Guests that do what WebAssembly or the component model forbids. Each ends by itself, the next
//! call has another instance.

use berth_extensions::Fault;

use super::beside::{Attacked, attacked, attacked_at_once};

#[track_caller]
fn assert_trapped(attacked: &Attacked, why: &str) {
    assert_eq!(attacked.ended.fault(), Fault::Trap);
    let message = attacked.ended.message();
    assert!(message.contains(why), "{message}");
    assert!(message.len() < 8_192, "{}", message.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_webassembly_forbids_is_a_trap_that_says_what_it_was() {
    for (name, why) in [
        ("hook/gives-up", "unreachable"),
        ("hook/divides-by-zero", "divide by zero"),
        ("hook/reads-out-of-bounds", "out of bounds memory access"),
        ("hook/calls-another-type", "indirect call type mismatch"),
    ] {
        assert_trapped(&attacked(name, |_| {}).await, why);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_beyond_the_memory_are_a_trap() {
    let attacked = attacked_at_once("hook/starts-out-of-bounds", |_| {}).await;
    assert_trapped(&attacked, "out of bounds memory access");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recursion_without_end_is_a_trap_and_not_a_crash() {
    assert_trapped(&attacked("hook/recurses", |_| {}).await, "call stack exhausted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_place_for_what_the_host_gives_is_a_trap() {
    for (name, why) in [
        ("hook/gives-no-place", "realloc return: beyond end of memory"),
        ("log-processor/gives-a-crooked-place", "realloc return: result not aligned"),
    ] {
        assert_trapped(&attacked_at_once(name, |_| {}).await, why);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_is_none_is_a_trap() {
    for (name, why) in [
        ("hook/returns-no-text", "invalid utf-8"),
        ("hook/returns-what-it-has-not", "out of bounds"),
        ("hook/returns-from-nowhere", "pointer"),
    ] {
        assert_trapped(&attacked(name, |_| {}).await, why);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_traps_or_gives_no_verdict_does_not_allow() {
    for (name, why) in
        [("policy/traps", "unreachable"), ("policy/gives-no-verdict", "discriminant")]
    {
        assert_trapped(&attacked(name, |_| {}).await, why);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_that_is_none_of_the_guests_is_a_trap() {
    for (name, why) in [
        ("hook/forges-a-handle", "unknown handle index 7"),
        ("hook/uses-a-dropped-handle", "unknown handle index"),
        ("hook/mistakes-a-handle", "handle index"),
    ] {
        assert_trapped(&attacked(name, |_| {}).await, why);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_and_an_exit_end_the_guest_alone() {
    let panicked = attacked("ordinary/panics", |_| {}).await;
    assert_trapped(&panicked, "unreachable");
    let told = panicked.guest.lines();
    assert!(told.iter().any(|line| line.contains("asked for")), "{told:?}");
    assert_trapped(&attacked("ordinary/exits", |_| {}).await, "exit code 0");
}
