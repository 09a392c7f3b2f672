//! Rows and routes of tests, in memory. The router is a set that is changed by `publish`; tests
//! can take it away, or look at every table that it was given.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use berth_deploy::{Launch, Records, RecordsError, Routing, Snapshot};
use berth_model::image::Image;
use berth_model::*;
use tokio::sync::watch;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) apps: BTreeMap<AppId, App>,
    pub(crate) releases: BTreeMap<ReleaseId, Release>,
    pub(crate) launches: BTreeMap<ReleaseId, Launch>,
    pub(crate) deployments: BTreeMap<DeploymentId, Deployment>,
    pub(crate) instances: BTreeMap<InstanceId, InstanceRecord>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) router: BTreeMap<AppId, BTreeSet<InstanceId>>,
    pub(crate) router_is_away: bool,
    /// Every table of every app, in order.
    pub(crate) tables: Vec<BTreeSet<InstanceId>>,
    pub(crate) asked_to_drain: BTreeSet<InstanceId>,
    /// Requests that are on their way, by target.
    pub(crate) in_flight: BTreeMap<InstanceId, u32>,
    ids: u64,
}

impl State {
    /// Ids that sort by creation.
    pub(crate) fn id<T>(&mut self, make: impl Fn(u64, [u8; 10]) -> T) -> T {
        self.ids += 1;
        make(self.ids, [7; 10])
    }
}

/// Records that several reconcilers, one after the other, may share.
#[derive(Clone)]
pub(crate) struct Memory {
    pub(crate) state: Arc<Mutex<State>>,
    changes: Arc<watch::Sender<u64>>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), changes: Arc::new(watch::Sender::new(0)) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Waits until the state is as expected; panics with `what` after twenty seconds.
    pub(crate) async fn until(&self, what: &str, mut expected: impl FnMut(&State) -> bool) {
        let mut changes = self.changes.subscribe();
        let wait = async {
            loop {
                changes.borrow_and_update();
                if expected(&self.lock()) {
                    return;
                }
                changes.changed().await.unwrap();
            }
        };
        let limit = std::time::Duration::from_secs(20);
        if tokio::time::timeout(limit, wait).await.is_err() {
            let state = self.lock();
            panic!("never {what}: {:#?} {:#?}", state.deployments, state.instances);
        }
    }

    pub(crate) fn app(&self, name: &str) -> AppId {
        let mut state = self.lock();
        let id = state.id(AppId::new);
        let app = App {
            id,
            name: name.parse().unwrap(),
            team: TeamId::new(0, [0; 10]),
            block: 0,
            settings: AppSettings::default(),
            current_release: None,
            generation: 0,
            created_at_ms: 0,
        };
        state.apps.insert(id, app);
        id
    }

    pub(crate) fn release(&self, app: AppId, image: Image, config: &[(&str, &str)]) -> ReleaseId {
        let mut state = self.lock();
        let id = state.id(ReleaseId::new);
        let number = state.releases.values().filter(|release| release.app == app).count() as u64;
        let release = Release {
            id,
            app,
            number: number + 1,
            image: image.digest,
            manifest: image.manifest.clone(),
            config_version: 1,
            commit: "1a2b3c4d".repeat(5),
            reason: "Deploy 1a2b3c4".to_owned(),
            actor: PrincipalId::new(0, [0; 10]),
            created_at_ms: 0,
        };
        state.releases.insert(id, release);
        let config = config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        state.launches.insert(id, Launch { image, config });
        id
    }

    pub(crate) fn deploy(&self, app: AppId, release: ReleaseId) -> DeploymentId {
        let mut state = self.lock();
        queue(&mut state, app, release, false)
    }

    pub(crate) fn deployment(&self, id: DeploymentId) -> Deployment {
        self.lock().deployments[&id].clone()
    }

    pub(crate) async fn until_ended(&self, id: DeploymentId) -> Deployment {
        self.until("ended", |state| state.deployments[&id].state.is_terminal()).await;
        self.deployment(id)
    }

    fn write(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed();
    }

    fn put_deployment(
        &self,
        id: DeploymentId,
        to: DeploymentState,
        at_ms: i64,
        change: impl FnOnce(&mut State, &mut Deployment),
    ) {
        self.write(|state| {
            let mut deployment = state.deployments[&id].clone();
            assert!(deployment.state.may_become(to), "{:?} -> {to:?}", deployment.state);
            deployment.state = to;
            deployment.changed_at_ms = at_ms;
            change(state, &mut deployment);
            state.deployments.insert(id, deployment);
        });
    }
}

fn queue(state: &mut State, app: AppId, release: ReleaseId, rollback: bool) -> DeploymentId {
    let id = state.id(DeploymentId::new);
    let deployment = Deployment {
        id,
        app,
        release,
        state: DeploymentState::Queued,
        rollback,
        previous: None,
        error: None,
        created_at_ms: 0,
        changed_at_ms: 0,
        finished_at_ms: None,
    };
    state.deployments.insert(id, deployment);
    id
}

impl Records for Memory {
    async fn apps(&self) -> Result<Vec<AppId>, RecordsError> {
        Ok(self.lock().apps.keys().copied().collect())
    }

    async fn snapshot(&self, app: AppId) -> Result<Option<Snapshot>, RecordsError> {
        let state = self.lock();
        let Some(app) = state.apps.get(&app).cloned() else { return Ok(None) };
        let deployments: Vec<_> = state
            .deployments
            .values()
            .filter(|deployment| deployment.app == app.id && !deployment.state.is_terminal())
            .map(|deployment| (deployment.clone(), state.releases[&deployment.release].clone()))
            .collect();
        let of_deployment = |row: &&InstanceRecord| {
            deployments.iter().any(|(deployment, _)| row.deployment == Some(deployment.id))
        };
        let instances = state
            .instances
            .values()
            .filter(|row| row.app == app.id)
            .filter(|row| !row.state.is_terminal() || row.address.is_some() || of_deployment(row))
            .cloned()
            .collect();
        let current = app.current_release.map(|release| state.releases[&release].clone());
        let volumes = state.volumes.iter().filter(|volume| volume.app == app.id).cloned().collect();
        Ok(Some(Snapshot { current, app, deployments, instances, volumes }))
    }

    async fn leftovers(&self, app: AppId) -> Result<Vec<InstanceRecord>, RecordsError> {
        let state = self.lock();
        let own = state.instances.values().filter(|row| row.app == app);
        Ok(own.filter(|row| !row.state.is_terminal() || row.address.is_some()).cloned().collect())
    }

    async fn launch(&self, release: ReleaseId) -> Result<Launch, RecordsError> {
        Ok(self.lock().launches[&release].clone())
    }

    async fn instance(&self, id: InstanceId) -> Result<Option<InstanceRecord>, RecordsError> {
        Ok(self.lock().instances.get(&id).cloned())
    }

    async fn put_instance(&self, record: &InstanceRecord) -> Result<(), RecordsError> {
        self.write(|state| {
            let before = state.instances.insert(record.id, record.clone());
            assert!(before.is_none_or(|before| before.state <= record.state), "{record:?}");
        });
        Ok(())
    }

    async fn volumes_made(&self, volumes: &[VolumeId]) -> Result<(), RecordsError> {
        let mut state = self.lock();
        for volume in state.volumes.iter_mut().filter(|volume| volumes.contains(&volume.id)) {
            volume.made = true;
        }
        Ok(())
    }

    async fn advance(
        &self,
        id: DeploymentId,
        to: DeploymentState,
        at_ms: i64,
    ) -> Result<(), RecordsError> {
        self.put_deployment(id, to, at_ms, |_, _| {});
        Ok(())
    }

    async fn switch(&self, id: DeploymentId, at_ms: i64) -> Result<(), RecordsError> {
        self.put_deployment(id, DeploymentState::Switching, at_ms, |state, deployment| {
            let app = state.apps.get_mut(&deployment.app).unwrap();
            deployment.previous = app.current_release.replace(deployment.release);
        });
        Ok(())
    }

    async fn finish(
        &self,
        id: DeploymentId,
        state: DeploymentState,
        error: Option<String>,
        at_ms: i64,
    ) -> Result<(), RecordsError> {
        self.put_deployment(id, state, at_ms, |_, deployment| {
            deployment.error = error;
            deployment.finished_at_ms = Some(at_ms);
        });
        Ok(())
    }

    async fn roll_back(
        &self,
        id: DeploymentId,
        error: String,
        at_ms: i64,
    ) -> Result<(), RecordsError> {
        self.put_deployment(id, DeploymentState::RolledBack, at_ms, |state, deployment| {
            deployment.error = Some(error);
            queue(state, deployment.app, deployment.previous.unwrap(), true);
        });
        Ok(())
    }

    async fn publish(&self, app: AppId) -> Result<(), RecordsError> {
        if self.lock().router_is_away {
            return Err(RecordsError::new("publish routes", "the router does not answer"));
        }
        self.write(|state| {
            let current = state.apps.get(&app).and_then(|app| app.current_release);
            let rows: Vec<_> =
                state.instances.values().filter(|row| row.app == app).cloned().collect();
            let targets = berth_model::rollout::targets(current, &rows);
            let table: BTreeSet<_> = targets.into_iter().map(|target| target.instance).collect();
            state.tables.push(table.clone());
            state.router.insert(app, table);
        });
        Ok(())
    }

    fn routing(&self, app: AppId) -> Routing {
        let state = self.lock();
        let targets = state.router.get(&app).cloned().filter(|_| !state.router_is_away);
        let busy = |id: &InstanceId| state.in_flight.get(id).is_some_and(|count| *count > 0);
        let drained = state.asked_to_drain.iter().copied().filter(|id| !busy(id)).collect();
        Routing { targets, drained }
    }

    fn drain(&self, instance: InstanceId, _limit_ms: u32) {
        self.write(|state| {
            state.asked_to_drain.insert(instance);
        });
    }
}
