//! Builds the guests and compiles them.

use std::fs::File;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use berth_extensions::{AotCache, Code, EngineKind, LogSink, MacKey, compile};
use berth_model::log::LogStream;
use berth_model::{AppId, Digest, InstanceId};
use sha2::{Digest as _, Sha256};

/// The component of a guest crate, built for wasm32-wasip2.
pub(crate) fn guest(name: &str) -> Vec<u8> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| build("tests/guests"));
    std::fs::read(folder.join(format!("{name}.wasm"))).unwrap()
}

/// The sample app that users find in the repository.
pub(crate) fn sample() -> Vec<u8> {
    std::fs::read(build("../../tests/apps/wasm-hello").join("wasm_hello.wasm")).unwrap()
}

/// An extension that ships with Berth, and its manifest.
pub(crate) fn plugin(name: &str) -> (Vec<u8>, String) {
    let workspace = "../../plugins";
    let folder = build_only(workspace, &["-p", &format!("berth-plugin-{name}")]);
    let file = format!("berth_plugin_{}.wasm", name.replace('-', "_"));
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(workspace).join(name);
    let manifest = std::fs::read_to_string(own.join("extension.toml")).unwrap();
    (std::fs::read(folder.join(file)).unwrap(), manifest)
}

fn build(workspace: &str) -> PathBuf {
    build_only(workspace, &[])
}

fn build_only(workspace: &str, only: &[&str]) -> PathBuf {
    let target = scratch().join("guests");
    let status = Command::new(env!("CARGO"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(workspace))
        .args(["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2"])
        .args(only)
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .status()
        .unwrap();
    assert!(status.success(), "{workspace} was not built; is the target wasm32-wasip2 there?");
    target.join("wasm32-wasip2/release")
}

/// A folder that outlives the test, below the target folder.
pub(crate) fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// Compiles in this process, as `berthd compile` does in a child.
pub(crate) async fn compile_to(
    kind: EngineKind,
    wasm: Vec<u8>,
    out: OwnedFd,
) -> Result<(), String> {
    tokio::task::spawn_blocking(move || {
        compile(kind, wasm.as_slice(), File::from(out)).map_err(|error| error.to_string())
    })
    .await
    .unwrap()
}

/// The compiled form of a component, from a cache that the tests share.
pub(crate) async fn code(kind: EngineKind, wasm: Vec<u8>) -> Code {
    static CACHE: OnceLock<AotCache> = OnceLock::new();
    let cache = CACHE.get_or_init(|| {
        let folder = scratch().join("aot");
        std::fs::create_dir_all(&folder).unwrap();
        AotCache::open(folder, MacKey::new([7; 32]), "test").unwrap()
    });
    cache.code(kind, digest(&wasm), |out| compile_to(kind, wasm, out)).await.unwrap()
}

/// An id that no other test has.
pub(crate) fn instance(number: u64) -> InstanceId {
    InstanceId::new(number, [1; 10])
}

/// Whose instances they are.
pub(crate) fn app() -> AppId {
    AppId::new(1, [1; 10])
}

/// The app that uses its powers as its requests say.
pub(crate) fn powers() -> Vec<u8> {
    std::fs::read(build("../../tests/apps/wasm-powers").join("wasm_powers.wasm")).unwrap()
}

/// Keeps what apps write.
#[derive(Default, Clone)]
pub(crate) struct Log {
    pub(crate) lines: Arc<Mutex<Vec<(LogStream, String)>>>,
}

impl LogSink for Log {
    fn line(&self, _: InstanceId, stream: LogStream, line: &str, _: bool) {
        self.lines.lock().unwrap().push((stream, line.to_owned()));
    }
}

impl Log {
    pub(crate) fn of(&self, stream: LogStream) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|(of, _)| *of == stream).map(|(_, line)| line.clone()).collect()
    }
}

/// Waits until something holds; what it waits for has no event of its own.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(what, waited).await;
}

/// Fails a test that would hang.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), work).await {
        Ok(value) => value,
        Err(_) => panic!("not within 20 s: {what}"),
    }
}
