//! Counts what one call uses: processor time, wall time, host calls, output.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

use super::{Fault, Limits};

/// The use of one call. Shared by the store, the streams that it writes to and the one who waits.
pub(crate) struct Meter {
    limits: Limits,
    /// Processor time of the polls that are over.
    cpu_ns: AtomicU64,
    /// The thread's processor time at the start of the poll that runs; 0 outside of one.
    poll_started_ns: AtomicU64,
    host_calls: AtomicU64,
    output_bytes: AtomicU64,
    wall: Mutex<Wall>,
    resumed: Notify,
}

struct Wall {
    started: Instant,
    /// Time that does not count, of pauses that are over.
    excluded: Duration,
    paused_at: Option<Instant>,
}

impl Meter {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            cpu_ns: AtomicU64::new(0),
            poll_started_ns: AtomicU64::new(0),
            host_calls: AtomicU64::new(0),
            output_bytes: AtomicU64::new(0),
            wall: Mutex::new(Wall {
                started: Instant::now(),
                excluded: Duration::ZERO,
                paused_at: None,
            }),
            resumed: Notify::new(),
        }
    }

    /// Begins to count anew, for another call of the same store. Not during one.
    pub(crate) fn restart(&self) {
        self.cpu_ns.store(0, Ordering::Relaxed);
        self.host_calls.store(0, Ordering::Relaxed);
        self.output_bytes.store(0, Ordering::Relaxed);
        *self.wall() = Wall { started: Instant::now(), excluded: Duration::ZERO, paused_at: None };
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Runs a call of the guest, counting its processor time. `None`: its wall time was over. This
    /// is the last resort, for a guest that waits in a host call; one that runs is ended by
    /// [`Meter::overrun`].
    pub(crate) async fn bound<F: Future>(&self, call: F) -> Option<F::Output> {
        let mut call = pin!(call);
        let counted = poll_fn(|context| {
            self.poll_started_ns.store(thread_cpu_ns(), Ordering::Relaxed);
            let polled = call.as_mut().poll(context);
            let started = self.poll_started_ns.swap(0, Ordering::Relaxed);
            let used = thread_cpu_ns().saturating_sub(started);
            self.cpu_ns.fetch_add(used, Ordering::Relaxed);
            polled
        });
        tokio::select! {
            biased;
            output = counted => Some(output),
            () = self.wall_over() => None,
        }
    }

    /// The limit that was reached, of those that no host function enforces by itself. Called on
    /// the thread that runs the guest.
    pub(crate) fn overrun(&self) -> Option<Fault> {
        if self.host_calls.load(Ordering::Relaxed) > self.limits.host_calls_max {
            Some(Fault::HostCalls)
        } else if self.cpu_ns() > u64::from(self.limits.cpu_ms_max) * 1_000_000 {
            Some(Fault::Cpu)
        } else {
            None
        }
    }

    /// Processor time so far, nanoseconds.
    pub(crate) fn cpu_ns(&self) -> u64 {
        let running = match self.poll_started_ns.load(Ordering::Relaxed) {
            0 => 0,
            started => thread_cpu_ns().saturating_sub(started),
        };
        self.cpu_ns.load(Ordering::Relaxed) + running
    }

    /// Counts a call into the host; false when it is one too many.
    pub(crate) fn count_host_call(&self) -> bool {
        self.host_calls.fetch_add(1, Ordering::Relaxed) < self.limits.host_calls_max
    }

    /// Calls into the host so far.
    pub(crate) fn host_calls(&self) -> u64 {
        self.host_calls.load(Ordering::Relaxed)
    }

    /// Counts output; false when it is over the limit.
    pub(crate) fn count_output(&self, bytes: usize) -> bool {
        let before = self.output_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        before.saturating_add(bytes as u64) <= self.limits.output_bytes_max
    }

    /// Stops the wall clock until the guard is dropped.
    pub(crate) fn pause(&self) -> Pause<'_> {
        self.wall().paused_at = Some(Instant::now());
        Pause { meter: self }
    }

    fn wall(&self) -> MutexGuard<'_, Wall> {
        self.wall.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time that is left; `None` while the clock is stopped.
    fn wall_left(&self) -> Option<Duration> {
        let wall = self.wall();
        if wall.paused_at.is_some() {
            return None;
        }
        let used = wall.started.elapsed().saturating_sub(wall.excluded);
        let max = Duration::from_millis(u64::from(self.limits.wall_ms_max));
        Some(max.saturating_sub(used))
    }

    async fn wall_over(&self) {
        loop {
            match self.wall_left() {
                None => self.resumed.notified().await,
                Some(left) if left.is_zero() => return,
                Some(left) => tokio::time::sleep(left).await,
            }
        }
    }
}

/// A stopped wall clock.
pub(crate) struct Pause<'a> {
    meter: &'a Meter,
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        let mut wall = self.meter.wall();
        if let Some(since) = wall.paused_at.take() {
            wall.excluded += since.elapsed();
        }
        drop(wall);
        self.meter.resumed.notify_one();
    }
}

fn thread_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    // Neither part is ever negative; 0 means "no poll runs", so a fresh thread starts at 1.
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(wall_ms_max: u32) -> Meter {
        Meter::new(Limits { wall_ms_max, ..Limits::APP })
    }

    #[tokio::test]
    async fn a_call_that_waits_for_ever_ends_with_its_wall_time() {
        assert!(meter(20).bound(std::future::pending::<()>()).await.is_none());
    }

    #[tokio::test]
    async fn time_in_a_pause_does_not_count() {
        let meter = meter(50);
        let call = async {
            let pause = meter.pause();
            tokio::time::sleep(Duration::from_millis(120)).await;
            drop(pause);
        };
        assert!(meter.bound(call).await.is_some());
    }

    #[tokio::test]
    async fn processor_time_is_counted_and_waiting_is_not() {
        let meter = meter(10_000);
        meter.bound(tokio::time::sleep(Duration::from_millis(60))).await.unwrap();
        assert!(meter.cpu_ns() < 30_000_000, "{}", meter.cpu_ns());
        meter
            .bound(async {
                let started = thread_cpu_ns();
                while thread_cpu_ns() - started < 40_000_000 {
                    std::hint::spin_loop();
                }
            })
            .await
            .unwrap();
        assert!(meter.cpu_ns() >= 40_000_000, "{}", meter.cpu_ns());
    }
}
