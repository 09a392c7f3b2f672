//! The task of one app.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_model::{AppId, DeploymentId, InstanceId, InstanceRecord, InstanceRole, InstanceState};
use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::Shared;
use super::jobs::{Jobs, Outcome};
use crate::drivers::WasmHost;
use crate::error::DeployError;
use crate::probe::LastProbe;
use crate::records::Records;

/// Passes that may follow each other without a pause; more of them is a fault.
const PASSES_MAX: u32 = 1000;

/// After a failure at least this long.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A task that went on for so long begins with the shortest pause again.
const PANIC_FORGIVEN: Duration = Duration::from_secs(600);

/// How a pass ended.
pub(super) enum Pass {
    /// Something was done: look again.
    Acted,
    /// Nothing to do until then, Unix milliseconds.
    Idle(Option<i64>),
    /// The app was destroyed and nothing of it runs.
    Gone,
}

/// When instances may be started again after some could not be.
#[derive(Debug, Default)]
pub(super) struct Hold {
    failures: u32,
    last: Option<Instant>,
    pub(super) until_ms: i64,
}

impl Hold {
    /// The first failure costs nothing, the next 1 s, 2 s, 4 s… to 5 min; ten quiet minutes
    /// forgive all.
    pub(super) fn failed(&mut self, now_ms: i64) {
        if self.last.is_some_and(|last| last.elapsed() > Duration::from_secs(600)) {
            self.failures = 0;
        }
        if self.failures > 0 {
            let pause_ms = 1000_i64 << (self.failures - 1).min(9);
            self.until_ms = now_ms + pause_ms.min(300_000);
        }
        self.failures += 1;
        self.last = Some(Instant::now());
    }
}

/// Looks after an app until it is gone. A panic is a defect of one look at it: without a new task
/// the app would stay as it is until the process starts again.
pub(super) async fn look_after<R: Records, W: WasmHost>(
    shared: Arc<Shared<R, W>>,
    app: AppId,
    signal: Arc<Notify>,
) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let task = AppTask::new(Arc::clone(&shared), app, Arc::clone(&signal));
        let begun = Instant::now();
        // What the task knew is dropped with it; rows and hosts are read anew.
        if AssertUnwindSafe(task.run()).catch_unwind().await.is_ok() {
            return;
        }
        if begun.elapsed() > PANIC_FORGIVEN {
            pause = SHORTEST_PAUSE;
        }
        tracing::error!(%app, "the task of an app panicked; it begins anew in {} ms", pause.as_millis());
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

pub(super) struct AppTask<R, W> {
    pub(super) shared: Arc<Shared<R, W>>,
    pub(super) app: AppId,
    signal: Arc<Notify>,
    pub(super) jobs: Jobs,
    pub(super) hold: Hold,
    /// Deployments whose layers were seen on the host.
    pub(super) fetched: BTreeSet<DeploymentId>,
    pub(super) fetch_errors: BTreeMap<DeploymentId, String>,
    /// Instances that the router was asked to drain.
    pub(super) draining: BTreeSet<InstanceId>,
    pub(super) last_probes: HashMap<InstanceId, LastProbe>,
    /// A deployment that was switched and has not told of a router that does not answer.
    pub(super) switching: Option<DeploymentId>,
    /// Readers of release phases' output.
    pub(super) tails: HashMap<InstanceId, JoinHandle<()>>,
}

impl<R: Records, W: WasmHost> AppTask<R, W> {
    fn new(shared: Arc<Shared<R, W>>, app: AppId, signal: Arc<Notify>) -> Self {
        Self {
            shared,
            app,
            signal,
            jobs: Jobs::default(),
            hold: Hold::default(),
            fetched: BTreeSet::new(),
            fetch_errors: BTreeMap::new(),
            draining: BTreeSet::new(),
            last_probes: HashMap::new(),
            switching: None,
            tails: HashMap::new(),
        }
    }

    async fn run(mut self) {
        let mut pause = SHORTEST_PAUSE;
        let mut passes = 0;
        loop {
            let outcome = self.pass_once().await;
            passes += 1;
            match outcome {
                Ok(Pass::Acted) if passes < PASSES_MAX => pause = SHORTEST_PAUSE,
                Ok(Pass::Acted) => {
                    tracing::error!(app = %self.app, "steps of an app do not come to an end");
                    passes = 0;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Ok(Pass::Idle(until_ms)) => {
                    passes = 0;
                    pause = SHORTEST_PAUSE;
                    self.idle(until_ms).await;
                }
                Ok(Pass::Gone) => {
                    if self.leave().await {
                        return;
                    }
                }
                Err(error) => {
                    let ms = pause.as_millis();
                    tracing::warn!(app = %self.app, "a step failed, next try in {ms} ms: {error}");
                    // What was waited for may come before the time is over.
                    tokio::time::sleep(SHORTEST_PAUSE).await;
                    let _ = tokio::time::timeout(pause, self.signal.notified()).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn pass_once(&mut self) -> Result<Pass, DeployError> {
        let shared = Arc::clone(&self.shared);
        // The semaphore is never closed; without a permit the pass is only less bounded.
        let _permit = shared.passes.acquire().await;
        while let Some(outcome) = self.jobs.ended() {
            self.apply(outcome).await?;
        }
        self.pass().await
    }

    async fn idle(&mut self, until_ms: Option<i64>) {
        let period = Duration::from_millis(self.shared.settings.period_ms.into());
        let wait = until_ms.map_or(period, |at_ms| self.shared.clock.until(at_ms).min(period));
        let outcome = tokio::select! {
            () = self.signal.notified() => None,
            outcome = self.jobs.any_ended() => outcome,
            () = tokio::time::sleep(wait) => None,
        };
        if let Some(outcome) = outcome
            && let Err(error) = self.apply(outcome).await
        {
            tracing::warn!(app = %self.app, "{error}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Ends the task of an app that is gone, unless it was woken meanwhile.
    async fn leave(&self) -> bool {
        let wait = Duration::from_millis(self.shared.settings.period_ms.into());
        if tokio::time::timeout(wait, self.signal.notified()).await.is_ok() {
            return false;
        }
        // Signals are given under this lock: one that came since is seen here.
        let mut signals = self.shared.signals();
        if self.signal.notified().now_or_never().is_some() {
            return false;
        }
        signals.remove(&self.app);
        true
    }

    /// Writes down how a job ended.
    pub(super) async fn apply(&mut self, outcome: Outcome) -> Result<(), DeployError> {
        match outcome {
            Outcome::Ready { instance, attempt } => self.ready(instance, attempt).await,
            Outcome::Stopped { instance, ending, result } => {
                result?;
                let now_ms = self.shared.clock.now_ms();
                let Some(row) = self.shared.records.instance(instance).await? else {
                    return Ok(());
                };
                if row.state.is_terminal() {
                    return Ok(());
                }
                if ending.state == InstanceState::Failed && row.role == InstanceRole::Instance {
                    self.hold.failed(now_ms);
                }
                let row = InstanceRecord {
                    state: ending.state,
                    answering: None,
                    exit_code: ending.exit_code,
                    error: ending.error,
                    stopped_at_ms: Some(now_ms),
                    ..row
                };
                self.last_probes.remove(&instance);
                self.draining.remove(&instance);
                Ok(self.shared.records.put_instance(&row).await?)
            }
            Outcome::Fetched { deployment, result } => {
                match result {
                    Ok(()) => {
                        self.fetched.insert(deployment);
                    }
                    Err(error) => {
                        self.fetch_errors.insert(deployment, error.to_string());
                    }
                }
                Ok(())
            }
            Outcome::Published(Ok(())) => Ok(()),
            Outcome::Published(Err(error)) => {
                if let Some(deployment) = self.switching.take() {
                    let text = "The router does not take the new table yet; trying again";
                    self.shared.board.detail(deployment, text);
                }
                Err(error.into())
            }
        }
    }

    /// The instance passed its check.
    pub(super) async fn ready(
        &mut self,
        instance: InstanceId,
        attempt: u32,
    ) -> Result<(), DeployError> {
        let Some(mut row) = self.shared.records.instance(instance).await? else { return Ok(()) };
        if row.state > InstanceState::Ready {
            return Ok(());
        }
        let now_ms = self.shared.clock.now_ms();
        let first = row.ready_at_ms.is_none();
        row.state = InstanceState::Ready;
        row.answering = Some(attempt);
        row.ready_at_ms.get_or_insert(now_ms);
        self.shared.records.put_instance(&row).await?;
        if let Some(deployment) = row.deployment.filter(|_| first) {
            let took_ms = (now_ms - row.created_at_ms).max(0);
            let (whole, tenth) = (took_ms / 1000, took_ms % 1000 / 100);
            let text = format!("{} is ready after {whole}.{tenth} s", row.label());
            self.shared.board.heading(deployment, &text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_failures_the_next_start_waits_longer_and_never_longer_than_five_minutes() {
        let mut hold = Hold::default();
        let waits: Vec<_> = (0..14)
            .map(|_| {
                hold.failed(0);
                hold.until_ms
            })
            .collect();
        assert_eq!(waits[..5], [0, 1000, 2000, 4000, 8000]);
        assert_eq!(waits[13], 300_000);
    }
}
