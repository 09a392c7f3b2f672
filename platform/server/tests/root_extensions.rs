//! Extensions are compiled by the agent's bounded child. Needs root and the programs that
//! `cargo xtask build` lays out.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "extensions/guests.rs"]
#[expect(dead_code, reason = "the tests of extensions use the rest of it")]
mod guests;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use berth_blobs::BlobStore;
use berth_container::{Agent, Request};
use berth_extensions::outbound::Outbound;
use berth_extensions::{AotCache, MacKey};
use berth_store::{By, Store};
use berthd::compiler::Compiler;
use berthd::extensions::{Choice, ExtensionError, ExtensionsConfig, Registry};
use guests::with_manifest;
use serde_json::json;

/// A data folder with an agent; taken down when it is dropped, also after a failure.
struct Host {
    data: tempfile::TempDir,
    id: String,
    child: Child,
    agent: Agent,
}

fn programs() -> PathBuf {
    match std::env::var_os("BERTH_PROGRAMS") {
        Some(folder) => PathBuf::from(folder),
        // The test binary lies in TARGET/debug/deps, the programs in TARGET/berth.
        None => std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("berth"),
    }
}

impl Host {
    fn start() -> Self {
        let parent = Path::new("/var/lib/berth-test");
        std::fs::create_dir_all(parent).expect("tests that make containers need root");
        let data = tempfile::Builder::new().prefix("extensions-").tempdir_in(parent).unwrap();
        std::fs::set_permissions(data.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let mut random = [0; 8];
        std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(data.path().join("id"), &id).unwrap();
        let bin = data.path().join("bin/test");
        std::fs::create_dir_all(&bin).unwrap();
        for program in ["berth-agent", "berth-init", "berthd"] {
            let from = programs().join(program);
            std::fs::copy(&from, bin.join(program)).unwrap_or_else(|error| {
                panic!("{}: {error}; cargo xtask builds it", from.display())
            });
        }
        let mut child = Command::new(bin.join("berth-agent"))
            .args(["serve", "--data"])
            .arg(data.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let agent = Agent::at(format!("/run/berth/{id}/agent.sock"));
        Self { data, id, child, agent }
    }

    async fn registry(&self) -> Registry {
        let root = self.data.path();
        let store = Store::open(&root.join("berth.sqlite"), &[7; 32], "localhost").await.unwrap();
        std::fs::create_dir_all(root.join("aot")).unwrap();
        let cache = AotCache::open(root.join("aot"), MacKey::new([7; 32]), "test").unwrap();
        let blobs = Arc::new(BlobStore::open(root.join("blobs")).unwrap());
        let compiler = Compiler::new(self.agent.clone(), Arc::new(cache), blobs);
        let outbound = Arc::new(Outbound::new(None));
        let registry =
            Registry::new(store, compiler, outbound, ExtensionsConfig::default()).unwrap();
        registry.load().await.unwrap();
        registry
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let agent = self.agent.clone();
        let down = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let down = Request::Down { grace_ms: 100 };
                let call = agent.call(&down, &[]);
                tokio::time::timeout(Duration::from_secs(20), call).await.map(drop)
            })?;
            std::io::Result::Ok(())
        });
        let _ = down.join();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(Path::new("/run/berth").join(&self.id));
    }
}

fn by() -> By {
    By::system(berthd::clock::now_ms())
}

#[tokio::test]
async fn an_extension_that_ships_is_compiled_by_the_child_and_judges() {
    let host = Host::start();
    let registry = host.registry().await;
    let component = std::fs::read(programs().join("plugins/instance-rules.wasm")).unwrap();
    let config = Some(json!({ "memory-mib-max": 64 }));
    let choice = Choice { config, ..Choice::default() };
    let (row, live) = registry.install(component, choice, by()).await.unwrap();
    assert!(live);
    assert_eq!(registry.health(&row.id).unwrap().broken, None);
    // Compiled once: the next process has it without a compiler.
    let compiled = std::fs::read_dir(host.data.path().join("aot")).unwrap().count();
    assert_eq!(compiled, 1);
    let next = host.registry().await;
    assert_eq!(next.health(&row.id).unwrap().broken, None);
}

#[tokio::test]
async fn what_the_compiler_refuses_is_told_and_nothing_is_installed() {
    let host = Host::start();
    let registry = host.registry().await;
    let shipped = std::fs::read(programs().join("plugins/instance-rules.wasm")).unwrap();
    // Its outside is well, and one of its functions is not: only the compiler reads those.
    let broken = spoiled(shipped);
    let refused = registry.install(broken, Choice::default(), by()).await.unwrap_err();
    assert!(matches!(refused, ExtensionError::Compile(_)), "{refused}");
    assert!(refused.to_string().contains("was not compiled: "), "{refused}");
}

/// The guest `file/compile-bomb`.
#[tokio::test]
async fn a_component_that_takes_too_much_memory_to_compile_is_refused_and_the_next_is_installed() {
    let host = Host::start();
    let registry = host.registry().await;
    let accept = Some(registry.review(bomb()).await.unwrap().hash);
    let choice = Choice { accept, ..Choice::default() };
    let refused = registry.install(bomb(), choice, by()).await.unwrap_err();
    assert!(matches!(refused, ExtensionError::Compile(_)), "{refused}");
    assert!(refused.to_string().contains("more memory to compile"), "{refused}");
    // Nothing of it is left in the cache.
    assert_eq!(std::fs::read_dir(host.data.path().join("aot")).unwrap().count(), 0);
    let component = std::fs::read(programs().join("plugins/instance-rules.wasm")).unwrap();
    let config = Some(json!({ "memory-mib-max": 64 }));
    let choice = Choice { config, ..Choice::default() };
    assert!(registry.install(component, choice, by()).await.unwrap().1);
}

/// A small hook with a thousand loops in one another and five thousand variables that each of them
/// may change: the compiler keeps track of five million values.
fn bomb() -> Vec<u8> {
    const LOOPS: usize = 1_000;
    const LOCALS: usize = 5_000;
    let step = |n: usize| format!("local.get {n} local.get 0 i32.add local.set {n} ");
    let module = format!(
        "(component (core module $m (func (param i32) (local {}) {} {} {}))
         (instance $i) (export \"berth:hook/handler@0.1.0\" (instance $i)))",
        "i32 ".repeat(LOCALS),
        "loop ".repeat(LOOPS),
        (1..=LOCALS).map(step).collect::<String>(),
        "local.get 0 br_if 0 end ".repeat(LOOPS),
    );
    let manifest = "[extension]\nid = \"test.bomb\"\nversion = \"0.1.0\"\nkind = \"hook\"\n\
         api = \"berth:hook@0.1.0\"\ndescription = \"Never ends.\"\n\
         [capabilities]\nevents = { kinds = [\"build.failed\"], why = \"to test\" }\n";
    with_manifest(wat::parse_str(module).unwrap(), manifest)
}

/// A component whose largest code section ends in an instruction that does not exist.
fn spoiled(mut component: Vec<u8>) -> Vec<u8> {
    // The end of a function (0x0b) and the beginning of the data section (0x0b) of the module.
    let middle = component.len() / 3;
    let at = component[middle..].iter().position(|byte| *byte == 0x0b).unwrap();
    component[middle + at] = 0xff;
    component
}
