//! Takes the planner's steps: first the row, then the deed.

use std::sync::Arc;
use std::time::Duration;

use berth_model::rollout::{Ending, Failure, Phase, Step, WEB};
use berth_model::{
    DeploymentId, DeploymentState, InstanceId, InstanceRecord, InstanceRole, InstanceState,
    ProcessName, ReleaseId, Runtime, TargetAddress,
};
use futures_util::future::join_all;

use super::app::AppTask;
use super::jobs::{Job, Outcome};
use super::pass::View;
use crate::clock::new_instance_id;
use crate::drivers::environment::payload;
use crate::drivers::{Driver, Order, StartError, WasmHost};
use crate::error::DeployError;
use crate::progress::Progress;
use crate::records::Records;

/// The output of a release phase is waited for this long after its end.
const TAIL_WAIT: Duration = Duration::from_secs(2);

impl<R: Records, W: WasmHost> AppTask<R, W> {
    /// Takes the steps in their order; starts of instances go side by side at the end. Whether
    /// anything was done that makes another look worth while.
    pub(super) async fn take(
        &mut self,
        view: &mut View,
        steps: Vec<Step>,
    ) -> Result<bool, DeployError> {
        let mut acted = false;
        let mut to_start = Vec::new();
        for step in steps {
            match step {
                Step::Wait { .. } => continue,
                Step::Probe(id) => {
                    acted |= self.probe(view, id).await?;
                    continue;
                }
                Step::Publish => {
                    self.publish();
                    continue;
                }
                Step::FetchLayers(id) => {
                    self.fetch(view, id).await?;
                    continue;
                }
                Step::Stop { instance, grace_ms, ending } => {
                    self.stop(view, instance, grace_ms, ending);
                    continue;
                }
                Step::StartInstance { release, process, slot, deployment } => {
                    let record = self.plan_instance(view, release, process, slot, deployment)?;
                    self.shared.records.put_instance(&record).await?;
                    if let Some(deployment) = deployment {
                        let text = format!("Starting {}", record.label());
                        self.shared.board.heading(deployment, &text);
                    }
                    to_start.push(record);
                }
                Step::Resume(id) => to_start.extend(row(view, id).cloned()),
                Step::StartReleasePhase(id) => self.start_phase(view, id).await?,
                Step::Adopt(id) => self.adopt(view, id).await?,
                Step::Ready(id) => {
                    let attempt = view.containers.get(&id).map_or(1, |container| container.attempt);
                    self.ready(id, attempt).await?;
                }
                Step::Silence(id) => self.update(view, id, |row| row.answering = None).await?,
                Step::Drain { instance, .. } => {
                    let now_ms = view.now_ms;
                    let drain = |row: &mut InstanceRecord| {
                        row.state = InstanceState::Draining;
                        row.draining_at_ms = Some(now_ms);
                    };
                    self.update(view, instance, drain).await?;
                }
                Step::FreeAddress(id) => self.free_address(view, id).await?,
                Step::Advance(id, to) => self.advance(view, id, to).await?,
                Step::Switch(id) => self.switch(view, id).await?,
                Step::Fail(id, failure) => self.fail(view, id, &failure, false).await?,
                Step::RollBack(id, failure) => self.fail(view, id, &failure, true).await?,
            }
            acted = true;
        }
        if !to_start.is_empty() {
            self.start(view, to_start).await?;
        }
        Ok(acted)
    }

    fn plan_instance(
        &self,
        view: &View,
        release: ReleaseId,
        process: ProcessName,
        slot: u16,
        deployment: Option<DeploymentId>,
    ) -> Result<InstanceRecord, DeployError> {
        Ok(InstanceRecord {
            id: new_instance_id()?,
            app: self.app,
            release,
            deployment,
            process,
            slot,
            role: InstanceRole::Instance,
            restarts: view.snapshot.app.settings.restarts,
            state: InstanceState::Planned,
            address: None,
            answering: None,
            exit_code: None,
            error: None,
            created_at_ms: view.now_ms,
            ready_at_ms: None,
            draining_at_ms: None,
            stopped_at_ms: None,
        })
    }

    /// Starts instances whose rows are written, and writes down how it went.
    async fn start(
        &mut self,
        view: &mut View,
        records: Vec<InstanceRecord>,
    ) -> Result<(), DeployError> {
        for record in &records {
            // A release that is not known any more is told below.
            if view.release(record.release).is_some() {
                self.launch(view, record.release).await?;
            }
        }
        let (shared, seen) = (&self.shared, &*view);
        let starts = records.into_iter().map(|record| async move {
            let _permit = shared.starts.acquire().await;
            let known = seen.release(record.release).zip(seen.launches.get(&record.release));
            let started = match known {
                None => Err(StartError::Refused("its release is not wanted any more".to_owned())),
                Some((release, launch)) => {
                    let (app, volumes) = (&seen.snapshot.app, &seen.snapshot.volumes[..]);
                    let order = Order { record: &record, app, release, launch, volumes };
                    match release.manifest.runtime {
                        Runtime::Container => shared.embedded.start(order).await,
                        Runtime::Wasm { .. } => shared.wasm.start(order).await,
                    }
                }
            };
            (record, started)
        });
        let mut unknown = None;
        for (record, started) in join_all(starts).await {
            if started.is_ok() {
                self.volumes_made(view, &record).await?;
            }
            if let Err(error) = self.started(record, started).await {
                unknown = Some(error);
            }
        }
        unknown.map_or(Ok(()), Err)
    }

    /// Writes down that the disks of what an instance mounts exist.
    async fn volumes_made(&self, view: &View, record: &InstanceRecord) -> Result<(), DeployError> {
        let volumes = view.snapshot.volumes.iter();
        let new = volumes.filter(|volume| volume.process == record.process && !volume.made);
        let new: Vec<_> = new.map(|volume| volume.id).collect();
        if new.is_empty() { Ok(()) } else { Ok(self.shared.records.volumes_made(&new).await?) }
    }

    /// Writes down how a start went.
    async fn started(
        &mut self,
        record: InstanceRecord,
        started: Result<Option<TargetAddress>, StartError>,
    ) -> Result<(), DeployError> {
        let now_ms = self.shared.clock.now_ms();
        let refused = match started {
            Ok(address) => {
                let state = record.state.max(InstanceState::Running);
                let record = InstanceRecord { state, address, ..record };
                return Ok(self.shared.records.put_instance(&record).await?);
            }
            Err(StartError::Unknown(error)) => return Err(error),
            Err(StartError::Refused(reason)) => reason,
            Err(StartError::Used) => {
                if self.shared.embedded.list().await?.contains_key(&record.id) {
                    // It was started by a former process: the next look adopts it.
                    return Ok(());
                }
                "it was started before and is gone".to_owned()
            }
        };
        tracing::warn!(app = %self.app, instance = %record.id, "not started: {refused}");
        if record.role == InstanceRole::Instance {
            self.hold.failed(now_ms);
        }
        let record = InstanceRecord {
            state: InstanceState::Failed,
            error: Some(refused),
            stopped_at_ms: Some(now_ms),
            ..record
        };
        Ok(self.shared.records.put_instance(&record).await?)
    }

    async fn start_phase(
        &mut self,
        view: &mut View,
        deployment: DeploymentId,
    ) -> Result<(), DeployError> {
        let Some(release) = view.deployed(deployment).cloned() else { return Ok(()) };
        let Some(process) = release.manifest.release.clone() else { return Ok(()) };
        let launch = self.launch(view, release.id).await?;
        let name: ProcessName = "release".parse().map_err(crate::error::name)?;
        let record = InstanceRecord {
            role: InstanceRole::Release,
            ..self.plan_instance(view, release.id, name, 1, Some(deployment))?
        };
        self.shared.records.put_instance(&record).await?;
        self.shared.board.heading(deployment, "Running the release phase");
        let (app, volumes) = (&view.snapshot.app, &view.snapshot.volumes[..]);
        let order = Order { record: &record, app, release: &release, launch: &launch, volumes };
        let payload = payload(order, process.command, &process.working_dir, &[]);
        let time_ms_max = self.shared.settings.timeouts.release_phase_ms_max;
        let started = self.shared.embedded.start_with(order, &payload, time_ms_max).await;
        self.started(record, started).await
    }

    /// Changes a row of this pass. Only this task writes the rows of instances.
    async fn update(
        &self,
        view: &View,
        id: InstanceId,
        change: impl FnOnce(&mut InstanceRecord),
    ) -> Result<(), DeployError> {
        let Some(mut record) = row(view, id).cloned() else { return Ok(()) };
        change(&mut record);
        Ok(self.shared.records.put_instance(&record).await?)
    }

    async fn adopt(&self, view: &View, id: InstanceId) -> Result<(), DeployError> {
        let address = view.containers.get(&id).and_then(|container| container.address.clone());
        self.update(view, id, |row| {
            row.state = InstanceState::Running;
            row.address = address;
        })
        .await
    }

    fn publish(&mut self) {
        let (shared, app) = (Arc::clone(&self.shared), self.app);
        self.jobs.ensure(Job::Publish, || {
            Box::pin(async move { Outcome::Published(shared.records.publish(app).await) })
        });
    }

    async fn fetch(&mut self, view: &mut View, id: DeploymentId) -> Result<(), DeployError> {
        let Some(release) = view.deployed(id).map(|release| release.id) else { return Ok(()) };
        let launch = self.launch(view, release).await?;
        let shared = Arc::clone(&self.shared);
        self.jobs.ensure(Job::Fetch(id), || {
            Box::pin(async move {
                let result = shared.embedded.fetch(&launch.image.layers).await;
                Outcome::Fetched { deployment: id, result }
            })
        });
        Ok(())
    }

    fn stop(&mut self, view: &View, id: InstanceId, grace_ms: u32, ending: Ending) {
        let Some(record) = row(view, id) else { return };
        let known = view.release(record.release);
        let in_worker = record.address == Some(TargetAddress::Wasm)
            || known.is_some_and(|r| matches!(r.manifest.runtime, Runtime::Wasm { .. }));
        // Nothing is left to be terminated gently.
        let dead = view.containers.get(&id).is_some_and(|c| c.phase == Phase::Exited);
        let grace_ms = if dead { 0 } else { grace_ms };
        // How a command ended is written down before what would tell it again is cleared away.
        let runs_once = matches!(record.role, InstanceRole::Release | InstanceRole::Detached);
        let only_note = dead && runs_once && !record.state.is_terminal();
        let shared = Arc::clone(&self.shared);
        let tails = &mut self.tails;
        self.jobs.ensure(Job::Stop(id), || {
            let tail = tails.remove(&id);
            Box::pin(async move {
                if let Some(tail) = tail {
                    let _ = tokio::time::timeout(TAIL_WAIT, tail).await;
                }
                let result = if only_note {
                    Ok(())
                } else if in_worker {
                    shared.wasm.stop(id, grace_ms).await
                } else {
                    shared.embedded.stop(id, grace_ms).await
                };
                Outcome::Stopped { instance: id, ending, result }
            })
        });
    }

    async fn free_address(&self, view: &View, id: InstanceId) -> Result<(), DeployError> {
        let address = row(view, id).and_then(|row| row.address.as_ref());
        if matches!(address, Some(TargetAddress::Tcp(_))) {
            self.shared.embedded.free_address(id).await?;
        }
        self.update(view, id, |row| row.address = None).await
    }

    async fn advance(
        &mut self,
        view: &View,
        id: DeploymentId,
        to: DeploymentState,
    ) -> Result<(), DeployError> {
        let (records, board) = (&self.shared.records, &self.shared.board);
        if to.is_terminal() {
            let error = (to == DeploymentState::Superseded)
                .then(|| "a later deployment took its place".to_owned());
            records.finish(id, to, error.clone(), view.now_ms).await?;
            board.tell(id, Progress::Ended { state: to, error });
        } else {
            records.advance(id, to, view.now_ms).await?;
            let own = view.snapshot.deployments.iter().find(|(own, _)| own.id == id);
            if let Some((deployment, release)) = own
                && to == DeploymentState::Monitoring
                && deployment.previous.is_some_and(|previous| previous != release.id)
                && !deployment.rollback
            {
                let watch_s = self.shared.settings.timeouts.monitor_ms.div_ceil(1000);
                let text = format!(
                    "v{} is watched for {watch_s} s; should it fail, the release before comes back",
                    release.number
                );
                board.detail(id, &text);
            }
            board.tell(id, Progress::State(to));
        }
        Ok(())
    }

    async fn switch(&mut self, view: &View, id: DeploymentId) -> Result<(), DeployError> {
        self.shared.records.switch(id, view.now_ms).await?;
        self.switching = Some(id);
        self.publish();
        if let Some(release) = view.deployed(id) {
            let web = release.manifest.processes.keys().any(|name| name.as_str() == WEB);
            let what = if web { "Requests go to" } else { "Now running" };
            self.shared.board.heading(id, &format!("{what} v{}", release.number));
        }
        self.shared.board.tell(id, Progress::State(DeploymentState::Switching));
        Ok(())
    }

    async fn fail(
        &mut self,
        view: &View,
        id: DeploymentId,
        failure: &Failure,
        roll_back: bool,
    ) -> Result<(), DeployError> {
        let diagnosis = self.case(view).explain(&self.shared.embedded, failure).await;
        let error = diagnosis.reasons.join("; ");
        let (records, board) = (&self.shared.records, &self.shared.board);
        let state = if roll_back {
            records.roll_back(id, error.clone(), view.now_ms).await?;
            DeploymentState::RolledBack
        } else {
            let state = DeploymentState::Failed;
            records.finish(id, state, Some(error.clone()), view.now_ms).await?;
            state
        };
        tracing::info!(app = %self.app, deployment = %id, "deployment failed: {error}");
        for reason in &diagnosis.reasons {
            board.error(id, reason);
        }
        if let Some((label, lines)) = diagnosis.tail.filter(|(_, lines)| !lines.is_empty()) {
            board.heading(id, &format!("Last lines of {label}"));
            for line in lines {
                board.detail(id, &line);
            }
        }
        board.tell(id, Progress::Ended { state, error: Some(error) });
        Ok(())
    }
}

pub(super) fn row(view: &View, id: InstanceId) -> Option<&InstanceRecord> {
    view.snapshot.instances.iter().find(|row| row.id == id)
}
