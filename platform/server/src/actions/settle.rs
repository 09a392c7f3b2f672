//! Waits until what runs of an app is what is wanted of it.

use std::time::Duration;

use berth_deploy::Records as _;
use berth_deploy::Snapshot;
use berth_model::rollout::Formation;
use berth_model::{AppId, InstanceRecord, InstanceRole, InstanceState};

use super::{LOOK, internal};
use crate::http::ActionError;
use crate::pipeline::Pipeline;
use crate::records::StoreRecords;

/// Longest wait.
const SETTLE_MAX: Duration = Duration::from_secs(120);

pub(super) async fn settle(pipeline: &Pipeline, app: AppId) -> Result<(), ActionError> {
    let records = StoreRecords { store: pipeline.store.clone(), router: pipeline.router.clone() };
    pipeline.deploys.wake(app);
    let settled = async {
        loop {
            let Some(snapshot) = records.snapshot(app).await.map_err(internal)? else {
                return Ok(());
            };
            if is_settled(&snapshot) {
                return Ok(());
            }
            if let Some(reason) = hopeless(&snapshot) {
                return Err(ActionError::Failed(reason));
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(SETTLE_MAX, settled).await {
        Ok(done) => done,
        Err(_) => Err(ActionError::Unavailable(format!(
            "it was not brought about within {} s and goes on; look with `berth ps`",
            SETTLE_MAX.as_secs()
        ))),
    }
}

fn instances(snapshot: &Snapshot) -> impl Iterator<Item = &InstanceRecord> {
    snapshot.instances.iter().filter(|row| row.role == InstanceRole::Instance)
}

/// Every wanted instance is ready, and nothing else gets requests. What drains is on its way out.
fn is_settled(snapshot: &Snapshot) -> bool {
    let settings = &snapshot.app.settings;
    if settings.stopped {
        return instances(snapshot).all(|row| row.state.is_terminal());
    }
    let Some(current) = &snapshot.current else { return true };
    let wanted = Formation::of(current, settings).processes;
    let mut left = wanted.clone();
    // Instances of the release before may still be kept for the watch; they get no requests.
    let own = instances(snapshot).filter(|row| row.release == current.id);
    for row in own.filter(|row| row.state < InstanceState::Draining) {
        let fits = row.restarts == settings.restarts && row.state == InstanceState::Ready;
        match left.get_mut(&row.process) {
            Some(count) if fits && *count > 0 => *count -= 1,
            _ => return false,
        }
    }
    left.values().all(|count| *count == 0)
}

/// Why it will not come about: an instance of what is wanted ended and a new one did too.
fn hopeless(snapshot: &Snapshot) -> Option<String> {
    let current = snapshot.current.as_ref()?;
    let failed = instances(snapshot)
        .filter(|row| row.release == current.id && row.state == InstanceState::Failed)
        .filter(|row| row.restarts == snapshot.app.settings.restarts)
        .max_by_key(|row| row.id)?;
    Some(format!(
        "{}: {}",
        failed.label(),
        failed.error.clone().unwrap_or_else(|| "it ended".to_owned())
    ))
}
