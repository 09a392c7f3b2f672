//! A store, an app whose log is a real file, and the drains of both.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_container::Agent;
use berth_container::logfile::{LogLimits, LogWriter};
use berth_model::drain::Reach;
use berth_model::image::Image;
use berth_model::log::LogStream;
use berth_model::plan::Change;
use berth_model::{
    App, Digest, DrainId, InstanceId, InstanceRecord, InstanceRole, InstanceState, LayerRef,
    Manifest, Process, Runtime, TargetAddress,
};
use berth_store::{BuildEnd, By, Drain, NewDrain, Store};
use berthd::clock::now_ms;
use berthd::drains::{DrainState, Drains, NoProcessors};
use berthd::logs::Logs;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) app: App,
    pub(crate) instance: InstanceRecord,
    pub(crate) writer: LogWriter,
    drains: Option<(Drains, CancellationToken, JoinHandle<()>)>,
}

/// Asks again and again until there is an answer.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: not in {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A port that nobody has.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn by() -> By {
    By::system(now_ms())
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(LogLimits::default()).await
    }

    pub(crate) async fn with(limits: LogLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("db"), &[7; 32], "localhost").await.unwrap();
        let (app, instance) = deployed(&store).await;
        let own = folder.path().join("wasm").join(instance.id.to_string());
        std::fs::create_dir_all(&own).unwrap();
        let writer = LogWriter::open(&own, limits).unwrap();
        Self { folder, store, app, instance, writer, drains: None }
    }

    pub(crate) async fn add(&self, url: &str, ca: Option<&str>) -> Drain {
        self.add_with(url, ca, Reach::Any).await
    }

    pub(crate) async fn add_with(&self, url: &str, ca: Option<&str>, reach: Reach) -> Drain {
        let new = NewDrain {
            app: Some(self.app.id),
            url: url.parse().unwrap(),
            ca: ca.map(str::to_owned),
            reach,
            processors: Vec::new(),
        };
        self.store.create_drain(&new, &by()).await.unwrap().unwrap()
    }

    pub(crate) fn write(&mut self, line: &str) {
        self.write_as(LogStream::Stdout, line);
    }

    pub(crate) fn write_as(&mut self, stream: LogStream, line: &str) {
        self.writer.line(1, stream, now_ms() * 1_000_000, line.as_bytes(), false);
    }

    /// Starts the drains, as a platform does.
    pub(crate) fn start(&mut self) {
        let agent = Agent::at(self.folder.path().join("no-agent"));
        let logs = Logs::new(self.store.clone(), agent, self.folder.path().join("wasm"));
        let drains = Drains::new(self.store.clone(), logs, Arc::new(NoProcessors), None);
        let end = CancellationToken::new();
        let task = tokio::spawn(drains.clone().run(end.clone()));
        self.drains = Some((drains, end, task));
    }

    /// Ends them, as SIGTERM does.
    pub(crate) async fn stop(&mut self) {
        let (_, end, task) = self.drains.take().unwrap();
        end.cancel();
        task.await.unwrap();
    }

    pub(crate) fn state(&self, id: DrainId) -> Option<DrainState> {
        self.drains.as_ref().unwrap().0.state(id)
    }

    /// Waits until the drain counts so many messages as taken.
    pub(crate) async fn sent(&self, id: DrainId, count: u64) -> Drain {
        until("lines are taken", || async {
            let drain = self.store.drain(id).await.unwrap().unwrap();
            (drain.counts.sent >= count).then_some(drain)
        })
        .await
    }

    /// Waits until the drain says what fails.
    pub(crate) async fn error(&self, id: DrainId) -> String {
        until("an error", || async { self.state(id)?.error }).await
    }
}

/// An app with a release and one instance.
async fn deployed(store: &Store) -> (App, InstanceRecord) {
    let change = Change::Create { name: "shop".parse().unwrap(), team: store.default_team() };
    let app = store.change(None, &change, None, &by()).await.unwrap().app;
    let digest = Digest::from_sha256([1; 32]);
    let process =
        Process { command: vec!["serve".into()], working_dir: "/workspace".into(), check: None };
    let manifest = Manifest {
        processes: [("web".parse().unwrap(), process)].into(),
        release: None,
        runtime: Runtime::Container,
        formation: Default::default(),
        wasm: Default::default(),
    };
    let image = Image {
        digest,
        layers: vec![LayerRef { diff_id: digest, bytes: 1, name: "app".into() }],
        env: Default::default(),
        manifest: manifest.clone(),
    };
    let build = store.create_build(app.id, &"1".repeat(40), digest, None, &by()).await.unwrap();
    let end = BuildEnd::Succeeded { image: &image, layers: None, memo: None };
    store.finish_build(build.id, end, &by()).await.unwrap();
    let deploy =
        Change::Deploy { image: digest, manifest: Box::new(manifest), commit: "1".repeat(40) };
    let done = store.change(Some(app.id), &deploy, None, &by()).await.unwrap();
    let release = done.release.unwrap();
    let instance = InstanceRecord {
        id: InstanceId::new(1, [1; 10]),
        app: app.id,
        release: release.id,
        deployment: None,
        process: "web".parse().unwrap(),
        slot: 1,
        role: InstanceRole::Instance,
        restarts: 0,
        state: InstanceState::Ready,
        address: Some(TargetAddress::Wasm),
        answering: None,
        exit_code: None,
        error: None,
        created_at_ms: 1,
        ready_at_ms: None,
        draining_at_ms: None,
        stopped_at_ms: None,
    };
    store.put_instance(&instance, &by()).await.unwrap();
    (app, instance)
}

/// The lines of a file that is there, or none.
pub(crate) fn lines_of(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
