//! What the router counts of each app's requests.
//!
//! Takes finished requests, gives sums since the router began to know the app. Counting takes no
//! lock and allocates nothing: it is on the way of every request. Sums are read rarely, by the
//! control process; what is read while requests end may lack some of them, never has any twice.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use berth_model::AppId;

use crate::control::wire::{AppMetrics, LATENCY_BOUNDS_US};

/// Copies of the counters, so that threads which serve at the same time do not wait for each
/// other's cache lines.
const SHARDS: usize = 2;

/// Counters of one app.
#[derive(Default)]
pub(crate) struct Counters([Shard; SHARDS]);

/// Begins a pair of cache lines, which processors fetch together.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    /// By the first digit of the status; the last is 499, log-only.
    statuses: [AtomicU64; 6],
    faults: AtomicU64,
    retries: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    total_us: AtomicU64,
    latency: [AtomicU64; LATENCY_BOUNDS_US.len() + 1],
}

/// One finished request, as it is counted.
pub(crate) struct Finished {
    pub(crate) status: u16,
    pub(crate) ours: bool,
    pub(crate) retries: u32,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) total_us: u64,
}

/// The shard of the calling thread.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: Cell<usize> = const { Cell::new(usize::MAX) });
    OWN.with(|own| {
        if own.get() == usize::MAX {
            own.set(NEXT.fetch_add(1, Relaxed) % SHARDS);
        }
        own.get()
    })
}

impl Counters {
    pub(crate) fn count(&self, request: &Finished) {
        let counters = &self.0[shard()];
        let add = |counter: &AtomicU64, n: u64| {
            if n > 0 {
                counter.fetch_add(n, Relaxed);
            }
        };
        let class = match request.status {
            499 => 5,
            status => usize::from(status / 100).clamp(1, 5) - 1,
        };
        add(&counters.statuses[class], 1);
        add(&counters.faults, u64::from(request.ours));
        add(&counters.retries, u64::from(request.retries));
        add(&counters.bytes_in, request.bytes_in);
        add(&counters.bytes_out, request.bytes_out);
        add(&counters.total_us, request.total_us);
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < request.total_us);
        add(&counters.latency[bucket], 1);
    }

    /// The sums, when there were requests.
    pub(crate) fn sums(&self, app: AppId) -> Option<AppMetrics> {
        let sum = |one: &dyn Fn(&Shard) -> &AtomicU64| -> u64 {
            self.0.iter().map(|shard| one(shard).load(Relaxed)).sum()
        };
        let statuses: [u64; 6] = std::array::from_fn(|class| sum(&|shard| &shard.statuses[class]));
        let requests: u64 = statuses.iter().sum();
        (requests > 0).then(|| AppMetrics {
            app,
            requests,
            statuses,
            faults: sum(&|shard| &shard.faults),
            retries: sum(&|shard| &shard.retries),
            bytes_in: sum(&|shard| &shard.bytes_in),
            bytes_out: sum(&|shard| &shard.bytes_out),
            total_us: sum(&|shard| &shard.total_us),
            latency: (0..=LATENCY_BOUNDS_US.len())
                .map(|bucket| sum(&|shard| &shard.latency[bucket]))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Instant;

    use super::*;

    fn finished(status: u16, total_us: u64) -> Finished {
        Finished { status, ours: false, retries: 0, bytes_in: 10, bytes_out: 1_000, total_us }
    }

    fn app() -> AppId {
        AppId::new(1, [1; 10])
    }

    #[test]
    fn what_threads_count_at_the_same_time_is_counted_once_each() {
        let counters = Arc::new(Counters::default());
        assert_eq!(counters.sums(app()), None, "nothing was asked");
        let threads: Vec<_> = (0..4_u64)
            .map(|number| {
                let counters = Arc::clone(&counters);
                thread::spawn(move || {
                    for step in 0..10_000 {
                        counters.count(&finished(200 + (number as u16) * 100, step * 7));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let sums = counters.sums(app()).unwrap();
        assert_eq!(
            (sums.requests, sums.statuses),
            (40_000, [0, 10_000, 10_000, 10_000, 10_000, 0])
        );
        assert_eq!((sums.bytes_in, sums.bytes_out), (400_000, 40_000_000));
        assert_eq!(sums.latency.iter().sum::<u64>(), 40_000);
    }

    #[test]
    fn a_time_lies_in_the_bucket_whose_bound_it_does_not_exceed() {
        let counters = Counters::default();
        for total_us in [0, 100, 101, 63_000_000, 63_000_001, u64::MAX] {
            counters.count(&finished(200, total_us));
        }
        let sums = counters.sums(app()).unwrap();
        assert_eq!((sums.latency[0], sums.latency[1]), (2, 1));
        let last = LATENCY_BOUNDS_US.len();
        assert_eq!((sums.latency[last - 1], sums.latency[last]), (1, 2));
    }

    #[test]
    fn bounds_grow_by_about_the_same_factor() {
        for pair in LATENCY_BOUNDS_US.windows(2) {
            let factor = pair[1] as f64 / pair[0] as f64;
            assert!((1.5..1.7).contains(&factor), "{pair:?}");
        }
    }

    /// The mark is for a program without optimisation on a machine that does other things; the
    /// release program takes a tenth of it.
    #[test]
    fn counting_costs_a_request_less_than_a_microsecond() {
        const EACH: u32 = 200_000;
        let counters = Arc::new(Counters::default());
        // The least of several: others use the machine as well.
        let least_ns = (0..5)
            .map(|_| {
                let threads: Vec<_> = (0..2)
                    .map(|_| {
                        let counters = Arc::clone(&counters);
                        thread::spawn(move || {
                            let begun = Instant::now();
                            for step in 0..EACH {
                                counters.count(&finished(200, u64::from(step)));
                            }
                            begun.elapsed().as_nanos() / u128::from(EACH)
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap()
            })
            .min()
            .unwrap();
        println!("{least_ns} ns a request, with two threads on one app");
        assert!(least_ns < 1_000, "{least_ns} ns a request");
    }
}
