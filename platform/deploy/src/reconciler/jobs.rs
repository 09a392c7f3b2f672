//! What an app's task does beside its passes: what takes long and must not hold up the rest.
//!
//! A job never writes: it gives its outcome to the task, which is the only writer of the app's
//! instance rows. A job that is lost with the process is asked for again by the planner.

use std::collections::HashMap;
use std::hash::Hash;

use berth_model::rollout::Ending;
use berth_model::{DeploymentId, InstanceId};
use tokio::task::{AbortHandle, JoinSet};

use crate::error::DeployError;
use crate::records::RecordsError;

/// Which job; one of each at a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Job {
    /// Waits until this attempt of an instance is ready.
    Probe(InstanceId, u32),
    /// Ends an instance.
    Stop(InstanceId),
    /// Brings the layers of a deployment's release.
    Fetch(DeploymentId),
    /// Publishes routes.
    Publish,
}

/// How a job ended.
pub(super) enum Outcome {
    Ready { instance: InstanceId, attempt: u32 },
    Stopped { instance: InstanceId, ending: Ending, result: Result<(), DeployError> },
    Fetched { deployment: DeploymentId, result: Result<(), DeployError> },
    Published(Result<(), RecordsError>),
}

/// The running jobs of one app. Dropping it ends them.
#[derive(Default)]
pub(super) struct Jobs {
    set: JoinSet<(Job, Outcome)>,
    running: HashMap<Job, AbortHandle>,
}

impl Jobs {
    /// Starts a job unless it runs.
    pub(super) fn ensure(
        &mut self,
        job: Job,
        work: impl FnOnce() -> std::pin::Pin<Box<dyn Future<Output = Outcome> + Send>>,
    ) {
        if !self.running.contains_key(&job) {
            let (key, work) = (job.clone(), work());
            let handle = self.set.spawn(async move { (key, work.await) });
            self.running.insert(job, handle);
        }
    }

    /// Instances that are being ended.
    pub(super) fn ending(&self) -> impl Iterator<Item = InstanceId> + '_ {
        self.running.keys().filter_map(|job| match job {
            Job::Stop(id) => Some(*id),
            _ => None,
        })
    }

    /// Ends the jobs that are not wanted any more.
    pub(super) fn retain(&mut self, wanted: impl Fn(&Job) -> bool) {
        self.running.retain(|job, handle| {
            let keep = wanted(job);
            if !keep {
                handle.abort();
            }
            keep
        });
    }

    /// The next outcome that is there already.
    pub(super) fn ended(&mut self) -> Option<Outcome> {
        loop {
            match self.set.try_join_next()? {
                Ok((job, outcome)) => {
                    // A job that was not wanted any more and ended all the same says nothing.
                    if self.running.remove(&job).is_some() {
                        return Some(outcome);
                    }
                }
                Err(_aborted) => self.forget_ended(),
            }
        }
    }

    /// A job that panicked must not count as running for ever.
    fn forget_ended(&mut self) {
        self.running.retain(|_, handle| !handle.is_finished());
    }

    /// Returns when some job has ended; never, when none runs.
    pub(super) async fn any_ended(&mut self) -> Option<Outcome> {
        loop {
            if self.set.is_empty() {
                std::future::pending::<()>().await;
            }
            match self.set.join_next().await {
                Some(Ok((job, outcome))) => {
                    return self.running.remove(&job).map(|_| outcome);
                }
                Some(Err(_aborted)) => {
                    self.forget_ended();
                    return None;
                }
                None => {}
            }
        }
    }
}
