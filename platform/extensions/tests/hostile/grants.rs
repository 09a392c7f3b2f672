//! Guests that use what they were not granted: refused when they are installed, where their
//! manifest does not name it, and at every call, where the grant has less than the manifest.

use berth_extensions::{ExtensionRefusal, check_extension};
use berth_model::extension::Capabilities;

use super::beside::attacked;
use super::build::guest;
use super::host::everything;

/// A guest, the capability that it needs, and the grant without it.
fn needs() -> Vec<(&'static str, &'static str, Capabilities)> {
    let all = everything;
    let other = |key: &str| {
        let entry = serde_json::json!([{ "name": "other" }]);
        serde_json::from_value::<Capabilities>(serde_json::json!({ key: entry })).unwrap()
    };
    vec![
        ("hook/keeps-a-value", "kv", Capabilities { kv: None, ..all() }),
        ("hook/lists-values", "kv", Capabilities { kv: None, ..all() }),
        ("hook/uses-a-secret", "secrets", Capabilities { secrets: Vec::new(), ..all() }),
        (
            "hook/reads-a-secret",
            "secrets-read",
            // It may use the secret then, and not read it.
            Capabilities {
                secrets: serde_json::from_value(serde_json::json!([{ "name": "read" }])).unwrap(),
                secrets_read: other("secrets-read").secrets_read,
                ..all()
            },
        ),
        ("hook/emits-an-event", "emit", Capabilities { emit: other("emit").emit, ..all() }),
        ("hook/reads-the-clock", "clock", Capabilities { clock: None, ..all() }),
        ("hook/measures", "metrics", Capabilities { metrics: None, ..all() }),
        ("hook/counts", "counters", Capabilities { counters: None, ..all() }),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_granted_works() {
    for (name, _, _) in needs() {
        let attacked = attacked(name, |_| {}).await;
        assert!(attacked.ended.result.is_ok(), "{name}: {:?}", attacked.ended);
        assert!(attacked.guest.host.denied.lock().unwrap().is_empty(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_granted_is_denied_by_the_call_and_told_of() {
    for (name, capability, granted) in needs() {
        let attacked = attacked(name, |guest| guest.granted = granted).await;
        assert_denied(&attacked, name, capability);
    }
    let none = |guest: &mut super::host::Guest| guest.granted.http = Vec::new();
    assert_denied(&attacked("hook/asks-a-server", none).await, "hook/asks-a-server", "http");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_was_not_granted_is_denied_by_the_call() {
    for (name, capability) in [
        ("hook/uses-another-secret", "secrets"),
        ("hook/reads-what-it-may-use", "secrets-read"),
        ("hook/emits-another-event", "emit"),
    ] {
        assert_denied(&attacked(name, |_| {}).await, name, capability);
    }
}

#[track_caller]
fn assert_denied(attacked: &super::beside::Attacked, name: &str, capability: &str) {
    let failure = attacked.ended.failure();
    assert_eq!(failure.code, "denied", "{name}: {failure:?}");
    assert!(!failure.retry, "{name}");
    let denied = attacked.guest.host.denied.lock().unwrap();
    assert!(!denied.is_empty(), "{name} was not told of");
    assert!(denied.iter().all(|(of, _)| *of == capability), "{name}: {denied:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_granted_has_a_form() {
    for name in [
        "hook/keeps-under-a-long-key",
        "hook/counts-for-ever",
        "hook/measures-a-foreign-name",
        "hook/measures-nothing",
    ] {
        let attacked = attacked(name, |_| {}).await;
        assert_eq!(attacked.ended.failure().code, "invalid", "{name}");
        assert!(attacked.guest.host.measures.lock().unwrap().is_empty(), "{name}");
    }
}

/// The component with a manifest that asks for this.
fn with_manifest(component: &mut Vec<u8>, kind: &str, capabilities: &str) {
    let manifest = format!(
        "[extension]\nid = \"test.guest\"\nversion = \"0.1.0\"\nkind = \"{kind}\"\n\
         api = \"berth:{kind}@0.1.0\"\n[capabilities]\n{capabilities}\n"
    );
    let section = wasm_encoder::CustomSection {
        name: "berth:extension".into(),
        data: manifest.as_bytes().into(),
    };
    wasm_encoder::ComponentSection::append_to_component(&section, component);
}

#[test]
fn what_the_manifest_does_not_name_is_refused_when_it_is_installed() {
    let mut all = needs();
    all.push(("hook/asks-a-server", "http", Capabilities::default()));
    for (name, capability, _) in all {
        let mut component = guest(name);
        with_manifest(&mut component, "hook", "");
        let refused = check_extension(&component).unwrap_err();
        let ExtensionRefusal::Missing { advice, .. } = &refused else {
            panic!("{name}: {refused}")
        };
        // Whoever opens a secret needs one of two capabilities.
        let named = advice.contains(&format!("`{capability}`"));
        assert!(named || name == "hook/reads-a-secret", "{name}: {refused}");
    }
}

#[test]
fn what_a_kind_cannot_have_is_refused_when_it_is_installed() {
    for (kind, capability) in [
        ("policy", "http = [{ host = \"api.example\", methods = [\"GET\"] }]"),
        ("policy", "secrets = [{ name = \"a\" }]"),
        ("policy", "clock = {}"),
        ("log-processor", "kv = { quota = \"1MiB\" }"),
        ("console", "emit = [{ name = \"done\" }]"),
        ("hook", "counters = {}"),
        ("hook", "body = { bytes = \"1KiB\" }"),
        ("middleware", "kv = { quota = \"1MiB\" }"),
        ("addon", "metrics = {}"),
    ] {
        let mut component = wat::parse_str("(component)").unwrap();
        with_manifest(&mut component, kind, capability);
        let refused = check_extension(&component).unwrap_err();
        assert!(matches!(refused, ExtensionRefusal::Manifest(_)), "{kind} {capability}: {refused}");
        assert!(refused.to_string().contains("cannot have it"), "{refused}");
    }
}
