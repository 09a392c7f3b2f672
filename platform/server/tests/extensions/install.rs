//! Installing: nothing runs that nobody said yes to, and what does not work replaces nothing.

use berth_extensions::inspect::ExtensionRefusal;
use berth_store::Extension;
use berthd::extensions::{Choice, ExtensionError};
use serde_json::{Value, json};

use crate::guests::{component, everything_but, hook, manifest, plugin, policy, with_manifest};
use crate::support::{World, by, capabilities, does, id};

fn asks(version: &str, capabilities: &str) -> Vec<u8> {
    component("hook", &manifest("hook", version, capabilities))
}

async fn row(world: &World) -> Extension {
    world.store.extension(&id("acme.hook")).await.unwrap().unwrap()
}

#[tokio::test]
async fn nothing_runs_before_somebody_said_yes_to_what_it_asks_for() {
    let world = World::new().await;
    let refused = world.try_install(&hook("1.0.0"), Choice::default()).await.unwrap_err();
    let ExtensionError::NeedsApproval(review) = refused else { panic!("{refused}") };
    let told = format!("install it with --accept {}", review.hash);
    assert!(ExtensionError::NeedsApproval(review.clone()).to_string().contains(&told));
    assert!(review.lines.contains(&("keeps up to 1KiB of data".into(), "to remember".into())));
    assert_eq!(review.beyond.len(), review.lines.len(), "all of it is new");
    assert_eq!(review.installed, None);
    assert_eq!(review, Box::new(world.registry.review(hook("1.0.0")).await.unwrap()));
    assert_eq!(world.store.extensions().await.unwrap(), []);
    assert!(world.registry.health(&id("acme.hook")).is_none());
    assert!(world.blobs.get(&review.component).is_err(), "nothing was kept");

    let choice = Choice { accept: Some(review.hash.clone()), ..Choice::default() };
    let (row, live) = world.try_install(&hook("1.0.0"), choice).await.unwrap();
    assert!(live);
    assert_eq!(row.grant.granted, row.version.manifest.capabilities);
    assert_eq!(world.hook(does("kv.get")).await, "ok");
    let grants = world.store.extension_grants(&id("acme.hook")).await.unwrap();
    assert_eq!((grants.len(), grants[0].actor.as_str()), (1, "user:olga"));
}

#[tokio::test]
async fn another_hash_than_that_of_the_review_is_refused() {
    let world = World::new().await;
    let other = world.registry.review(asks("1.0.0", &everything_but("").replace("1KiB", "2KiB")));
    let choice = Choice { accept: Some(other.await.unwrap().hash), ..Choice::default() };
    let refused = world.try_install(&hook("1.0.0"), choice.clone()).await.unwrap_err();
    assert!(matches!(refused, ExtensionError::OtherHash { .. }), "{refused}");
    assert_eq!(world.store.extensions().await.unwrap(), []);
    // Nor does it pass where the extension runs already.
    world.install(&hook("1.0.0"), json!({})).await;
    let refused = world.registry.grant(&id("acme.hook"), choice, by()).await.unwrap_err();
    assert!(matches!(refused, ExtensionError::OtherHash { .. }), "{refused}");
}

#[tokio::test]
async fn a_hash_is_of_what_it_asks_for_and_not_of_why() {
    let world = World::new().await;
    let hash = async |capabilities: &str| {
        world.registry.review(asks("1.0.0", capabilities)).await.unwrap().hash
    };
    let all = everything_but("");
    assert_eq!(hash(&all).await, hash(&all.replace("to remember", "for fun")).await);
    assert_ne!(hash(&all).await, hash(&all.replace("1KiB", "2KiB")).await);
    assert_ne!(hash(&all).await, hash(&all.replace("own", "other")).await);
}

#[tokio::test]
async fn a_grant_takes_the_place_of_the_one_before_as_a_whole() {
    let world = World::new().await;
    let names = r#"emit = [{ name = "a" }, { name = "b" }]"#;
    let all = everything_but("emit") + "\n" + names;
    let only = |name: &str| {
        let emit = format!("emit = [{{ name = \"{name}\" }}]");
        let granted = Some(capabilities(&(everything_but("emit") + "\n" + &emit)));
        Choice { granted, ..Choice::default() }
    };
    let emit = async |name: &str| world.hook(json!({ "do": "emit", "name": name })).await;
    world.try_install(&asks("1.0.0", &all), only("a")).await.unwrap();
    assert_eq!((emit("a").await.as_str(), emit("b").await.as_str()), ("ok", "denied"));
    world.registry.grant(&id("acme.hook"), only("b"), by()).await.unwrap();
    assert_eq!((emit("a").await.as_str(), emit("b").await.as_str()), ("denied", "ok"));
    assert_eq!(Some(row(&world).await.grant.granted), only("b").granted);
    // An installation too.
    world.try_install(&asks("1.0.1", &all), only("a")).await.unwrap();
    assert_eq!((emit("a").await.as_str(), emit("b").await.as_str()), ("ok", "denied"));
    // One that says nothing keeps what was granted, which was less than it asks for.
    world.try_install(&asks("1.0.2", &all), Choice::default()).await.unwrap();
    assert_eq!((emit("a").await.as_str(), emit("b").await.as_str()), ("ok", "denied"));
    let grants = world.store.extension_grants(&id("acme.hook")).await.unwrap();
    assert_eq!(grants.len(), 3);
}

#[tokio::test]
async fn more_than_it_asks_for_cannot_be_granted() {
    let world = World::new().await;
    let more = capabilities(&everything_but("").replace("1KiB", "1MiB"));
    let choice = Choice { granted: Some(more), ..Choice::default() };
    let refused = world.try_install(&hook("1.0.0"), choice.clone()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the grant is more than the extension asks for: keeps up to 1MiB of data"
    );
    world.install(&hook("1.0.0"), json!({})).await;
    let refused = world.registry.grant(&id("acme.hook"), choice, by()).await.unwrap_err();
    assert!(matches!(refused, ExtensionError::TooMuch(_)), "{refused}");
}

#[tokio::test]
async fn an_update_that_asks_for_more_waits_while_the_one_before_serves() {
    let world = World::new().await;
    world.install(&hook("1.0.0"), json!({})).await;
    let more = asks("1.1.0", &everything_but("").replace("1KiB", "4KiB"));
    let (waits, live) = world.try_install(&more, Choice::default()).await.unwrap();
    assert!(!live);
    assert_eq!(waits.version.manifest.version, "1.0.0");
    assert_eq!(waits.waiting.as_ref().unwrap().manifest.version, "1.1.0");
    let large = json!({ "do": "kv.put", "value": "v".repeat(2_000) });
    assert_eq!(world.hook(large.clone()).await, "quota", "the one before serves");
    let next = world.again().await;
    assert_eq!(next.hook(large.clone()).await, "quota", "also after a restart");

    let refused = world.registry.grant(&id("acme.hook"), Choice::default(), by()).await;
    let Err(ExtensionError::NeedsApproval(review)) = refused else { panic!("{refused:?}") };
    assert_eq!(review.beyond, ["keeps up to 4KiB of data"]);
    assert_eq!(review.installed.as_deref(), Some("1.0.0"));
    let yes = Choice { accept: Some(review.hash), ..Choice::default() };
    let granted = world.registry.grant(&id("acme.hook"), yes, by()).await.unwrap();
    assert_eq!((granted.version.manifest.version.as_str(), &granted.waiting), ("1.1.0", &None));
    assert_eq!(world.hook(large).await, "ok");
}

#[tokio::test]
async fn an_update_that_asks_for_no_more_runs_at_once() {
    let world = World::new().await;
    world.install(&hook("1.0.0"), json!({})).await;
    for version in ["1.0.1", "0.9.0"] {
        let less = asks(version, &everything_but("").replace("1KiB", "512"));
        let (row, live) = world.try_install(&less, Choice::default()).await.unwrap();
        assert_eq!((live, row.version.manifest.version.as_str()), (true, version));
    }
    let large = json!({ "do": "kv.put", "value": "v".repeat(800) });
    assert_eq!(world.hook(large).await, "quota", "what it asks for bounds what was granted");
}

#[tokio::test]
async fn a_configuration_is_what_its_schema_allows_with_its_defaults() {
    let world = World::new().await;
    let schema = "[config.schema.properties.do]\ntype = \"string\"\nmaxLength = 10\n\
                  default = \"kv.get\"\n";
    let first = component("hook", &(manifest("hook", "1.0.0", &everything_but("")) + schema));
    let review = world.registry.review(first.clone()).await.unwrap();
    let with = |config: Value| Choice {
        accept: Some(review.hash.clone()),
        config: Some(config),
        ..Choice::default()
    };
    let refused = world.try_install(&first, with(json!({ "do": 7 }))).await.unwrap_err();
    assert!(matches!(refused, ExtensionError::Config { .. }), "{refused}");
    assert!(refused.to_string().contains("/do: 7 is not of type"), "{refused}");
    assert_eq!(world.store.extensions().await.unwrap(), []);

    world.try_install(&first, with(json!({}))).await.unwrap();
    assert_eq!(world.hook(json!({})).await, "ok", "the default says what to do");
    let registry = &world.registry;
    let long = json!({ "do": "far too long a text" });
    registry.configure(&id("acme.hook"), long, by()).await.unwrap_err();
    registry.configure(&id("acme.hook"), json!([]), by()).await.unwrap_err();
    assert_eq!(row(&world).await.config, json!({}));
    registry.configure(&id("acme.hook"), json!({ "do": "nonsense" }), by()).await.unwrap();
    assert_eq!(world.hook(json!({})).await, "said", "it does not know that");
    // An update whose schema does not allow what is set leaves everything as it is.
    let other = "[config.schema.properties.do]\ntype = \"integer\"\n";
    let other = component("hook", &(manifest("hook", "2.0.0", &everything_but("")) + other));
    world.try_install(&other, Choice::default()).await.unwrap_err();
    assert_eq!(row(&world).await.version.manifest.version, "1.0.0");
}

#[tokio::test]
async fn what_cannot_be_used_leaves_the_one_before_serving() {
    let world = World::new().await;
    world.install(&hook("1.0.0"), json!({})).await;
    let before = row(&world).await;
    let all = manifest("hook", "2.0.0", &everything_but(""));
    let exports = "(instance $i) (export \"berth:hook/handler@0.1.0\" (instance $i))";
    let wat =
        |text: &str| with_manifest(wat::parse_str(format!("(component {text})")).unwrap(), &all);
    let no_function = wat(exports);
    let other_type = wat(&format!(
        "(import \"berth:kv/kv@0.1.0\" (instance (export \"get\" (func)))) {exports}"
    ));
    let function = |start: &str| {
        wat(&format!(
            "(core module $m (func (export \"f\")) (func $s unreachable) {start})
             (core instance $c (instantiate $m)) (func $f (canon lift (core func $c \"f\")))
             (instance $i (export \"on-event\" (func $f)))
             (export \"berth:hook/handler@0.1.0\" (instance $i))"
        ))
    };
    for (what, candidate) in [
        ("no function", no_function),
        ("an import of another type", other_type),
        ("a function of another type", function("")),
        ("a start that traps", function("(start $s)")),
    ] {
        let refused = world.try_install(&candidate, Choice::default()).await.unwrap_err();
        let usual = matches!(refused, ExtensionError::Load(_) | ExtensionError::Start(_));
        assert!(usual, "{what}: {refused}");
    }
    // No test has this version compiled.
    let not_compiled = hook("7.0.2");
    let refused = world.registry.install(not_compiled, Choice::default(), by()).await.unwrap_err();
    assert!(matches!(refused, ExtensionError::Compile(_)), "{refused}");
    for bytes in [b"no component".to_vec(), hook("2.0.2")[..5_000].to_vec(), Vec::new()] {
        let refused = world.registry.install(bytes, Choice::default(), by()).await.unwrap_err();
        assert!(matches!(refused, ExtensionError::Component(_)), "{refused}");
    }
    let without = component("policy", &manifest("hook", "2.0.3", &everything_but("")));
    let refused = world.registry.install(without, Choice::default(), by()).await.unwrap_err();
    let exports_none =
        matches!(&refused, ExtensionError::Component(ExtensionRefusal::NoExport { .. }));
    assert!(exports_none, "{refused}");
    assert_eq!(row(&world).await, before);
    assert_eq!(world.hook(does("kv.get")).await, "ok");
}

#[tokio::test]
async fn a_name_stays_with_its_kind() {
    let world = World::new().await;
    world.install(&policy("1.0.0"), json!({ "verdict": "allow" })).await;
    let other = manifest("hook", "2.0.0", &everything_but("")).replace("acme.hook", "acme.policy");
    let other = component("hook", &other);
    let accept = world.registry.review(other.clone()).await.unwrap().hash;
    let yes = Choice { accept: Some(accept), ..Choice::default() };
    for choice in [yes, Choice::default()] {
        let refused = world.try_install(&other, choice).await.unwrap_err();
        assert!(matches!(refused, ExtensionError::Conflict(_)), "{refused}");
    }
    let row = world.store.extension(&id("acme.policy")).await.unwrap().unwrap();
    assert_eq!(row.version.manifest.version, "1.0.0");
}

#[tokio::test]
async fn secrets_are_those_that_it_asks_for() {
    let world = World::new().await;
    world.install(&hook("1.0.0"), json!({})).await;
    let set = async |name: &str| {
        world.registry.set_secret(&id("acme.hook"), name, Some("swordfish"), by()).await
    };
    set("two").await.unwrap();
    let refused = set("three").await.unwrap_err();
    assert!(refused.to_string().contains("does not ask for a secret 'three'"), "{refused}");
    let events = world.events("extension.secret").await;
    assert_eq!(events.len(), 1);
    assert!(!format!("{events:?}").contains("swordfish"));
    assert_eq!(world.hook(json!({ "do": "secrets.open", "name": "two" })).await, "ok");
    world.registry.set_secret(&id("acme.hook"), "two", None, by()).await.unwrap();
    assert_eq!(world.hook(json!({ "do": "secrets.open", "name": "two" })).await, "not-found");
}

#[tokio::test]
async fn everything_that_ships_with_berth_is_installed_and_starts() {
    let world = World::new().await;
    for (name, config) in [
        ("basic-auth", json!({})),
        ("chat-notify", json!({})),
        ("header-rules", json!({})),
        ("instance-rules", json!({})),
        ("jwt", json!({})),
        ("no-deploy-days", json!({})),
        ("rate-limit", json!({ "requests": 10 })),
        ("redact-secrets", json!({})),
        ("rfc5424-drain", json!({})),
        ("service-status", json!({})),
        ("webhook", json!({ "url": "http://127.0.0.1:1/" })),
    ] {
        world.install(&plugin(name), config).await;
        let health = world.health(&format!("berth.{name}"));
        assert_eq!((health.broken, health.loads), (None, 1), "{name}");
    }
    let all = world.again().await;
    for row in all.store.extensions().await.unwrap() {
        assert_eq!(all.health(row.id.as_str()).broken, None, "{}", row.id);
    }
}
