//! An attack beside a neighbour, which must not notice it.
//!
//! Another extension is called all the time, by the same engine in the same process: first alone,
//! then while the guest does its harm, in turns, because other programs of the machine come and go.
//! A sample is the time from the wish to call to the answer. What the thread waited for a processor
//! meanwhile is taken off (`schedstat`): who else is busy on the machine, and what processor time a
//! guest may use, is not what a neighbour's call is slowed by here; locks, memory and the runtime
//! are. No call may fail, and the 99th percentile beside the attack may be twice the quiet one.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_extensions::Extensions;

use super::build::framed;
use super::host::{Ended, Guest};

/// Samples of one turn, at least.
const SAMPLES: usize = 100;
const ROUNDS_MIN: usize = 2;
/// A machine that is busy with something else gets more of them.
const ROUNDS_MAX: usize = 12;

/// What an attack came to.
pub(crate) struct Attacked {
    /// The first of them; the others ended in the same way.
    pub(crate) ended: Ended,
    pub(crate) guest: Arc<Guest>,
}

/// Has the guest `KIND/NAME` do its harm beside a neighbour, and then its work, which it can.
pub(crate) async fn attacked(name: &str, prepare: impl FnOnce(&mut Guest)) -> Attacked {
    let extensions = Extensions::new().unwrap();
    let mut guest = Guest::of(&extensions, name).await;
    prepare(&mut guest);
    let attacked = attacked_always(&extensions, guest).await;
    let next = within("the next call", attacked.guest.behave()).await;
    assert!(next.result.is_ok(), "the next call: {next:?}");
    attacked
}

/// The same, of a guest that can do no work, because it does its harm before it is asked to.
pub(crate) async fn attacked_at_once(name: &str, prepare: impl FnOnce(&mut Guest)) -> Attacked {
    let extensions = Extensions::new().unwrap();
    let mut guest = Guest::of(&extensions, name).await;
    prepare(&mut guest);
    attacked_always(&extensions, guest).await
}

/// The same, of a component that a test made.
pub(crate) async fn attacked_component(kind: &str, component: Vec<u8>) -> Attacked {
    let extensions = Extensions::new().unwrap();
    let guest = Guest::made(&extensions, kind, component).await;
    attacked_always(&extensions, guest).await
}

async fn attacked_always(extensions: &Extensions, guest: Guest) -> Attacked {
    let guest = Arc::new(guest);
    let attacking = Arc::clone(&guest);
    let attack = move || {
        let guest = Arc::clone(&attacking);
        async move { guest.attack().await }
    };
    let ended = within("the first attack", attack()).await;
    let outcome = ended.outcome();
    beside(extensions, move || {
        let (attack, outcome) = (attack(), outcome.clone());
        async move {
            let again = attack.await;
            assert_eq!(again.outcome(), outcome, "another attack ended in another way");
        }
    })
    .await;
    Attacked { ended, guest }
}

/// Does something again and again while a neighbour is called.
pub(crate) async fn beside<F>(extensions: &Extensions, attack: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let component = framed("hook", "hook", NEIGHBOUR);
    let neighbour = Arc::new(Guest::made(extensions, "hook", component).await);
    let (mut quiet, mut loud) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS_MAX {
        quiet.extend(sampled(&neighbour, || true).await);
        let mut begun = tokio::spawn(attack());
        let mut taken = Vec::new();
        while taken.len() < SAMPLES || !begun.is_finished() {
            if begun.is_finished() {
                begun.await.unwrap();
                begun = tokio::spawn(attack());
            }
            let attacking = &begun;
            taken.extend(sampled(&neighbour, || !attacking.is_finished()).await);
        }
        begun.await.unwrap();
        loud.append(&mut taken);
        let (was, is) = (p99(&mut quiet), p99(&mut loud));
        if round >= ROUNDS_MIN && is <= 2 * was {
            return;
        }
        assert!(round < ROUNDS_MAX, "the neighbour's p99 went from {was:?} to {is:?}");
    }
}

/// Calls the neighbour until there are enough samples, or until it is over. On the runtime's
/// workers, where the attack is as well.
async fn sampled(neighbour: &Arc<Guest>, goes_on: impl Fn() -> bool) -> Vec<Duration> {
    let mut samples = Vec::new();
    loop {
        let neighbour = Arc::clone(neighbour);
        // Some at a time: a task of its own for each would be half of what is measured.
        let some = tokio::spawn(async move {
            let mut some = Vec::new();
            for _ in 0..10 {
                let (thread, waited) = waited_so_far();
                let started = Instant::now();
                tokio::task::yield_now().await;
                let called = neighbour.attack().await;
                let took = started.elapsed();
                assert!(called.result.is_ok(), "a neighbour's call failed: {called:?}");
                let (same, waited_now) = waited_so_far();
                if same == thread {
                    some.push(took.saturating_sub(waited_now - waited));
                }
            }
            some
        });
        samples.extend(within("a neighbour's calls", some).await.unwrap());
        if samples.len() >= SAMPLES || !goes_on() {
            return samples;
        }
    }
}

/// The calling thread, and the time that it could have run and did not (`/proc/PID/schedstat`, as
/// in the kernel's `sched-stats`). Nothing where the kernel does not count it.
fn waited_so_far() -> (i32, Duration) {
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited_ns = text.split_whitespace().nth(1).and_then(|text| text.parse().ok());
    (thread, Duration::from_nanos(waited_ns.unwrap_or(0)))
}

fn p99(samples: &mut [Duration]) -> Duration {
    samples.sort_unstable();
    samples[samples.len() * 99 / 100]
}

/// Fails a test that would hang.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), work).await {
        Ok(value) => value,
        Err(_) => panic!("not within 20 s: {what}"),
    }
}

/// It remembers something, reads it again and tells of it.
const NEIGHBOUR: &str = r#"
(func $put (import "berth:kv/kv@0.1.0" "put") (param i32 i32 i32 i32 i32 i64 i32))
(func $get (import "berth:kv/kv@0.1.0" "get") (param i32 i32 i32))
(func $line (import "berth:log/log@0.1.0" "line") (param i32 i32 i32 i32))
(data (i32.const 1024) "infokey")
(func $attack (result i32)
  (call $put (i32.const 1028) (i32.const 3) (i32.const 2048) (i32.const 512)
    (i32.const 0) (i64.const 0) (i32.const 256))
  (call $get (i32.const 1028) (i32.const 3) (i32.const 256))
  (call $line (i32.const 1024) (i32.const 4) (i32.const 1028) (i32.const 3))
  (i32.const 16))
"#;
