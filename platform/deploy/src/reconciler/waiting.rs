//! Waits until instances are ready, and tells those who wait as well what is waited for.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_model::{DeploymentId, InstanceId, TargetAddress};

use super::Shared;
use super::app::AppTask;
use super::jobs::{Job, Outcome};
use super::pass::View;
use super::steps::row;
use crate::diagnosis::not_yet;
use crate::drivers::WasmHost;
use crate::error::DeployError;
use crate::probe::{LastProbe, until_ready};
use crate::records::Records;

impl<R: Records, W: WasmHost> AppTask<R, W> {
    /// Looks until an instance is ready; whether it is already.
    pub(super) async fn probe(&mut self, view: &View, id: InstanceId) -> Result<bool, DeployError> {
        let Some(container) = view.containers.get(&id) else { return Ok(false) };
        let Some(record) = row(view, id) else { return Ok(false) };
        let attempt = container.attempt;
        let address = match record.address.as_ref().or(container.address.as_ref()) {
            Some(TargetAddress::Tcp(address)) => *address,
            Some(TargetAddress::Wasm) => {
                self.ready(id, attempt).await?;
                return Ok(true);
            }
            None => return Ok(false),
        };
        let process = view.release(record.release);
        let process = process.and_then(|release| release.manifest.processes.get(&record.process));
        let check = process.and_then(|process| process.check.clone());
        let timeouts = self.shared.settings.timeouts;
        let last = Arc::clone(self.last_probes.entry(id).or_default());
        let waiting = record.deployment.map(|deployment| (deployment, record.label()));
        let shared = Arc::clone(&self.shared);
        self.jobs.ensure(Job::Probe(id, attempt), || {
            Box::pin(async move {
                let ready = until_ready(address, check.as_ref(), timeouts, Arc::clone(&last));
                let telling = async {
                    match waiting {
                        Some(waiting) => tell_wait(&shared, waiting, id, &last).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = ready => Outcome::Ready { instance: id, attempt },
                    never = telling => match never {},
                }
            })
        });
        Ok(false)
    }
}

/// Says to whoever waits for a deployment why an instance is not ready yet.
async fn tell_wait<R, W>(
    shared: &Shared<R, W>,
    (deployment, label): (DeploymentId, String),
    id: InstanceId,
    last: &LastProbe,
) -> Infallible {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(shared.settings.timeouts.wait_note_ms.max(1).into());
    loop {
        tokio::time::sleep(pause).await;
        pause = begun.elapsed();
        let why = not_yet(&shared.embedded, id, last).await;
        let text = format!("{label} is not ready after {} s: {why}", pause.as_secs());
        shared.board.detail(deployment, &text);
    }
}
