//! One look at an app: read, plan, take the steps.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

use berth_container::Role;
use berth_model::rollout::{self, Container, Formation, Observed, Rollout, Step, Wanted};
use berth_model::volume::alone;
use berth_model::{
    DeploymentId, DeploymentState, InstanceId, InstanceRecord, InstanceRole, InstanceState,
    Release, ReleaseId, Runtime, TargetAddress,
};

use super::app::{AppTask, Pass};
use super::jobs::Job;
use crate::diagnosis::Case;
use crate::drivers::embedded::{container, port};
use crate::drivers::{Driver, WasmHost};
use crate::error::DeployError;
use crate::logs;
use crate::records::{Launch, Records, Snapshot};

/// What one pass works with.
pub(super) struct View {
    pub(super) snapshot: Snapshot,
    pub(super) containers: BTreeMap<InstanceId, Container>,
    pub(super) now_ms: i64,
    pub(super) launches: HashMap<ReleaseId, Arc<Launch>>,
}

impl View {
    pub(super) fn release(&self, id: ReleaseId) -> Option<&Release> {
        let deployed = self.snapshot.deployments.iter().map(|(_, release)| release);
        self.snapshot.current.iter().chain(deployed).find(|release| release.id == id)
    }

    pub(super) fn deployed(&self, id: DeploymentId) -> Option<&Release> {
        let mut deployments = self.snapshot.deployments.iter();
        deployments.find(|(deployment, _)| deployment.id == id).map(|(_, release)| release)
    }
}

fn is_wasm(release: &Release) -> bool {
    matches!(release.manifest.runtime, Runtime::Wasm { .. })
}

impl<R: Records, W: WasmHost> AppTask<R, W> {
    pub(super) async fn pass(&mut self) -> Result<Pass, DeployError> {
        // The rows first: what a row says is started must be in a list that is asked for later.
        let Some(snapshot) = self.shared.records.snapshot(self.app).await? else {
            return self.clear().await;
        };
        let containers = self.containers(&snapshot).await?;
        let now_ms = self.shared.clock.now_ms();
        let mut view = View { snapshot, containers, now_ms, launches: HashMap::new() };
        let wanted = self.wanted(&view.snapshot);
        let observed = self.observed(&mut view).await?;
        let steps = rollout::plan(&wanted, &observed);
        self.follow_phases(&view);
        self.ask_to_drain(&view, &observed);
        self.keep_jobs(&view, &steps);
        let until_ms = steps.iter().rev().find_map(|step| match step {
            Step::Wait { until_ms } => Some(*until_ms),
            _ => None,
        });
        let acted = self.take(&mut view, steps).await?;
        Ok(if acted { Pass::Acted } else { Pass::Idle(until_ms) })
    }

    fn wanted(&self, snapshot: &Snapshot) -> Wanted {
        let settings = &snapshot.app.settings;
        let deployments = snapshot.deployments.iter().map(|(deployment, release)| Rollout {
            deployment: deployment.clone(),
            formation: Formation::of(release, settings),
        });
        Wanted {
            app: snapshot.app.id,
            stopped: settings.stopped,
            restarts: settings.restarts,
            alone: alone(&snapshot.volumes),
            current: snapshot.current.as_ref().map(|release| Formation::of(release, settings)),
            deployments: deployments.collect(),
            timeouts: self.shared.settings.timeouts,
        }
    }

    /// What runs of the app. A host that has nothing to do with it is not asked.
    async fn containers(
        &self,
        snapshot: &Snapshot,
    ) -> Result<BTreeMap<InstanceId, Container>, DeployError> {
        let releases = || {
            let deployed = snapshot.deployments.iter().map(|(_, release)| release);
            snapshot.current.iter().chain(deployed)
        };
        let live = || snapshot.instances.iter().filter(|row| !row.state.is_terminal());
        let in_worker = |address: &Option<TargetAddress>| *address == Some(TargetAddress::Wasm);
        let mut found = BTreeMap::new();
        if releases().any(|release| !is_wasm(release)) || live().any(|row| !in_worker(&row.address))
        {
            let statuses = self.shared.embedded.statuses().await?;
            let own = statuses.iter().filter(|status| status.app == self.app);
            let own = own.filter(|status| status.role != Role::Build);
            let port = port(&snapshot.app);
            found.extend(own.map(|status| (status.instance, container(status, port))));
        }
        if releases().any(is_wasm) || live().any(|row| in_worker(&row.address)) {
            found.extend(self.shared.wasm.list().await?);
        }
        found.retain(|id, _| snapshot.instances.iter().any(|row| row.id == *id));
        Ok(found)
    }

    async fn observed(&mut self, view: &mut View) -> Result<Observed, DeployError> {
        let routing = self.shared.records.routing(self.app);
        // The planner asks for layers only while a deployment is at its beginning.
        let beginning = view.snapshot.deployments.iter().find(|(deployment, release)| {
            deployment.state < DeploymentState::Releasing && !is_wasm(release)
        });
        let beginning = beginning.map(|(deployment, release)| (deployment.id, release.id));
        let (mut fetched, mut fetch_error) = (true, None);
        if let Some((deployment, release)) = beginning
            && !self.fetched.contains(&deployment)
        {
            let launch = self.launch(view, release).await?;
            fetch_error = self.fetch_errors.get(&deployment).cloned();
            match self.shared.embedded.has_layers(&launch.image.layers).await {
                Ok(there) => fetched = there,
                Err(error @ DeployError::TooManyLayers { .. }) => {
                    fetched = false;
                    fetch_error = Some(error.to_string());
                }
                Err(error) => return Err(error),
            }
            if fetched {
                self.fetched.insert(deployment);
            }
        }
        Ok(Observed {
            now_ms: view.now_ms,
            began_ms: self.shared.clock.began_ms(),
            instances: view.snapshot.instances.clone(),
            containers: view.containers.clone(),
            served: routing.targets,
            drained: routing.drained,
            fetched,
            fetch_error,
            held: self.shared.held().clone(),
            ending: self.jobs.ending().collect(),
            hold_until_ms: self.hold.until_ms,
        })
    }

    /// What containers of a release are started from, read once in a pass.
    pub(super) async fn launch(
        &self,
        view: &mut View,
        release: ReleaseId,
    ) -> Result<Arc<Launch>, DeployError> {
        if let Some(launch) = view.launches.get(&release) {
            return Ok(Arc::clone(launch));
        }
        let launch = Arc::new(self.shared.records.launch(release).await?);
        view.launches.insert(release, Arc::clone(&launch));
        Ok(launch)
    }

    /// Reads the output of release phases that run into their deployments' progress.
    fn follow_phases(&mut self, view: &View) {
        // The reader of one that ends was taken along by whoever ends it.
        let ending: BTreeSet<InstanceId> = self.jobs.ending().collect();
        let going = |row: &&InstanceRecord| !row.state.is_terminal() && !ending.contains(&row.id);
        for row in view.snapshot.instances.iter().filter(going) {
            let runs = row.role == InstanceRole::Release && view.containers.contains_key(&row.id);
            let Some(deployment) = row.deployment.filter(|_| runs) else { continue };
            if !self.tails.contains_key(&row.id) {
                let (shared, id) = (Arc::clone(&self.shared), row.id);
                let reading = tokio::spawn(async move {
                    let tell = |line: String| shared.board.detail(deployment, &line);
                    if let Err(error) = logs::follow(&shared.embedded, id, tell).await {
                        tracing::warn!("the release phase's output is not shown: {error}");
                    }
                });
                self.tails.insert(id, reading);
            }
        }
    }

    /// Asks the router to finish with the instances that have left its table.
    fn ask_to_drain(&mut self, view: &View, observed: &Observed) {
        let Some(served) = &observed.served else { return };
        for row in &view.snapshot.instances {
            let left = row.state == InstanceState::Draining && !served.contains(&row.id);
            if left && self.draining.insert(row.id) {
                let limit_ms = i64::from(self.shared.settings.timeouts.drain_ms_max);
                let rest_ms = row.draining_at_ms.unwrap_or(view.now_ms) + limit_ms - view.now_ms;
                let rest_ms = rest_ms.clamp(0, limit_ms);
                self.shared.records.drain(row.id, u32::try_from(rest_ms).unwrap_or(0));
            }
        }
    }

    /// Ends the jobs that the plan does not ask for any more.
    fn keep_jobs(&mut self, view: &View, steps: &[Step]) {
        let probed: BTreeSet<_> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Probe(id) => Some((*id, view.containers.get(id)?.attempt)),
                _ => None,
            })
            .collect();
        self.jobs.retain(|job| match job {
            Job::Probe(id, attempt) => probed.contains(&(*id, *attempt)),
            Job::Fetch(id) => view.deployed(*id).is_some(),
            Job::Stop(_) | Job::Publish => true,
        });
        self.fetched.retain(|id| view.deployed(*id).is_some());
        self.fetch_errors.retain(|id, _| view.deployed(*id).is_some());
        let known = |id: &InstanceId| view.snapshot.instances.iter().any(|row| row.id == *id);
        self.tails.retain(|id, reading| known(id) || !reading.is_finished());
        self.last_probes.retain(|id, _| known(id));
    }

    /// What is known of the app, for explaining a failure.
    pub(super) fn case<'a>(&self, view: &'a View) -> Case<'a> {
        let probes = self.last_probes.iter().filter_map(|(id, last)| {
            Some((*id, last.lock().unwrap_or_else(PoisonError::into_inner).clone()?))
        });
        Case {
            app: &view.snapshot.app,
            instances: &view.snapshot.instances,
            timeouts: self.shared.settings.timeouts,
            probes: probes.collect(),
        }
    }

    /// Ends what still runs of an app that was destroyed, and says so in its rows: only then is the
    /// app forgotten, and its ids are another's.
    async fn clear(&mut self) -> Result<Pass, DeployError> {
        self.jobs.retain(|_| false);
        let shared = &self.shared;
        // The rows first: what a row says is started must be in a list that is asked for later.
        let rows = shared.records.leftovers(self.app).await?;
        let statuses = shared.embedded.statuses().await?;
        let own = statuses.iter().filter(|status| status.app == self.app);
        let own = own.filter(|status| status.role != Role::Build).map(|status| status.instance);
        let own: BTreeSet<InstanceId> = own.collect();
        if own.is_empty() && rows.is_empty() {
            return Ok(Pass::Gone);
        }
        // Out of the table before it is out of order; a router that is away holds nothing up.
        let published = shared.records.publish(self.app).await;
        let grace_ms = shared.settings.timeouts.stop_ms_max;
        let stops = own.iter().map(|instance| shared.embedded.stop(*instance, grace_ms));
        futures_util::future::try_join_all(stops).await?;
        // No address is another's before the router knows.
        published?;
        let addressed =
            rows.iter().filter(|row| matches!(row.address, Some(TargetAddress::Tcp(_))));
        let addressed = addressed.map(|row| row.id);
        for instance in own.iter().copied().chain(addressed).collect::<BTreeSet<_>>() {
            shared.embedded.free_address(instance).await?;
        }
        for row in rows {
            if row.address == Some(TargetAddress::Wasm) {
                shared.wasm.stop(row.id, grace_ms).await?;
            }
            let ended = !row.state.is_terminal();
            let row = InstanceRecord {
                state: if ended { InstanceState::Stopped } else { row.state },
                answering: None,
                stopped_at_ms: row.stopped_at_ms.or(Some(shared.clock.now_ms())),
                address: None,
                ..row
            };
            shared.records.put_instance(&row).await?;
        }
        Ok(Pass::Acted)
    }
}
