//! Guests that take more time than they may have, of the processor or by the clock.

use berth_extensions::Fault;

use super::beside::{attacked, attacked_at_once, within};
use super::host::Guest;

/// Little, so that the tests are short.
const CPU_MS: u32 = 40;

fn hurried(guest: &mut Guest) {
    guest.limits.cpu_ms_max = CPU_MS;
}

/// The processor time that a guest had may be over its limit by some ticks, and no more.
#[track_caller]
fn assert_ended_in_time(ended: &super::host::Ended) {
    assert_eq!(ended.fault(), Fault::Cpu, "{ended:?}");
    assert!(ended.usage.cpu_us < u64::from(CPU_MS) * 1_000 + 100_000, "{:?}", ended.usage);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_in_a_call_ends_with_its_processor_time() {
    assert_ended_in_time(&attacked("hook/loop-in-call", hurried).await.ended);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_in_a_start_function_ends_with_its_processor_time() {
    assert_ended_in_time(&attacked_at_once("hook/loop-in-start", hurried).await.ended);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_after_the_result_ends_with_its_processor_time() {
    assert_ended_in_time(&attacked("hook/loop-in-post-return", hurried).await.ended);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_while_the_host_asks_for_a_place_ends_with_its_processor_time() {
    assert_ended_in_time(&attacked_at_once("hook/loop-in-realloc", hurried).await.ended);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instructions_that_take_long_end_with_the_processor_time() {
    let ended = attacked("hook/fills-memory", hurried).await.ended;
    assert_eq!(ended.fault(), Fault::Cpu);
    // One of them is not interrupted: the bound of the memory bounds it.
    assert!(ended.usage.cpu_us < 2_000_000, "{:?}", ended.usage);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_the_host_without_end_are_counted() {
    let attacked = attacked("hook/host-call-storm", |_| {}).await;
    assert_eq!(attacked.ended.fault(), Fault::HostCalls);
    assert_eq!(attacked.ended.usage.host_calls, attacked.guest.limits.host_calls_max + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_in_a_call_of_the_host_ends_with_its_wall_time() {
    let attacked =
        attacked("hook/waits-for-an-answer", |guest| guest.limits.wall_ms_max = 150).await;
    assert_eq!(attacked.ended.fault(), Fault::Timeout);
    assert!(attacked.ended.usage.cpu_us < 100_000, "waiting was counted as processor time");
    // What it asked for is bounded for itself as well.
    assert_eq!(attacked.guest.host.sent.lock().unwrap()[0].timeout_ms, 60_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sleeps_for_ever_ends_with_its_wall_time() {
    let ended = attacked("ordinary/sleeps", |guest| guest.limits.wall_ms_max = 150).await.ended;
    assert_eq!(ended.fault(), Fault::Timeout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wakes_up_all_the_time_ends_with_its_wall_time() {
    let prepare = |guest: &mut Guest| {
        guest.limits.wall_ms_max = 150;
        guest.limits.host_calls_max = u64::MAX;
    };
    assert_eq!(attacked("ordinary/naps", prepare).await.ended.fault(), Fault::Timeout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_loops_is_ended_by_fuel_long_before_the_clock() {
    let prepare = |guest: &mut Guest| {
        guest.limits.fuel_max = 5_000_000;
        guest.limits.cpu_ms_max = 60_000;
        guest.limits.wall_ms_max = 60_000;
    };
    assert_eq!(attacked("policy/loop", prepare).await.ended.fault(), Fault::Cpu);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_is_ended_at_the_same_place_each_time() {
    let prepare = |guest: &mut Guest| {
        guest.limits.fuel_max = 300_000;
        guest.limits.cpu_ms_max = 60_000;
    };
    let guest = attacked("policy/counts-its-steps", prepare).await.guest;
    let mut steps = std::collections::BTreeSet::new();
    for _ in 0..20 {
        guest.host.lines.lock().unwrap().clear();
        let ended = within("a verdict", guest.attack()).await;
        assert_eq!(ended.fault(), Fault::Cpu);
        steps.insert(guest.lines().len());
    }
    assert_eq!(steps.len(), 1, "it came so far: {steps:?}");
    assert!(steps.first().is_some_and(|steps| (10..64).contains(steps)), "{steps:?}");
}
