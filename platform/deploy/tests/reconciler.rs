//! The reconciler alone, over Wasm apps: rows in memory, no agent.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_blobs::BlobStore;
use berth_container::Agent;
use berth_deploy::drivers::wasm::WasmError;
use berth_deploy::{Embedded, Loaded, Progress, Reconciler, Settings, WasmHost, WasmLoad};
use berth_model::image::Image;
use berth_model::rollout::Timeouts;
use berth_model::*;

#[path = "support/records.rs"]
mod records;

use records::Memory;

/// A Wasm worker of plain values.
#[derive(Clone, Default)]
struct Worker(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    loaded: BTreeMap<InstanceId, Vec<(String, String)>>,
    loads: u32,
    refuse: Option<String>,
    is_away: bool,
    /// How often it is yet to panic when it is asked what is loaded.
    panics: u32,
}

impl Worker {
    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.0.lock().unwrap()
    }

    fn loaded(&self) -> BTreeSet<InstanceId> {
        self.inside().loaded.keys().copied().collect()
    }
}

impl WasmHost for Worker {
    async fn load(&self, load: WasmLoad) -> Result<Loaded, WasmError> {
        let mut inside = self.inside();
        if inside.is_away {
            return Err("the worker is away".into());
        }
        inside.loads += 1;
        if let Some(reason) = &inside.refuse {
            return Ok(Loaded::Refused(reason.clone()));
        }
        inside.loaded.insert(load.instance, load.env);
        Ok(Loaded::Ready)
    }

    async fn unload(&self, instance: InstanceId) -> Result<(), WasmError> {
        self.inside().loaded.remove(&instance);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<InstanceId>, WasmError> {
        let panics = std::mem::replace(&mut self.inside().panics, 0);
        self.inside().panics = panics.saturating_sub(1);
        assert_eq!(panics, 0, "asked for");
        let inside = self.inside();
        if inside.is_away {
            Err("the worker is away".into())
        } else {
            Ok(inside.loaded.keys().copied().collect())
        }
    }
}

struct House {
    records: Memory,
    worker: Worker,
    reconciler: Reconciler<Memory, Worker>,
    folder: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (records, worker) = (Memory::new(), Worker::default());
        let reconciler = reconciler(&records, &worker, folder.path());
        Self { records, worker, reconciler, folder }
    }

    /// What a new process would do over the same rows and hosts.
    async fn restart(&mut self) {
        self.reconciler.close();
        self.reconciler.closed().await;
        self.reconciler = reconciler(&self.records, &self.worker, self.folder.path());
        self.reconciler.start();
    }

    async fn deploy(&self, app: AppId) -> (DeploymentId, Deployment) {
        let release = self.records.release(app, component(), &[("GREETING", "hello")]);
        let id = self.records.deploy(app, release);
        self.reconciler.wake(app);
        (id, self.records.until_ended(id).await)
    }

    async fn until_only(&self, app: AppId, count: usize) {
        self.records
            .until("only the wanted instances", |state| {
                let live = state.instances.values().filter(|row| !row.state.is_terminal());
                live.count() == count
                    && state.router.get(&app).is_some_and(|targets| targets.len() == count)
            })
            .await;
    }
}

fn reconciler(
    records: &Memory,
    worker: &Worker,
    folder: &std::path::Path,
) -> Reconciler<Memory, Worker> {
    let blobs = Arc::new(BlobStore::open(folder.join("blobs")).unwrap());
    let embedded = Embedded::new(Agent::at(folder.join("no-agent.sock")), blobs);
    let timeouts = Timeouts { monitor_ms: 60, drain_ms_max: 2000, ..Timeouts::default() };
    let settings = Settings { timeouts, period_ms: 100, ..Settings::default() };
    Reconciler::new(records.clone(), embedded, worker.clone(), settings)
}

fn component() -> Image {
    let component = Digest::from_sha256([1; 32]);
    let process = Process { command: vec![], working_dir: "/".into(), check: None };
    Image {
        digest: Digest::from_sha256([2; 32]),
        layers: vec![],
        env: BTreeMap::new(),
        manifest: Manifest {
            processes: [("web".parse().unwrap(), process)].into(),
            release: None,
            runtime: Runtime::Wasm { component },
            formation: BTreeMap::new(),
            wasm: berth_model::manifest::WasmSettings::default(),
        },
    }
}

#[tokio::test]
async fn a_deployment_loads_switches_and_unloads_what_it_replaces() {
    let house = House::new();
    let app = house.records.app("hello");
    let (_, first) = house.deploy(app).await;
    assert_eq!(first.state, DeploymentState::Done);
    let old = house.worker.loaded();
    let (id, second) = house.deploy(app).await;
    assert_eq!((second.state, second.previous), (DeploymentState::Done, Some(first.release)));
    house.until_only(app, 1).await;
    assert!(house.worker.loaded().is_disjoint(&old));
    assert!(house.records.lock().asked_to_drain.is_superset(&old));
    let tables = house.records.lock().tables.clone();
    assert!(tables.iter().skip_while(|t| t.is_empty()).all(|t| t.len() == 1), "{tables:?}");

    let env: BTreeMap<_, _> =
        house.worker.inside().loaded.pop_first().unwrap().1.into_iter().collect();
    for (name, value) in [
        ("GREETING", "hello"),
        ("PORT", "5000"),
        ("BERTH_PROCESS", "web.1"),
        ("BERTH_RELEASE", "v2"),
    ] {
        assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
    }

    let mut told = house.reconciler.follow(id);
    let mut lines = Vec::new();
    while let Some(progress) = told.next().await {
        match progress {
            Progress::Line(line) => lines.push(line),
            Progress::Ended { state, error } => {
                assert_eq!((state, error), (DeploymentState::Done, None));
            }
            Progress::State(_) => {}
        }
    }
    assert_eq!(lines[0], "-----> Starting web.1");
    assert!(lines[1].starts_with("-----> web.1 is ready after "), "{lines:?}");
    assert_eq!(lines[2], "-----> Requests go to v2");
}

#[tokio::test]
async fn a_component_that_is_refused_fails_the_deployment_with_its_reason() {
    let house = House::new();
    let app = house.records.app("hello");
    let (_, first) = house.deploy(app).await;
    house.worker.inside().refuse = Some("it imports wasi:sockets".into());
    let (id, second) = house.deploy(app).await;
    assert_eq!(second.state, DeploymentState::Failed);
    let error = second.error.unwrap();
    assert_eq!(error, "web.1 could not be started: it imports wasi:sockets");
    assert_eq!(house.records.lock().apps[&app].current_release, Some(first.release));
    house.until_only(app, 1).await;
    let mut told = house.reconciler.follow(id);
    let mut last = None;
    while let Some(progress) = told.next().await {
        last = Some(progress);
    }
    assert_eq!(last, Some(Progress::Ended { state: DeploymentState::Failed, error: Some(error) }));
}

#[tokio::test]
async fn a_worker_that_started_again_is_told_again_under_the_same_ids() {
    let mut house = House::new();
    let app = house.records.app("hello");
    house.deploy(app).await;
    let loaded = house.worker.loaded();
    house.restart().await;
    house.worker.inside().loaded.clear();
    house.reconciler.wake(app);
    tokio::time::timeout(Duration::from_secs(10), async {
        while house.worker.loaded() != loaded {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_deployment_goes_on_in_the_next_process_whenever_the_first_is_lost() {
    for state in
        [DeploymentState::Starting, DeploymentState::Switching, DeploymentState::Monitoring]
    {
        let mut house = House::new();
        let app = house.records.app("hello");
        let release = house.records.release(app, component(), &[]);
        let id = house.records.deploy(app, release);
        house.reconciler.wake(app);
        house.records.until("there", |s| s.deployments[&id].state >= state).await;
        house.restart().await;
        assert_eq!(house.records.until_ended(id).await.state, DeploymentState::Done, "{state:?}");
        house.until_only(app, 1).await;
        assert_eq!(house.worker.loaded().len(), 1);
    }
}

#[tokio::test]
async fn while_the_router_or_the_worker_is_away_nothing_is_lost_and_then_it_goes_on() {
    let house = House::new();
    let app = house.records.app("hello");
    house.deploy(app).await;
    house.worker.inside().is_away = true;
    house.records.lock().router_is_away = true;
    let release = house.records.release(app, component(), &[]);
    let id = house.records.deploy(app, release);
    house.reconciler.wake(app);
    house.worker.inside().is_away = false;
    house
        .records
        .until("switching", |s| s.deployments[&id].state == DeploymentState::Switching)
        .await;
    assert_eq!(house.worker.loaded().len(), 2, "the old one is kept");
    house.records.lock().router_is_away = false;
    assert_eq!(house.records.until_ended(id).await.state, DeploymentState::Done);
    house.until_only(app, 1).await;
}

#[tokio::test]
async fn a_task_that_panics_begins_anew_and_takes_the_app_where_it_should_be() {
    let house = House::new();
    let app = house.records.app("shop");
    house.worker.inside().panics = 2;
    let (_, deployment) = house.deploy(app).await;
    assert_eq!(deployment.state, DeploymentState::Done);
    assert_eq!(house.worker.inside().panics, 0);
    house.worker.inside().panics = 1;
    let (_, deployment) = house.deploy(app).await;
    assert_eq!(deployment.state, DeploymentState::Done);
    house.until_only(app, 1).await;
}

#[tokio::test]
async fn a_stop_empties_the_table_first_and_a_start_fills_it_again() {
    let house = House::new();
    let app = house.records.app("hello");
    house.deploy(app).await;
    for (stopped, count) in [(true, 0), (false, 1)] {
        house.records.lock().apps.get_mut(&app).unwrap().settings.stopped = stopped;
        house.reconciler.wake(app);
        house.until_only(app, count).await;
    }
    let restarts = |state: &mut records::State| {
        state.apps.get_mut(&app).unwrap().settings.restarts += 1;
    };
    let before = house.worker.loaded();
    restarts(&mut house.records.lock());
    house.reconciler.wake(app);
    house
        .records
        .until("replaced", |state| {
            state.router[&app].is_disjoint(&before) && state.router[&app].len() == 1
        })
        .await;
    house.until_only(app, 1).await;
}

#[tokio::test]
async fn what_is_loaded_and_belongs_to_nobody_is_unloaded_at_the_start() {
    let house = House::new();
    let stray = InstanceId::new(1, [1; 10]);
    house.worker.inside().loaded.insert(stray, vec![]);
    house.reconciler.start();
    tokio::time::timeout(Duration::from_secs(10), async {
        while !house.worker.loaded().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}
