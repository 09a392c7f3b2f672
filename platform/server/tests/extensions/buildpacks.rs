//! Buildpacks that operators add, through the API: real components, a real store and builder.

use std::sync::Arc;

use berth_blobs::BlobStore;
use berth_build::{Builder, Inventory, Loaded, Settings};
use berth_container::Agent;
use berth_extensions::buildpack::Buildpacks as Engine;
use berth_extensions::{AotCache, EngineKind, MacKey};
use berth_store::{EventFilter, Order, Visible};
use berthd::buildpacks::Buildpacks;
use berthd::compiler::Compiler;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::guests::{buildpack, hook, with_section};
use crate::http::Api;
use crate::support::{World, cache, compile, digest};

/// What every build begins with.
struct Room {
    api: Api,
    builder: Builder,
}

/// The buildpacks of a platform with which `node` ships.
async fn buildpacks(world: &World, cache: AotCache) -> (Buildpacks, Builder) {
    // No agent answers: what was not compiled before is not compiled.
    let agent = Agent::at(world.folder().join("agent.sock"));
    let compiler = Compiler::new(agent.clone(), Arc::new(cache), Arc::clone(&world.blobs));
    let engine = Engine::new().unwrap();
    let node = buildpack("node", "1.0.0");
    compile(&node).await;
    let ours = crate::support::cache();
    let never = |_| async { Err::<(), String>("it is compiled".to_owned()) };
    let code = ours.code(EngineKind::Extensions, digest(&node), never).await.unwrap();
    let component = Arc::new(engine.load(&code).unwrap());
    let shipped = vec![Loaded { id: "node".to_owned(), digest: digest(&node), component }];
    let builder = Builder::new(
        agent,
        BlobStore::clone(&world.blobs),
        shipped.clone(),
        Inventory::load(None).unwrap(),
        Settings::default(),
    );
    let store = world.store.clone();
    let buildpacks = Buildpacks::new(store, compiler, engine, shipped, builder.clone());
    buildpacks.load().await.unwrap();
    (buildpacks, builder)
}

impl Room {
    async fn start() -> Self {
        let world = World::new().await;
        let (buildpacks, builder) = buildpacks(&world, cache()).await;
        Self { api: Api::over(world, Box::new(buildpacks)).await, builder }
    }

    /// Sends a component that the platform's compiler takes.
    async fn add(&self, component: &[u8], query: &str) -> (StatusCode, Value) {
        compile(component).await;
        self.send(component, query).await
    }

    async fn send(&self, component: &[u8], query: &str) -> (StatusCode, Value) {
        let request = self.api.request("POST", &format!("/v1/buildpacks{query}"));
        let request = request.header("content-type", "application/wasm").body(component.to_vec());
        Api::answer(request).await
    }

    async fn list(&self) -> Vec<(String, String)> {
        let page = self.api.must("GET", "/v1/buildpacks", Value::Null).await;
        let text = |item: &Value, key: &str| item[key].as_str().unwrap_or_default().to_owned();
        let items = page["items"].as_array().unwrap();
        items.iter().map(|item| (text(item, "id"), text(item, "origin"))).collect()
    }

    async fn order(&self) -> Value {
        self.api.must("GET", "/v1/buildpack-order", Value::Null).await
    }

    async fn set_order(&self, groups: &[&str]) -> (StatusCode, Value) {
        self.api.call("PUT", "/v1/buildpack-order", json!({ "groups": groups })).await
    }

    fn builds_with(&self) -> Vec<String> {
        self.builder.installed().ids()
    }

    async fn events(&self) -> Vec<String> {
        let all = EventFilter::all(Visible::All);
        let events =
            self.api.world.store.events(&all, Order::OldestAfter(0), 10_000).await.unwrap();
        let ours = events.into_iter().filter(|event| event.kind.starts_with("buildpack."));
        ours.map(|event| format!("{} {}", event.kind, event.subject)).collect()
    }
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(id, origin)| ((*id).to_owned(), (*origin).to_owned())).collect()
}

#[tokio::test]
async fn an_added_buildpack_is_there_for_the_next_build_and_gone_after_its_removal() {
    let room = Room::start().await;
    let begun = room.builder.pinned();
    let (status, added) = room.add(&buildpack("acme-make", "1.0.0"), "").await;
    assert_eq!(status, 201, "{added}");
    assert_eq!(
        (&added["origin"], &added["version"], &added["description"]),
        (&json!("added"), &json!("1.0.0"), &json!("A test."))
    );
    assert_eq!(room.list().await, pairs(&[("acme-make", "added"), ("node", "shipped")]));
    assert_eq!(room.builds_with(), ["acme-make", "node"]);
    assert_eq!(room.order().await, json!({ "groups": ["acme-make", "node"], "set": false }));
    // A build that had begun has what it began with; its key is another one.
    assert_eq!(begun.installed().ids(), ["node"]);
    assert_ne!(begun.buildpack_digests(), room.builder.buildpack_digests());

    // The same once more is fine, and nothing new.
    let before = room.api.world.store.newest_event().await.unwrap();
    let (status, again) = room.send(&buildpack("acme-make", "1.0.0"), "").await;
    assert_eq!((status, again), (StatusCode::OK, added));
    assert_eq!(room.api.world.store.newest_event().await.unwrap(), before);

    assert_eq!(room.api.call("DELETE", "/v1/buildpacks/acme-make", Value::Null).await.0, 204);
    assert_eq!(room.list().await, pairs(&[("node", "shipped")]));
    assert_eq!(room.builds_with(), ["node"]);
    assert_eq!(begun.buildpack_digests(), room.builder.buildpack_digests());
    let (status, problem) = room.api.call("DELETE", "/v1/buildpacks/acme-make", Value::Null).await;
    assert_eq!(status, 404, "{problem}");
    assert_eq!(room.events().await, ["buildpack.added acme-make", "buildpack.removed acme-make"]);
}

#[tokio::test]
async fn an_id_that_is_taken_is_replaced_only_when_that_is_said() {
    let room = Room::start().await;
    room.add(&buildpack("acme-make", "1.0.0"), "").await;
    for (component, told) in [
        (buildpack("acme-make", "2.0.0"), "there is a buildpack acme-make 1.0.0 already"),
        (buildpack("node", "2.0.0"), "a buildpack node ships with Berth"),
    ] {
        let (status, problem) = room.add(&component, "").await;
        assert_eq!((status, &problem["type"]), (StatusCode::CONFLICT, &json!("taken")));
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(told) && detail.contains("--replace"), "{detail}");
    }
    let (status, changed) = room.add(&buildpack("acme-make", "2.0.0"), "?replace=true").await;
    assert_eq!((status, &changed["version"]), (StatusCode::OK, &json!("2.0.0")));
    let ships = room.builder.buildpack_digests();
    let (status, replaced) = room.add(&buildpack("node", "2.0.0"), "?replace=true").await;
    assert_eq!((status, &replaced["origin"]), (StatusCode::CREATED, &json!("replaced")));
    assert_eq!(room.list().await, pairs(&[("acme-make", "added"), ("node", "replaced")]));
    assert_eq!(room.builds_with().len(), 2);
    assert_ne!(room.builder.buildpack_digests(), ships);

    // What ships is there again, and cannot be removed.
    assert_eq!(room.api.call("DELETE", "/v1/buildpacks/node", Value::Null).await.0, 204);
    assert_eq!(room.builder.buildpack_digests(), ships);
    let (status, problem) = room.api.call("DELETE", "/v1/buildpacks/node", Value::Null).await;
    assert_eq!(status, 409);
    assert!(problem["detail"].as_str().unwrap().contains("ships with Berth"), "{problem}");
}

#[tokio::test]
async fn what_cannot_be_added_is_refused_with_the_reason_and_leaves_nothing() {
    let room = Room::start().await;
    let before = (room.builder.buildpack_digests(), room.list().await);
    let bare = std::fs::read(crate::guests::built().join("test_buildpack.wasm")).unwrap();
    let bad = with_section(bare.clone(), "berth:buildpack", "[buildpack]\nid = \"Acme\"\n");
    for (component, told) in [
        (b"no component".to_vec(), "not a WebAssembly file"),
        (b"\0asm\x01\0\0\0".to_vec(), "a core WebAssembly module, not a component"),
        (hook("1.0.0"), "does not export berth:buildpack/detector@0.1.0"),
        (bare, "has no manifest"),
        (bad, "'Acme' is not a valid buildpack id"),
        // The compiler says no; here nobody compiles it.
        (buildpack("acme-none", "1.0.0"), "was not compiled"),
    ] {
        let (status, problem) = room.send(&component, "").await;
        assert_eq!(status, 422, "{problem}");
        assert_eq!(problem["errors"][0]["pointer"], "component");
        assert!(problem["detail"].as_str().unwrap().contains(told), "{problem}");
    }
    let (status, problem) = room.send(&vec![0; (64 << 20) + 1], "").await;
    assert_eq!(status, 413, "{problem}");
    let request = room.api.request("POST", "/v1/buildpacks").json(&json!({}));
    assert_eq!(Api::answer(request).await.0, 415);
    assert_eq!((room.builder.buildpack_digests(), room.list().await), before);
    assert_eq!(room.api.world.store.buildpacks().await.unwrap(), []);
    assert_eq!(room.events().await, [""; 0]);
}

#[tokio::test]
async fn no_more_are_added_than_each_source_can_be_shown_to() {
    let room = Room::start().await;
    for n in 0..32 {
        let (status, added) = room.add(&buildpack(&format!("a{n}"), "1.0.0"), "").await;
        assert_eq!(status, 201, "{added}");
    }
    let (status, problem) = room.add(&buildpack("a32", "1.0.0"), "").await;
    assert_eq!(status, 409);
    assert!(problem["detail"].as_str().unwrap().contains("32 buildpacks were added"), "{problem}");
    let (status, _) = room.add(&buildpack("a0", "1.0.1"), "?replace=true").await;
    assert_eq!(status, 200, "one of them may still be another version");
}

#[tokio::test]
async fn an_order_is_set_followed_and_taken_back() {
    let room = Room::start().await;
    room.add(&buildpack("acme-make", "1.0.0"), "").await;
    let (status, set) = room.set_order(&["node,acme-make?", "acme-make"]).await;
    assert_eq!(status, 200, "{set}");
    assert_eq!(set, json!({ "groups": ["node,acme-make?", "acme-make"], "set": true }));
    assert_eq!(room.order().await, set);
    // One that comes is its first group; one that goes takes with it what needs it.
    room.add(&buildpack("acme-zig", "1.0.0"), "").await;
    let groups = room.order().await["groups"].clone();
    assert_eq!(groups, json!(["acme-zig", "node,acme-make?", "acme-make"]));
    room.api.call("DELETE", "/v1/buildpacks/acme-make", Value::Null).await;
    assert_eq!(room.order().await["groups"], json!(["acme-zig", "node"]));
    for (groups, told) in [
        (vec!["ruby"], "there is no buildpack 'ruby'; there are acme-zig, node"),
        (vec!["node,node"], "names node twice"),
        (vec!["node"; 65], "64 groups are possible"),
        (vec![""], "is not a valid buildpack id"),
    ] {
        let (status, problem) = room.set_order(&groups).await;
        assert_eq!(status, 422, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(told), "{problem}");
    }
    let (_, usual) = room.set_order(&[]).await;
    assert_eq!(usual, json!({ "groups": ["acme-zig", "node"], "set": false }));
}

#[tokio::test]
async fn the_next_process_has_the_same_and_says_what_it_cannot_use() {
    let room = Room::start().await;
    room.add(&buildpack("acme-make", "1.0.0"), "").await;
    room.set_order(&["node", "acme-make"]).await;
    let world = &room.api.world;
    let (_, builder) = buildpacks(world, cache()).await;
    assert_eq!(builder.buildpack_digests(), room.builder.buildpack_digests());
    // Without the compiled code, and without a compiler.
    let empty = world.folder().join("aot");
    let other = AotCache::open(empty, MacKey::new([8; 32]), "other").unwrap();
    let (buildpacks, builder) = buildpacks(world, other).await;
    assert_eq!(builder.installed().broken.len(), 1);
    assert_ne!(builder.buildpack_digests(), room.builder.buildpack_digests());
    let list = buildpacks.list().await.unwrap();
    let broken = list[0].broken.as_deref().unwrap_or_default();
    assert!(broken.contains("'acme-make' cannot be used"), "{broken}");
}
