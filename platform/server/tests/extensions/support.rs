//! A store, blobs and a registry in a folder that goes with them.

use std::fs::File;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_blobs::BlobStore;
use berth_container::Agent;
use berth_extensions::outbound::Outbound;
use berth_extensions::{AotCache, EngineKind, MacKey};
use berth_model::extension::{BreakerRules, Capabilities, DeliveryRules, ExtensionId};
use berth_model::plan::Change;
use berth_model::{App, Digest, Event};
use berth_store::{By, EventFilter, Extension, Order, Store, Visible};
use berthd::compiler::Compiler;
use berthd::extensions::{Choice, Denial, ExtensionError, ExtensionsConfig, Health, Registry};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::guests::scratch;

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) blobs: Arc<BlobStore>,
    pub(crate) registry: Registry,
    pub(crate) app: App,
    folder: Arc<tempfile::TempDir>,
}

/// Who decides in these tests.
pub(crate) fn by() -> By {
    By { name: "user:olga".to_owned(), ..By::system(now_ms()) }
}

pub(crate) fn now_ms() -> i64 {
    berthd::clock::now_ms()
}

/// Rules with waits that suit tests.
pub(crate) fn config() -> ExtensionsConfig {
    ExtensionsConfig {
        breaker: BreakerRules { rest_ms_min: 50, rest_ms_max: 50, ..BreakerRules::default() },
        delivery: DeliveryRules { wait_ms_min: 2, wait_ms_max: 4, ..DeliveryRules::default() },
        ..ExtensionsConfig::default()
    }
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

pub(crate) fn id(text: &str) -> ExtensionId {
    text.parse().unwrap()
}

/// The lines of a manifest below `[capabilities]`.
pub(crate) fn capabilities(lines: &str) -> Capabilities {
    toml::from_str(lines).unwrap()
}

/// Compiled code that the tests share.
pub(crate) fn cache() -> AotCache {
    let folder = scratch().join("aot-extensions");
    std::fs::create_dir_all(&folder).unwrap();
    AotCache::open(folder, MacKey::new([7; 32]), "test").unwrap()
}

/// Compiles a component, so that a registry finds its code.
pub(crate) async fn compile(component: &[u8]) {
    let bytes = component.to_vec();
    let cache = cache();
    let compiled = cache.code(EngineKind::Extensions, digest(component), |out| async move {
        let compile = move || {
            berth_extensions::compile(EngineKind::Extensions, &bytes[..], File::from(out))
                .map_err(|error| error.to_string())
        };
        tokio::task::spawn_blocking(compile).await.unwrap()
    });
    compiled.await.unwrap();
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(config()).await
    }

    pub(crate) async fn with(config: ExtensionsConfig) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.path().join("aot")).unwrap();
        let store = open(folder.path()).await;
        let team = store.default_team();
        let create = Change::Create { name: "hello".parse().unwrap(), team };
        let app = store.change(None, &create, None, &by()).await.unwrap().app;
        Self::over(folder, store, app, config, cache()).await
    }

    async fn over(
        folder: Arc<tempfile::TempDir>,
        store: Store,
        app: App,
        config: ExtensionsConfig,
        cache: AotCache,
    ) -> Self {
        let blobs = Arc::new(BlobStore::open(folder.path().join("blobs")).unwrap());
        // Where no agent answers, what was not compiled before is not compiled.
        let agent = Agent::at(folder.path().join("agent.sock"));
        let compiler = Compiler::new(agent, Arc::new(cache), Arc::clone(&blobs));
        let outbound = Arc::new(Outbound::new(None));
        let registry = Registry::new(store.clone(), compiler, outbound, config).unwrap();
        registry.load().await.unwrap();
        Self { store, blobs, registry, app, folder }
    }

    /// What the next process finds.
    pub(crate) async fn again(&self) -> Self {
        let store = open(self.folder.path()).await;
        Self::over(Arc::clone(&self.folder), store, self.app.clone(), config(), cache()).await
    }

    /// What a next process finds that has no compiled code and cannot compile.
    pub(crate) async fn again_without_code(&self) -> Self {
        let store = open(self.folder.path()).await;
        let aot = self.folder.path().join("aot");
        let cache = AotCache::open(aot, MacKey::new([8; 32]), "other").unwrap();
        Self::over(Arc::clone(&self.folder), store, self.app.clone(), config(), cache).await
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Another app.
    pub(crate) async fn app(&self, name: &str) -> App {
        let team = self.store.default_team();
        let create = Change::Create { name: name.parse().unwrap(), team };
        self.store.change(None, &create, None, &by()).await.unwrap().app
    }

    /// Compiles and installs.
    pub(crate) async fn try_install(
        &self,
        component: &[u8],
        choice: Choice,
    ) -> Result<(Extension, bool), ExtensionError> {
        compile(component).await;
        self.registry.install(component.to_vec(), choice, by()).await
    }

    /// Installs with all that it asks for, as somebody does who reviewed it.
    pub(crate) async fn install(&self, component: &[u8], config: Value) -> Extension {
        let review = self.registry.review(component.to_vec()).await.unwrap();
        let choice =
            Choice { accept: Some(review.hash), config: Some(config), ..Choice::default() };
        let (row, live) = self.try_install(component, choice).await.unwrap();
        assert!(live);
        row
    }

    /// Has the hook do something; gives what it says.
    pub(crate) async fn hook(&self, payload: Value) -> String {
        match self.registry.before("before.build", &self.app, payload).await {
            Ok(()) => "nothing".to_owned(),
            Err(denial) => denial.reason,
        }
    }

    /// What policies say of a change of the app.
    pub(crate) async fn judge(&self, change: &Change) -> Result<Vec<String>, Denial> {
        self.judge_as(change, &by()).await
    }

    pub(crate) async fn judge_as(&self, change: &Change, by: &By) -> Result<Vec<String>, Denial> {
        let plan = self.store.plan(Some(self.app.id), change).await.unwrap();
        assert!(!plan.is_empty());
        self.registry.judge(Some(&self.app), change, &plan, by).await
    }

    pub(crate) fn health(&self, name: &str) -> Health {
        self.registry.health(&id(name)).unwrap()
    }

    pub(crate) async fn log(&self, name: &str) -> Vec<String> {
        let lines = self.store.extension_lines(&id(name), None, 2_000).await.unwrap();
        lines.into_iter().map(|line| line.line).collect()
    }

    /// Waits for a line of an extension's log that contains a text; gives the log.
    pub(crate) async fn logged(&self, name: &str, text: &str) -> Vec<String> {
        eventually(&format!("a line with '{text}'"), async || {
            let log = self.log(name).await;
            log.iter().any(|line| line.contains(text)).then_some(log)
        })
        .await
    }

    pub(crate) async fn events(&self, kind: &str) -> Vec<Event> {
        let all = EventFilter::all(Visible::All);
        let events = self.store.events(&all, Order::OldestAfter(0), 10_000).await.unwrap();
        events.into_iter().filter(|event| event.kind == kind).collect()
    }

    /// Waits for an event of a kind.
    pub(crate) async fn event(&self, kind: &str) -> Event {
        eventually(kind, async || self.events(kind).await.pop()).await
    }
}

async fn open(folder: &Path) -> Store {
    Store::open(&folder.join("berth.sqlite"), &[7; 32], "localhost").await.unwrap()
}

/// A change of an app that policies are asked about.
pub(crate) fn configure(name: &str) -> Change {
    let set = [(name.parse().unwrap(), berth_model::plan::Secret::new("value"))].into();
    Change::Configure { set, unset: Default::default(), release: false }
}

/// The configuration of a guest.
pub(crate) fn does(what: &str) -> Value {
    json!({ "do": what })
}

/// Waits until something is there; what it waits for has no event of its own.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
}

/// Fails a test that would hang.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), work).await {
        Ok(value) => value,
        Err(_) => panic!("not within 20 s: {what}"),
    }
}

/// A release of an app that has none yet.
pub(crate) fn deploy() -> Change {
    let process = berth_model::Process {
        command: vec!["web".to_owned()],
        working_dir: "/workspace".to_owned(),
        check: None,
    };
    let manifest = berth_model::Manifest {
        processes: [("web".parse().unwrap(), process)].into(),
        release: None,
        runtime: berth_model::Runtime::Container,
        formation: Default::default(),
        wasm: berth_model::manifest::WasmSettings::default(),
    };
    let image = Digest::from_sha256([1; 32]);
    Change::Deploy { image, manifest: Box::new(manifest), commit: "01".repeat(20) }
}
