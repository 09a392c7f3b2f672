//! A folder of components that are installed and reloaded as they change.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use berth_store::{Extension, ExtensionState};
use berthd::extensions::{Choice, FolderRules};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::guests::{component, everything_but, hook, manifest};
use crate::support::{World, by, compile, does, eventually, id};

/// A registry that follows a folder.
struct Followed {
    world: World,
    folder: PathBuf,
    following: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.following.abort();
    }
}

const RULES: FolderRules = FolderRules { settle_ms: 40, poll_ms: 600_000 };

impl Followed {
    async fn new(rules: FolderRules) -> Self {
        let world = World::new().await;
        let folder = world.folder().join("extensions");
        std::fs::create_dir(&folder).unwrap();
        let following = tokio::spawn(world.registry.clone().follow_folder(folder.clone(), rules));
        Self { world, folder, following }
    }

    /// With a hook that was granted all that it asks for.
    async fn with_hook() -> Self {
        let followed = Self::new(RULES).await;
        followed.world.install(&hook("1.0.0"), json!({})).await;
        followed
    }

    /// Puts a file there as a build does: written beside, and renamed.
    fn put(&self, name: &str, bytes: &[u8]) {
        let beside = self.folder.join(format!("{name}.new"));
        std::fs::write(&beside, bytes).unwrap();
        std::fs::rename(&beside, self.folder.join(name)).unwrap();
    }

    async fn row(&self) -> Option<Extension> {
        self.world.store.extension(&id("acme.hook")).await.unwrap()
    }

    async fn until_version(&self, version: &str) {
        eventually(&format!("version {version}"), async || {
            let row = self.row().await?;
            // The row is written before the call is on the new one.
            let live = self.world.health("acme.hook").loads;
            (row.version.manifest.version == version && live > 0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_file_that_is_renamed_into_the_folder_is_loaded_within_a_second() {
    let followed = Followed::with_hook().await;
    let next = hook("1.0.1");
    compile(&next).await;
    let begun = std::time::Instant::now();
    followed.put("hook.wasm", &next);
    followed.until_version("1.0.1").await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(followed.world.hook(does("kv.get")).await, "ok");
    // Over a file that is there already, which no watch of the file would see.
    let after = hook("1.0.2");
    compile(&after).await;
    followed.put("hook.wasm", &after);
    followed.until_version("1.0.2").await;
    assert_eq!(followed.world.health("acme.hook").loads, 3);
}

#[tokio::test]
async fn a_file_is_read_when_it_was_written_to_its_end() {
    let followed = Followed::with_hook().await;
    let next = hook("1.0.1");
    compile(&next).await;
    let mut file = File::create(followed.folder.join("hook.wasm")).unwrap();
    for part in next.chunks(next.len() / 20 + 1) {
        file.write_all(part).unwrap();
        file.flush().unwrap();
        // As a slow disk would: shorter than a file must be quiet.
        tokio::time::sleep(Duration::from_millis(RULES.settle_ms / 4)).await;
    }
    drop(file);
    followed.until_version("1.0.1").await;
    let log = followed.world.log("acme.hook").await;
    assert!(!log.join("\n").contains("was not loaded"), "{log:?}");
}

#[tokio::test]
async fn a_broken_file_leaves_the_one_before_serving_and_is_told_of_in_its_log() {
    let followed = Followed::with_hook().await;
    let good = hook("1.0.1");
    compile(&good).await;
    followed.put("hook.wasm", &good);
    followed.until_version("1.0.1").await;
    // Cut, and of a version that no test has compiled.
    for broken in [good[..good.len() / 2].to_vec(), hook("7.0.1")] {
        followed.put("hook.wasm", &broken);
        followed.world.logged("acme.hook", "hook.wasm was not loaded: ").await;
        assert_eq!(followed.world.hook(does("kv.get")).await, "ok");
        assert_eq!(followed.row().await.unwrap().version.manifest.version, "1.0.1");
    }
    let last = hook("1.0.3");
    compile(&last).await;
    followed.put("hook.wasm", &last);
    followed.until_version("1.0.3").await;
}

#[tokio::test]
async fn the_same_bytes_again_are_nothing_new() {
    let followed = Followed::with_hook().await;
    let next = hook("1.0.1");
    compile(&next).await;
    followed.put("hook.wasm", &next);
    followed.until_version("1.0.1").await;
    let loads = followed.world.health("acme.hook").loads;
    followed.put("hook.wasm", &next);
    followed.put("copy.wasm", &next);
    // A file that comes later was looked at later.
    let text = manifest("policy", "1.0.0", "").replace("acme.policy", "acme.witness");
    let witness = component("policy", &text);
    compile(&witness).await;
    followed.put("witness.wasm", &witness);
    eventually("the witness", async || followed.world.registry.health(&id("acme.witness"))).await;
    assert_eq!(followed.world.health("acme.hook").loads, loads);
}

#[tokio::test]
async fn lying_in_the_folder_grants_nothing() {
    let followed = Followed::new(RULES).await;
    let (world, asks) = (&followed.world, hook("1.0.0"));
    followed.put("hook.wasm", &asks);
    let row = eventually("a row that waits", async || followed.row().await).await;
    assert_eq!(row.state, ExtensionState::Waiting);
    assert_eq!(row.grant, berth_model::extension::Grant::default());
    assert_eq!(row.waiting.as_ref(), Some(&row.version));
    world.logged("acme.hook", "it waits for `berth ext grant`").await;
    assert!(world.registry.health(&id("acme.hook")).is_none());
    assert_eq!(world.hook(does("trap")).await, "nothing");
    compile(&asks).await;
    world.registry.resume(&id("acme.hook"), by()).await.unwrap_err();
    world.registry.configure(&id("acme.hook"), json!({}), by()).await.unwrap_err();
    world.registry.disable(&id("acme.hook"), by()).await.unwrap();
    world.registry.resume(&id("acme.hook"), by()).await.unwrap_err();
    let next = world.again().await;
    assert_eq!(next.hook(does("trap")).await, "nothing", "also after a restart");

    let hash = world.registry.review(asks).await.unwrap().hash;
    let yes = Choice { accept: Some(hash), ..Choice::default() };
    let row = world.registry.grant(&id("acme.hook"), yes, by()).await.unwrap();
    assert_eq!((row.state, row.waiting), (ExtensionState::Active, None));
    assert_eq!(world.hook(does("kv.get")).await, "ok");
    // What asks for more than that waits again, and the one before serves.
    let more = everything_but("").replace("1KiB", "2KiB");
    followed.put("hook.wasm", &component("hook", &manifest("hook", "2.0.0", &more)));
    eventually("a version that waits", async || followed.row().await.unwrap().waiting).await;
    assert_eq!(followed.row().await.unwrap().version.manifest.version, "1.0.0");
    assert_eq!(world.hook(does("kv.get")).await, "ok");
}

#[tokio::test]
async fn what_asks_for_nothing_runs_and_what_is_no_component_is_left_alone() {
    let followed = Followed::new(RULES).await;
    let policy = crate::guests::policy("1.0.0");
    compile(&policy).await;
    std::fs::write(followed.folder.join("README.txt"), "hello").unwrap();
    std::fs::create_dir(followed.folder.join("folder.wasm")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", followed.folder.join("link.wasm")).unwrap();
    followed.put("policy.wasm", &policy);
    eventually("the policy", async || followed.world.registry.health(&id("acme.policy"))).await;
    assert_eq!(followed.world.store.extensions().await.unwrap().len(), 1);
    assert_eq!(followed.world.event("extension.installed").await.actor, "folder");
    // A file that goes away removes nothing.
    std::fs::remove_file(followed.folder.join("policy.wasm")).unwrap();
    followed.put("other.wasm", b"no component");
    assert!(followed.world.registry.health(&id("acme.policy")).is_some());
}

#[tokio::test]
async fn without_events_the_folder_is_looked_at_again_after_a_while() {
    // A folder that is not there yet cannot be watched.
    let world = World::new().await;
    world.install(&hook("1.0.0"), json!({})).await;
    let folder = world.folder().join("later");
    let rules = FolderRules { settle_ms: 10, poll_ms: 20 };
    let following = tokio::spawn(world.registry.clone().follow_folder(folder.clone(), rules));
    let followed = Followed { world, folder, following };
    let next = hook("1.0.1");
    compile(&next).await;
    std::fs::create_dir(&followed.folder).unwrap();
    followed.put("hook.wasm", &next);
    followed.until_version("1.0.1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_under_way_ends_on_the_component_that_it_began_with() {
    let followed = Followed::with_hook().await;
    let next = hook("1.0.1");
    compile(&next).await;
    let (registry, app) = (followed.world.registry.clone(), followed.world.app.clone());
    let call =
        tokio::spawn(async move { registry.before("before.build", &app, does("wait")).await });
    followed.world.logged("acme.hook", "begun").await;
    followed.put("hook.wasm", &next);
    followed.until_version("1.0.1").await;
    assert!(!call.is_finished());
    assert_eq!(call.await.unwrap().unwrap_err().reason, "ok");
}

/// Resident memory of this process, KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// `cargo xtask soak reload` sets another number.
fn reloads() -> u32 {
    std::env::var("BERTH_RELOADS").map_or(500, |text| text.parse().unwrap())
}

#[tokio::test]
async fn reloads_leave_no_memory_behind() {
    let followed = Followed::new(FolderRules { settle_ms: 1, poll_ms: 600_000 }).await;
    let versions = ["1.0.1", "1.0.2"];
    let components = versions.map(hook);
    for component in &components {
        compile(component).await;
    }
    followed.world.install(&hook("1.0.0"), json!({})).await;
    let warm = (reloads() / 5).max(100);
    let mut before = 0;
    for n in 0..warm + reloads() {
        if n == warm {
            before = resident_kib();
        }
        let which = n as usize % 2;
        followed.put("hook.wasm", &components[which]);
        followed.until_version(versions[which]).await;
        assert_eq!(followed.world.hook(does("kv.get")).await, "ok");
    }
    let after = resident_kib();
    let (n, allowed) = (reloads(), before + before / 20);
    println!("{n} reloads: {before} KiB before, {after} KiB after");
    assert!(after <= allowed, "{n} reloads: {before} KiB before, {after} KiB after");
    // The row of the last one was seen; its load is counted a moment later.
    let loads = u64::from(warm + reloads()) + 1;
    eventually("every load is counted", async || {
        (followed.world.health("acme.hook").loads == loads).then_some(())
    })
    .await;
}
