//! What an operator needs to get out of trouble waits for no extension, and what is installed is
//! there again after a restart.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_model::plan::Change;
use berth_store::ExtensionState;
use berthd::extensions::{Choice, ExtensionError};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use serde_json::json;
use tokio::io::unix::AsyncFd;

use crate::guests::{component, everything_but, hook, manifest, policy};
use crate::support::{World, by, capabilities, configure, digest, does, id, within};

/// Listens as an agent does, and never answers.
fn deaf_agent(path: &Path) -> AsyncFd<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    listen(&socket, 4).unwrap();
    AsyncFd::new(socket).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recovery_waits_for_no_call_and_no_compilation() {
    let world = Arc::new(World::new().await);
    // A hook that is in a call.
    world.install(&hook("1.0.0"), json!({})).await;
    world.install(&policy("1.0.0"), json!({ "verdict": "deny" })).await;
    let call = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.hook(does("wait")).await })
    };
    world.logged("acme.hook", "begun").await;
    // A compiler that never ends: the agent takes the request, and that is all. No other test has
    // this version compiled.
    let agent = deaf_agent(&world.folder().join("agent.sock"));
    let slow = policy("7.0.0");
    let install = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.registry.install(slow, Choice::default(), by()).await })
    };
    let _asked = within("a request to compile", agent.readable()).await.unwrap();

    let registry = &world.registry;
    within("recovery", async {
        world.judge(&configure("A")).await.unwrap_err();
        world.judge(&Change::Stop).await.unwrap();
        let row = registry.disable(&id("acme.policy"), by()).await.unwrap();
        assert_eq!(row.state, ExtensionState::Disabled);
        world.judge(&configure("A")).await.unwrap();
        assert_eq!(registry.disable_all(by()).await.unwrap(), [id("acme.hook")]);
        assert_eq!(world.hook(does("kv.get")).await, "nothing");
        assert!(registry.remove(&id("acme.hook"), by()).await.unwrap());
        assert!(registry.remove(&id("acme.policy"), by()).await.unwrap());
    })
    .await;
    assert!(!call.is_finished() && !install.is_finished(), "they were not waited for");
    assert_eq!(world.store.extensions().await.unwrap(), []);
    call.abort();
    install.abort();
}

#[tokio::test]
async fn a_restart_brings_back_everything_that_was_installed() {
    let world = World::new().await;
    let other = world.app("other").await;
    let granted = capabilities(&everything_but("emit"));
    let choice = Choice {
        granted: Some(granted.clone()),
        apps: Some(vec![world.app.id]),
        config: Some(json!({ "do": "kv.get" })),
        ..Choice::default()
    };
    world.try_install(&hook("1.0.0"), choice).await.unwrap();
    world.registry.set_secret(&id("acme.hook"), "two", Some("swordfish"), by()).await.unwrap();
    assert_eq!(world.hook(json!({ "do": "kv.put", "value": "1" })).await, "ok");
    world.install(&policy("1.0.0"), json!({ "verdict": "deny" })).await;
    world.registry.disable(&id("acme.policy"), by()).await.unwrap();

    let next = world.again().await;
    let row = next.store.extension(&id("acme.hook")).await.unwrap().unwrap();
    assert_eq!((&row.grant.granted, &row.apps), (&granted, &Some(vec![world.app.id])));
    assert_eq!(next.hook(json!({})).await, "ok", "its configuration says what to do");
    assert_eq!(next.hook(json!({ "do": "secrets.open", "name": "two" })).await, "ok");
    assert_eq!(next.hook(json!({ "do": "emit", "name": "own" })).await, "denied");
    let value = next.store.extension_value(&id("acme.hook"), "key", 0).await.unwrap();
    assert_eq!(value.as_deref(), Some(&b"1"[..]));
    let of_other = next.registry.before("before.build", &other, does("trap")).await;
    assert!(of_other.is_ok(), "it is for one app");
    assert_eq!(next.judge(&configure("A")).await.unwrap(), [""; 0], "the policy is disabled");
    next.registry.resume(&id("acme.policy"), by()).await.unwrap();
    next.judge(&configure("A")).await.unwrap_err();
}

#[tokio::test]
async fn what_is_removed_leaves_nothing() {
    let world = World::new().await;
    world.install(&hook("1.0.0"), json!({})).await;
    world.registry.set_secret(&id("acme.hook"), "two", Some("swordfish"), by()).await.unwrap();
    world.hook(json!({ "do": "kv.put", "value": "1" })).await;
    world.hook(json!({ "do": "log", "text": "here" })).await;
    world.logged("acme.hook", "here").await;
    assert!(world.registry.remove(&id("acme.hook"), by()).await.unwrap());
    assert!(!world.registry.remove(&id("acme.hook"), by()).await.unwrap());
    assert!(world.registry.health(&id("acme.hook")).is_none());
    assert_eq!(world.hook(does("trap")).await, "nothing");
    assert!(!world.registry.prometheus().contains("acme.hook"));
    for verb in [
        world.registry.disable(&id("acme.hook"), by()).await,
        world.registry.resume(&id("acme.hook"), by()).await,
        world.registry.configure(&id("acme.hook"), json!({}), by()).await,
    ] {
        assert!(matches!(verb, Err(ExtensionError::NotFound(_))));
    }
    // One of the same name begins anew.
    world.install(&hook("1.0.0"), json!({})).await;
    assert_eq!(world.log("acme.hook").await, [""; 0]);
    let secret = json!({ "do": "secrets.open", "name": "two" });
    assert_eq!(world.hook(secret).await, "not-found");
    assert_eq!(world.store.extension_value(&id("acme.hook"), "key", 0).await.unwrap(), None);
}

#[tokio::test]
async fn components_are_kept_while_they_are_installed_or_wait_and_go_afterwards() {
    let world = World::new().await;
    let (first, second) = (hook("1.0.0"), hook("1.0.1"));
    let third = hook("1.1.0");
    let collect = async || {
        let used: HashSet<_> = world.store.blobs_in_use().await.unwrap().into_iter().collect();
        world.blobs.gc(&used, Duration::ZERO).unwrap();
    };
    let there = |bytes: &[u8]| world.blobs.get(&digest(bytes)).is_ok();
    let less = Choice { granted: Some(capabilities("")), ..Choice::default() };
    let narrow = component("hook", &manifest("hook", "0.9.0", &everything_but("clock")));
    // The component imports what its manifest lacks, so it is not even kept.
    world.registry.install(narrow.clone(), less, by()).await.unwrap_err();
    assert!(!there(&narrow));

    world.install(&first, json!({})).await;
    collect().await;
    assert!(there(&first));
    world.try_install(&second, Choice::default()).await.unwrap();
    collect().await;
    assert!(!there(&first) && there(&second), "the one before is not needed");
    let more = manifest("hook", "1.2.0", &everything_but("").replace("1KiB", "2KiB"));
    let more = component("hook", &more);
    let (_, live) = world.try_install(&more, Choice::default()).await.unwrap();
    assert!(!live);
    collect().await;
    assert!(there(&second) && there(&more), "what waits is kept");
    world.try_install(&third, Choice::default()).await.unwrap();
    collect().await;
    assert!(there(&third) && !there(&more) && !there(&second), "nothing waits any more");
    world.registry.remove(&id("acme.hook"), by()).await.unwrap();
    collect().await;
    assert!(!there(&third));
}
