//! Each capability is denied twice: at the installation, and in every call.

use berth_model::extension::Capabilities;
use berthd::extensions::{Choice, ExtensionError};
use serde_json::{Value, json};

use crate::guests::{EVERYTHING, component, everything_but, hook, manifest};
use crate::support::{World, by, capabilities, id};

/// What uses a capability: its name, the interface that the component imports for it, what the hook
/// is to do, and the code when it may.
fn uses() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    let kv = "berth:kv/kv@0.1.0";
    let metrics = "berth:metrics/metrics@0.1.0";
    vec![
        ("kv", kv, json!({ "do": "kv.get" }), "ok"),
        ("kv", kv, json!({ "do": "kv.put", "value": "1" }), "ok"),
        ("kv", kv, json!({ "do": "kv.put-if-absent" }), "ok"),
        ("kv", kv, json!({ "do": "kv.remove" }), "ok"),
        ("kv", kv, json!({ "do": "kv.keys" }), "ok"),
        (
            "secrets",
            "berth:secrets/secrets@0.1.0",
            json!({ "do": "secrets.open", "name": "two" }),
            "ok",
        ),
        (
            "secrets-read",
            "berth:secrets/reader@0.1.0",
            json!({ "do": "secrets.reveal", "name": "one" }),
            "ok",
        ),
        (
            "http",
            "berth:http-out/http-out@0.1.0",
            json!({ "do": "http", "url": "https://host.invalid/" }),
            // There is no such host (RFC 6761), so it was looked up.
            "unreachable",
        ),
        ("emit", "berth:events/events@0.1.0", json!({ "do": "emit", "name": "own" }), "ok"),
        ("metrics", metrics, json!({ "do": "metrics.add" }), "ok"),
        ("metrics", metrics, json!({ "do": "metrics.set" }), "ok"),
    ]
}

async fn with_secrets(world: &World) {
    for name in ["one", "two"] {
        let name = name.to_owned();
        world.registry.set_secret(&id("acme.hook"), &name, Some("swordfish"), by()).await.unwrap();
    }
}

/// Grants everything but one thing to a hook that asks for all of it.
async fn without(withheld: &str) -> World {
    let world = World::new().await;
    let granted = Some(capabilities(&everything_but(withheld)));
    let choice = Choice { granted, ..Choice::default() };
    world.try_install(&hook("1.0.0"), choice).await.unwrap();
    with_secrets(&world).await;
    world
}

#[tokio::test]
async fn what_the_manifest_does_not_name_is_refused_at_the_installation() {
    let world = World::new().await;
    let mut of: Vec<_> =
        uses().into_iter().map(|(name, interface, ..)| (name, interface)).collect();
    of.push(("clock", "berth:clock/clock@0.1.0"));
    for (name, interface) in of {
        let mut lines = everything_but(name);
        if name == "secrets" {
            // Who may read a secret has handles too.
            lines = lines
                .lines()
                .filter(|line| !line.starts_with("secrets"))
                .collect::<Vec<_>>()
                .join("\n");
        }
        let less = component("hook", &manifest("hook", "1.0.0", &lines));
        let refused = world.registry.install(less, Choice::default(), by()).await.unwrap_err();
        let told = refused.to_string();
        assert!(matches!(refused, ExtensionError::Component(_)), "{name}: {told}");
        let either = name == "secrets" && told.contains("berth:secrets/");
        assert!(either || (told.contains(interface) && told.contains(name)), "{name}: {told}");
    }
    assert_eq!(world.store.extensions().await.unwrap(), []);
}

#[tokio::test]
async fn what_the_manifest_names_is_granted_by_nobody_but_a_person() {
    let world = World::new().await;
    for (name, line) in EVERYTHING {
        let asks = component("hook", &manifest("hook", "1.0.0", &everything_but("")));
        // All but one thing of it was granted to the version before.
        let choice =
            Choice { granted: Some(capabilities(&everything_but(name))), ..Choice::default() };
        world.try_install(&asks, choice).await.unwrap();
        let granted = world.store.extension(&id("acme.hook")).await.unwrap().unwrap().grant.granted;
        assert!(!granted.covers(&capabilities(line)), "{name}");
        world.registry.remove(&id("acme.hook"), by()).await.unwrap();
        let refused = world.registry.install(asks, Choice::default(), by()).await.unwrap_err();
        let ExtensionError::NeedsApproval(review) = refused else { panic!("{name}: {refused}") };
        let line = &capabilities(line).lines()[0];
        assert!(review.lines.contains(line), "{name}: {:?}", review.lines);
    }
    assert_eq!(world.store.extensions().await.unwrap(), []);
}

#[tokio::test]
async fn what_was_granted_works() {
    let world = World::new().await;
    world.install(&hook("1.0.0"), json!({})).await;
    with_secrets(&world).await;
    for (name, _, does, code) in uses() {
        assert_eq!(world.hook(does.clone()).await, code, "{name}: {does}");
    }
    assert_eq!(world.hook(json!({ "do": "clock" })).await, "ok");
    let log = world.logged("acme.hook", "a time").await;
    assert!(log.iter().any(|line| line == "9 bytes"), "{log:?}");
    assert!(!log.join("\n").contains("swordfish"));
    assert_eq!(world.health("acme.hook").denied, 0);
    assert_eq!(world.event("extension.acme.hook.own").await.actor, "extension:acme.hook");
    assert_eq!(world.events("extension.denied").await, []);
}

#[tokio::test]
async fn what_was_not_granted_is_denied_in_the_call_counted_and_recorded() {
    for (name, interface, does, _) in uses() {
        let world = without(name).await;
        assert_eq!(world.hook(does.clone()).await, "denied", "{name}: {does}");
        let health = world.health("acme.hook");
        assert_eq!(health.denied, 1, "{name}: {interface}");
        assert_eq!(health.calls.keys().collect::<Vec<_>>(), [&"error"], "it is no fault of its");
        let metrics = world.registry.prometheus();
        let line = "berth_extension_denied_total{extension=\"acme.hook\"} 1\n";
        assert!(metrics.contains(line), "{metrics}");
        world.logged("acme.hook", &format!("denied: {name}: ")).await;
        let event = world.event("extension.denied").await;
        assert_eq!(
            (event.subject.as_str(), &event.after["capability"]),
            ("acme.hook", &json!(name))
        );
        // Each is told of once, and counted each time.
        assert_eq!(world.hook(does).await, "denied");
        assert_eq!(world.health("acme.hook").denied, 2);
        assert_eq!(world.events("extension.denied").await.len(), 1);
    }
}

#[tokio::test]
async fn the_time_is_denied_to_the_call_as_a_whole() {
    let world = without("clock").await;
    let said = world.hook(json!({ "do": "clock" })).await;
    assert!(said.contains("'clock' was not granted"), "{said}");
    let health = world.health("acme.hook");
    assert_eq!((health.denied, health.calls["error"]), (1, 1));
    world.logged("acme.hook", "denied: clock: ").await;
    world.event("extension.denied").await;
}

#[tokio::test]
async fn a_hook_is_asked_about_and_told_of_what_was_granted_alone() {
    let world = without("events").await;
    assert_eq!(world.hook(json!({ "do": "trap" })).await, "nothing", "it is not asked");
    let told = r#"events = { kinds = ["before.build"], blocking = false }"#;
    let choice = Choice { granted: Some(capabilities(told)), ..Choice::default() };
    world.registry.grant(&id("acme.hook"), choice, by()).await.unwrap();
    assert_eq!(world.hook(json!({ "do": "trap" })).await, "nothing", "it may not stop a build");
    assert_eq!(world.health("acme.hook").count(), 0);
}

#[tokio::test]
async fn within_a_capability_only_what_was_granted_of_it_is_allowed() {
    let world = World::new().await;
    world.install(&hook("1.0.0"), json!({})).await;
    with_secrets(&world).await;
    for does in [
        json!({ "do": "http", "url": "https://host.invalid:444/" }),
        json!({ "do": "http", "url": "https://other.invalid/" }),
        json!({ "do": "secrets.open", "name": "three" }),
        json!({ "do": "secrets.reveal", "name": "two" }),
        json!({ "do": "emit", "name": "other" }),
    ] {
        assert_eq!(world.hook(does.clone()).await, "denied", "{does}");
    }
    assert_eq!(world.health("acme.hook").denied, 5);
    let large = "v".repeat(2_000);
    assert_eq!(world.hook(json!({ "do": "kv.put", "value": large })).await, "quota");
    // Half of the quota was granted.
    let quota = everything_but("kv") + "\nkv = { quota = \"512\" }";
    let choice = Choice { granted: Some(capabilities(&quota)), ..Choice::default() };
    world.registry.grant(&id("acme.hook"), choice, by()).await.unwrap();
    let value = "v".repeat(600);
    assert_eq!(world.hook(json!({ "do": "kv.put", "value": value })).await, "quota");
    assert_eq!(world.hook(json!({ "do": "kv.put", "value": "v" })).await, "ok");
}

#[tokio::test]
async fn counters_are_for_middlewares_alone() {
    let world = World::new().await;
    let counts = component("hook", &manifest("hook", "1.0.0", "counters = {}"));
    let refused = world.registry.install(counts, Choice::default(), by()).await.unwrap_err();
    assert!(
        refused.to_string().contains("extensions of the kind hook cannot have it"),
        "{refused}"
    );
}

#[tokio::test]
async fn its_log_and_its_configuration_are_every_extensions_and_its_own() {
    let world = World::new().await;
    world.install(&hook("1.0.0"), json!({ "channel": "c-12" })).await;
    let none = Choice { granted: Some(Capabilities::default()), ..Choice::default() };
    let told = r#"events = { kinds = ["before.build"], blocking = true }"#;
    let choice = Choice { granted: Some(capabilities(told)), ..none };
    world.registry.grant(&id("acme.hook"), choice, by()).await.unwrap();
    assert_eq!(world.hook(json!({ "do": "config" })).await, "ok");
    world.logged("acme.hook", "\"channel\":\"c-12\"").await;
    // Whatever is in a line, it stays one line and moves no cursor.
    let text = "one\nextension.denied\u{1b}[2J";
    assert_eq!(world.hook(json!({ "do": "log", "text": text })).await, "ok");
    let log = world.logged("acme.hook", "one").await;
    assert!(!log.join("").contains('\u{1b}'), "{log:?}");
    assert!(!log.iter().any(|line| line.starts_with("extension.denied")), "{log:?}");
}
