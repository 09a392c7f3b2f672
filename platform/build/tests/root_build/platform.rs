//! A data folder with a real agent, both stacks and the built-in buildpacks.
//!
//! Making the stacks takes minutes, so the folder stays between runs, keyed by the list of their
//! packages; a test has it to itself. What a test makes in it is gone with the test.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_blobs::BlobStore;
use berth_blobs::tar::{Attributes, Rules, Tree};
use berth_build::proxy::{Bounds, Policy, Proxy, Reach};
use berth_build::{BuildError, Builder, Inventory, Loaded, Outcome, Settings, Stack, StackSource};
use berth_container::{Agent, Reply, Request, Stack as Part};
use berth_extensions::buildpack::Buildpacks;
use berth_extensions::{AotCache, EngineKind, MacKey};
use berth_model::*;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

/// What the stacks are made of; another list makes another folder.
const PACKAGES: &str = include_str!("../../../agent/src/stack/packages.rs");
const BUILDPACKS: [&str; 5] = ["node", "procfile", "python", "static", "wasm"];
pub(crate) const COMMIT_TIME_S: i64 = 1_700_000_000;

pub(crate) struct Platform {
    _lock: File,
    child: Child,
    pub(crate) agent: Agent,
    pub(crate) blobs: BlobStore,
    pub(crate) builder: Builder,
    pub(crate) stack: Stack,
    ids: AtomicU64,
}

/// What a build said and gave.
pub(crate) struct Built {
    pub(crate) lines: Vec<String>,
    pub(crate) result: Result<Outcome, BuildError>,
}

impl Built {
    pub(crate) fn log(&self) -> String {
        self.lines.join("\n")
    }

    pub(crate) fn outcome(&self) -> &Outcome {
        match &self.result {
            Ok(outcome) => outcome,
            Err(error) => panic!(
                "{error} {:?}\n{}",
                std::error::Error::source(error).map(ToString::to_string),
                self.log()
            ),
        }
    }

    pub(crate) fn error(&self) -> String {
        match &self.result {
            Ok(_) => panic!("the build succeeded:\n{}", self.log()),
            Err(error) => error.to_string(),
        }
    }
}

struct NoStack;

#[async_trait::async_trait]
impl StackSource for NoStack {
    fn known(&self) -> Option<Stack> {
        None
    }

    async fn need(&self) -> Result<Stack, String> {
        Err("the stack cannot be made here".to_owned())
    }
}

/// An app that is built again and again.
pub(crate) struct App {
    pub(crate) id: AppId,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) restored: Option<String>,
}

fn programs() -> PathBuf {
    match std::env::var_os("BERTH_PROGRAMS") {
        Some(folder) => PathBuf::from(folder),
        // The test binary lies in TARGET/debug/deps, the programs in TARGET/berth.
        None => std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("berth"),
    }
}

impl Platform {
    pub(crate) async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    pub(crate) async fn start_with(settings: Settings) -> Self {
        let sum = hex::encode(&Sha256::digest(PACKAGES)[..6]);
        let data = Path::new("/var/lib/berth-test").join(format!("build-{sum}"));
        fs::create_dir_all(&data).expect("tests that make containers need root");
        let lock = File::create(data.join("test.lock")).unwrap();
        tokio::task::block_in_place(|| flock(&lock, FlockOperation::LockExclusive).unwrap());
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
        remove_others(&data);
        let id = id(&data);
        let bin = data.join("bin/test");
        let _gone = fs::remove_dir_all(&bin);
        fs::create_dir_all(&bin).unwrap();
        for program in ["berth-agent", "berth-init"] {
            let from = programs().join(program);
            fs::copy(&from, bin.join(program)).unwrap_or_else(|error| {
                panic!("{}: {error}; cargo xtask builds it", from.display())
            });
        }
        let child = serve(&data, &bin);
        let agent = Agent::at(format!("/run/berth/{id}/agent.sock"));
        stop_all(&agent).await;
        let blobs = BlobStore::open(data.join("blobs")).unwrap();
        let mut stacks = Vec::new();
        for (stack, name) in [(Part::Debian12Run, "run"), (Part::Debian12Build, "build")] {
            stacks.push(vec![make(&agent, &blobs, &data, stack, name).await]);
        }
        collect(&agent, &blobs, &stacks).await;
        let buildpacks = buildpacks(&data).await;
        let inventory = Inventory::load(None).unwrap();
        let builder = Builder::new(agent.clone(), blobs.clone(), buildpacks, inventory, settings);
        let build = stacks.pop().unwrap();
        let stack = Stack { run: stacks.pop().unwrap(), build };
        let ids = AtomicU64::new(
            u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis())
                .unwrap(),
        );
        Self { _lock: lock, child, agent, blobs, builder, stack, ids }
    }

    pub(crate) fn id<T>(&self, make: fn(u64, [u8; 10]) -> T) -> T {
        make(self.ids.fetch_add(1, Ordering::Relaxed), [7; 10])
    }

    /// An app whose build caches stay from test to test, so that registries are spared.
    pub(crate) fn app(&self) -> App {
        App { id: warm(), config: BTreeMap::new(), restored: None }
    }

    /// An app that was never built.
    pub(crate) fn fresh_app(&self) -> App {
        App { id: self.id(AppId::new), config: BTreeMap::new(), restored: None }
    }

    /// Builds files and, where it succeeds, keeps what the next build of the app may use.
    pub(crate) async fn build(&self, app: &mut App, files: &Source) -> Built {
        self.build_watched(app, files, CancellationToken::new(), |_| {}).await
    }

    pub(crate) async fn build_watched(
        &self,
        app: &mut App,
        files: &Source,
        cancel: CancellationToken,
        watch: impl Fn(&str) + Send + Sync + 'static,
    ) -> Built {
        self.build_on(Arc::new(self.stack.clone()), app, files, cancel, watch).await
    }

    /// Builds where no stack was made yet, and none can be.
    pub(crate) async fn build_without_stack(&self, app: &mut App, files: &Source) -> Built {
        self.build_on(Arc::new(NoStack), app, files, CancellationToken::new(), |_| {}).await
    }

    async fn build_on(
        &self,
        stack: Arc<dyn StackSource>,
        app: &mut App,
        files: &Source,
        cancel: CancellationToken,
        watch: impl Fn(&str) + Send + Sync + 'static,
    ) -> Built {
        let request = berth_build::Request {
            build: self.id(BuildId::new),
            container: self.id(InstanceId::new),
            app: app.id,
            block: 7,
            source: berth_model::Source {
                app: app.id,
                commit: "c".repeat(40),
                tree: "t".repeat(40),
                committed_at_s: COMMIT_TIME_S,
                archive: files.store(&self.blobs),
            },
            config: app.config.clone(),
            restored: app.restored.clone(),
            stack,
        };
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let into = Arc::clone(&lines);
        let log = move |line: &str| {
            into.lock().unwrap().push(line.to_owned());
            watch(line);
        };
        let result = self.builder.build(request, Arc::new(log), cancel).await;
        if let Ok(outcome) = &result {
            app.restored = Some(outcome.restored.clone());
        }
        let lines = lines.lock().unwrap().clone();
        Built { lines, result }
    }

    /// No container of any build is left.
    pub(crate) async fn assert_clean(&self) {
        let (reply, _) = self.agent.call(&Request::List, &[]).await.unwrap();
        let Reply::Instances { instances } = reply else { panic!("{reply:?}") };
        assert!(instances.is_empty(), "{instances:?}");
    }

    /// Ends the agent and everything of it.
    pub(crate) async fn stop(mut self) {
        self.assert_clean().await;
        let _down = self.agent.call(&Request::Down { grace_ms: 1000 }, &[]).await;
        let _status = self.child.wait();
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

fn id(data: &Path) -> String {
    let file = data.join("id");
    if let Ok(id) = fs::read_to_string(&file) {
        return id.trim().to_owned();
    }
    let mut random = [0; 8];
    File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
    let id = hex::encode(random);
    fs::write(file, &id).unwrap();
    id
}

fn serve(data: &Path, bin: &Path) -> Child {
    let mut child = Command::new(bin.join("berth-agent"))
        .args(["serve", "--data"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "the agent did not start; see {}/agent.log", data.display());
    child
}

fn warm() -> AppId {
    AppId::new(1, [7; 10])
}

/// Takes away what earlier tests built.
async fn collect(agent: &Agent, blobs: &BlobStore, stacks: &[Vec<LayerRef>]) {
    let layers: Vec<Digest> = stacks.iter().flatten().map(|layer| layer.diff_id).collect();
    blobs.gc(&layers.iter().copied().collect(), Duration::ZERO).unwrap();
    let live = berth_container::Live { layers, instances: Vec::new(), apps: vec![warm()] };
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &serde_json::to_vec(&live).unwrap()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    agent.call(&Request::Gc, &[file.into()]).await.unwrap();
}

/// Folders of other lists of packages: nobody needs them any more.
fn remove_others(data: &Path) {
    for entry in fs::read_dir(data.parent().unwrap()).unwrap().flatten() {
        let path = entry.path();
        let ours = entry.file_name().to_string_lossy().starts_with("build-") && path != data;
        let Some(lock) = ours.then(|| File::open(path.join("test.lock")).ok()).flatten() else {
            continue;
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _left = fs::remove_dir_all(&path);
        }
    }
}

/// Whatever a test left that did not come to its end.
async fn stop_all(agent: &Agent) {
    let (reply, _) = agent.call(&Request::List, &[]).await.unwrap();
    let Reply::Instances { instances } = reply else { panic!("{reply:?}") };
    for left in instances {
        agent.call(&Request::Stop { instance: left.instance, grace_ms: 0 }, &[]).await.unwrap();
    }
}

/// A stack, made at the first run.
async fn make(agent: &Agent, blobs: &BlobStore, data: &Path, stack: Part, name: &str) -> LayerRef {
    let known = data.join(format!("stack-{name}"));
    if let Ok(text) = fs::read_to_string(&known) {
        let diff_id: Digest = text.trim().parse().unwrap();
        if let Ok(bytes) = blobs.len(&diff_id) {
            return LayerRef { diff_id, bytes, name: "stack".to_owned() };
        }
    }
    let (tar, tar_out) = std::io::pipe().unwrap();
    let (lines, lines_out) = std::io::pipe().unwrap();
    let storing = {
        let blobs = blobs.clone();
        tokio::task::spawn_blocking(move || blobs.put(tar, 4 << 30).unwrap())
    };
    let telling = tokio::task::spawn_blocking(move || {
        BufReader::new(lines)
            .lines()
            .map_while(Result::ok)
            .for_each(|line| eprintln!("stack: {line}"));
    });
    let descriptors = [OwnedFd::from(tar_out), OwnedFd::from(lines_out)];
    let mut session = agent.session(&Request::Stack { stack }, &descriptors).await.unwrap();
    drop(descriptors);
    let mut proxy = None;
    loop {
        match session.reply().await.unwrap() {
            (Reply::Attached {}, sockets) => {
                let listener = TcpListener::from(sockets.into_iter().next().unwrap());
                let served = Proxy::serve(
                    listener,
                    Arc::new(Policy::default()),
                    Bounds::default(),
                    Arc::new(|line: &str| eprintln!("{line}")),
                )
                .unwrap();
                served.allow(Reach::of(&["debian".to_owned()]));
                proxy = Some(served);
            }
            (Reply::Done {}, _) => break,
            (other, _) => panic!("{other:?}"),
        }
    }
    drop(proxy);
    telling.await.unwrap();
    let (diff_id, bytes) = storing.await.unwrap();
    fs::write(known, diff_id.to_string()).unwrap();
    LayerRef { diff_id, bytes, name: "stack".to_owned() }
}

async fn buildpacks(data: &Path) -> Vec<Loaded> {
    let aot = data.join("aot");
    fs::create_dir_all(&aot).unwrap();
    let cache = AotCache::open(&aot, MacKey::new([9; 32]), "test").unwrap();
    let engine = Buildpacks::new().unwrap();
    let mut loaded = Vec::new();
    for id in BUILDPACKS {
        let file = programs().join(format!("buildpacks/{id}.wasm"));
        let bytes = fs::read(&file)
            .unwrap_or_else(|error| panic!("{}: {error}; cargo xtask builds it", file.display()));
        let digest = Digest::from_sha256(Sha256::digest(&bytes).into());
        let code = cache
            .code(EngineKind::Extensions, digest, |out| async move {
                tokio::task::spawn_blocking(move || {
                    berth_extensions::compile(
                        EngineKind::Extensions,
                        bytes.as_slice(),
                        File::from(out),
                    )
                })
                .await
                .unwrap()
            })
            .await
            .unwrap();
        loaded.push(Loaded {
            id: id.to_owned(),
            digest,
            component: Arc::new(engine.load(&code).unwrap()),
        });
    }
    loaded
}

/// Files of a commit.
#[derive(Clone, Default)]
pub(crate) struct Source(BTreeMap<String, (Vec<u8>, bool)>);

impl Source {
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        files.iter().fold(Self::default(), |source, (path, text)| source.with(path, text))
    }

    /// One of the sample apps.
    pub(crate) fn sample(name: &str) -> Self {
        Self::folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/apps").join(name))
    }

    /// Every file of a folder.
    pub(crate) fn folder(root: &Path) -> Self {
        let mut source = Self::default();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                    source.0.insert(name, (fs::read(&path).unwrap(), false));
                }
            }
        }
        source
    }

    pub(crate) fn with(mut self, path: &str, text: &str) -> Self {
        self.0.insert(path.to_owned(), (text.as_bytes().to_vec(), false));
        self
    }

    pub(crate) fn with_bytes(mut self, path: &str, bytes: Vec<u8>) -> Self {
        self.0.insert(path.to_owned(), (bytes, false));
        self
    }

    /// A file with a part of its text replaced.
    pub(crate) fn edit(mut self, path: &str, from: &str, to: &str) -> Self {
        let (bytes, _) = self.0.get_mut(path).unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.contains(from), "{path} has no '{from}'");
        *bytes = text.replace(from, to).into_bytes();
        self
    }

    fn store(&self, blobs: &BlobStore) -> Digest {
        let mut tree = Tree::new();
        for (path, (bytes, executable)) in &self.0 {
            let attributes = if *executable { Attributes::EXECUTABLE } else { Attributes::PLAIN };
            tree.file(path.as_bytes(), attributes, bytes.len() as u64, bytes.clone()).unwrap();
        }
        let (tar, _) =
            tree.write(Vec::new(), Rules::App, |bytes| Ok(std::io::Cursor::new(bytes))).unwrap();
        blobs.put(tar.as_slice(), 1 << 30).unwrap().0
    }
}
