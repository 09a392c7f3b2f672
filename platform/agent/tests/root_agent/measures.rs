//! What the agent tells of what containers use, beside what they really do.

use std::time::Instant;

use berth_container::{InstanceMeasures, Measures, OwnProgram, Reply, Request, Role};
use berth_model::InstanceId;

use crate::life::{SERVER, answers, get};
use crate::platform::{PATIENCE, Platform, app, shell};

async fn measures(platform: &Platform) -> Measures {
    match platform.call(&Request::Measures, &[]).await.unwrap() {
        Reply::Measures(measures) => measures,
        reply => panic!("{reply:?}"),
    }
}

/// Measures a container again and again, until `enough` says so.
async fn until(
    platform: &Platform,
    instance: InstanceId,
    enough: impl Fn(&InstanceMeasures) -> bool,
) -> InstanceMeasures {
    let deadline = Instant::now() + *PATIENCE;
    loop {
        let all = measures(platform).await.instances;
        let found = all.into_iter().find(|one| one.instance == instance);
        if let Some(one) = found.filter(|one| enough(one)) {
            return one;
        }
        assert!(Instant::now() < deadline, "never so: {found:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_busy_container_shows_the_processor_time_that_its_limit_leaves_it() {
    let platform = Platform::new();
    let mut start = platform.request(app(1), Role::Instance);
    start.limits.cpu_milli = 250;
    let begun = Instant::now();
    let started = platform.start(start, &shell("while :; do :; done")).await.unwrap();
    let busy =
        until(&platform, started.instance, |one| one.cpu_us >= 500_000 && one.throttled_us > 0)
            .await;
    let elapsed_us = u64::try_from(begun.elapsed().as_micros()).unwrap();
    // A quarter of the time, and what one period of the scheduler may give before it counts.
    assert!(busy.cpu_us <= elapsed_us / 4 + 200_000, "{busy:?} in {elapsed_us} us");
    assert_eq!((busy.attempt, busy.app, busy.role), (1, app(1), Role::Instance));
    let idle = platform.instance(app(2), "sleep 600").await;
    let first = until(&platform, idle.instance, |_| true).await;
    until(&platform, started.instance, |one| one.cpu_us > busy.cpu_us + 200_000).await;
    let later = until(&platform, idle.instance, |_| true).await;
    assert!(later.cpu_us < first.cpu_us + 100_000, "{first:?} {later:?}");
    for instance in [started.instance, idle.instance] {
        platform.stop(instance, 0).await.unwrap();
    }
    assert!(measures(&platform).await.instances.is_empty(), "nothing of what is gone");
}

#[tokio::test]
async fn memory_is_what_the_container_holds_and_not_the_files_that_it_read() {
    let platform = Platform::new();
    // awk holds a string of 32 MiB; the file of 24 MiB is only read.
    let script = "head -c 24m /dev/zero > /tmp/file; cat /tmp/file > /dev/null; \
                  exec awk 'BEGIN { s = \"x\"; while (length(s) < 33554432) s = s s; \
                  print \"held\"; fflush(); while ((getline line < \"/dev/null\") >= 0) \
                  system(\"sleep 600\") }'";
    let mut start = platform.request(app(1), Role::Instance);
    start.limits.memory_mib = 256;
    let started = platform.start(start, &shell(script)).await.unwrap();
    platform.logged(started.instance, "held").await;
    let held = until(&platform, started.instance, |one| one.memory_bytes > 32 << 20).await;
    assert_eq!(held.memory_limit_bytes, 256 << 20);
    assert!(held.memory_peak_bytes >= held.memory_bytes || held.memory_peak_bytes == 0, "{held:?}");
    assert!((1..64).contains(&held.processes), "{held:?}");
    platform.stop(started.instance, 0).await.unwrap();
}

#[tokio::test]
async fn restarts_and_what_the_kernel_ended_for_memory_are_counted() {
    let platform = Platform::new();
    let script = "head -c 500m /dev/zero | tail > /dev/null; sleep 600";
    let started = platform.instance(app(1), script).await;
    let again = until(&platform, started.instance, |one| one.attempt == 2).await;
    assert!(again.oom_kills >= 1, "{again:?}");
    assert_eq!(again.memory_limit_bytes, 64 << 20);
    platform.stop(started.instance, 0).await.unwrap();
}

#[tokio::test]
async fn traffic_is_counted_as_the_container_sees_it() {
    let platform = Platform::new();
    let script = format!("head -c 3m /dev/zero > big; {SERVER}");
    let started = platform.instance(app(1), &script).await;
    let address = started.address.unwrap();
    answers(address).await;
    let network = |one: &InstanceMeasures| one.network.unwrap();
    let before = network(&until(&platform, started.instance, |one| one.network.is_some()).await);
    for _ in 0..3 {
        assert!(get(address).unwrap().contains("hello"));
    }
    let small = network(&until(&platform, started.instance, |_| true).await);
    let (received, sent) =
        (small.received_bytes - before.received_bytes, small.sent_bytes - before.sent_bytes);
    assert!((200..20_000).contains(&received) && (200..20_000).contains(&sent), "{small:?}");
    let fetched = std::process::Command::new("busybox")
        .args(["wget", "-q", "-O", "/dev/null", &format!("http://{address}:5000/big")])
        .status()
        .unwrap();
    assert!(fetched.success());
    let big = network(&until(&platform, started.instance, |_| true).await);
    assert!(big.sent_bytes - small.sent_bytes > 3 << 20, "{small:?} {big:?}");
    assert!(big.received_bytes - small.received_bytes < 1 << 20, "{small:?} {big:?}");
    platform.stop(started.instance, 0).await.unwrap();
}

#[tokio::test]
async fn the_agent_measures_itself() {
    let platform = Platform::new();
    let all = measures(&platform).await;
    assert!(all.instances.is_empty());
    let own = all.programs.iter().find(|one| one.program == OwnProgram::Agent).unwrap();
    assert!(own.memory_bytes > 1 << 20 && own.cpu_us > 0, "{own:?}");
}
