//! Makes components of the guests' texts, and compiles them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use berth_extensions::{AotCache, Code, EngineKind, MacKey, compile};
use berth_model::Digest;
use sha2::{Digest as _, Sha256};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The WIT packages, each after those that it uses.
const PACKAGES: [&str; 13] = [
    "types", "log", "config", "kv", "secrets", "http-out", "counters", "events", "clock",
    "metrics", "hook", "policy", "console",
];

/// `tests/guests`.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests")
}

fn text(path: &str) -> String {
    let path = folder().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The component of `KIND/NAME`: its text in the frame of its kind.
pub(crate) fn guest(name: &str) -> Vec<u8> {
    let (kind, _) = name.split_once('/').unwrap();
    let own = text(&format!("{name}.wat"));
    let world = if own.contains("[resource-new]") { "hook-with-resource" } else { kind };
    framed(kind, world, &own)
}

/// A component of a kind whose attack is this text.
pub(crate) fn framed(kind: &str, world: &str, own: &str) -> Vec<u8> {
    let mut module = format!("(module {own}\n{}", text(&format!("frame/{kind}.wat")));
    for (part, told) in [("memory", "(export \"memory\")"), ("realloc", "cabi_realloc")] {
        if !own.contains(told) {
            module += &text(&format!("frame/{part}.wat"));
        }
    }
    let mut module = wat::parse_str(module + ")").unwrap();
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    for package in PACKAGES.into_iter().chain(["log-processor"]) {
        resolve.push_dir(wit.join(package)).unwrap();
    }
    let worlds = resolve.push_str("worlds.wit", &text("frame/worlds.wit")).unwrap();
    let world = resolve.select_world(&[worlds], Some(world)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

/// The hook in ordinary Rust, built for wasm32-wasip2.
pub(crate) fn ordinary() -> Vec<u8> {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    let build = || {
        let target = scratch().join("guests");
        let status = std::process::Command::new(env!("CARGO"))
            .current_dir(folder().join("ordinary"))
            .args(["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2"])
            .env("CARGO_TARGET_DIR", &target)
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("RUSTFLAGS")
            .status()
            .unwrap();
        assert!(status.success(), "ordinary was not built; is the target wasm32-wasip2 there?");
        std::fs::read(target.join("wasm32-wasip2/release/guest_ordinary.wasm")).unwrap()
    };
    BUILT.get_or_init(build).clone()
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// A folder that outlives the test, below the target folder.
pub(crate) fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// The compiled form of a component, from a cache that the tests share.
pub(crate) async fn code(wasm: Vec<u8>) -> Code {
    static CACHE: OnceLock<AotCache> = OnceLock::new();
    let cache = CACHE.get_or_init(|| {
        let folder = scratch().join("aot");
        std::fs::create_dir_all(&folder).unwrap();
        AotCache::open(folder, MacKey::new([7; 32]), "test").unwrap()
    });
    let compiled = cache.code(EngineKind::Extensions, digest(&wasm), async |out| {
        let out = std::fs::File::from(out);
        let compiled = tokio::task::spawn_blocking(move || {
            compile(EngineKind::Extensions, wasm.as_slice(), out)
        });
        compiled.await.unwrap()
    });
    compiled.await.unwrap()
}
