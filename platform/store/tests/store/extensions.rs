//! Installed extensions and what they keep.

use std::str::FromStr;

use berth_model::extension::{Capabilities, ExtensionId, ExtensionManifest, Grant};
use berth_store::{
    EventFilter, Extension, ExtensionState, ExtensionVersion, KvError, Order, Visible,
};
use serde_json::{Value, json};

use super::*;

const MANIFEST: &str = r#"
    [extension]
    id = "acme.notify"
    version = "1.0.0"
    kind = "hook"
    api = "berth:hook@0.1.0"
    [capabilities]
    events = { kinds = ["deployment.succeeded"], why = "to tell of it" }
    kv = { quota = "1KiB" }
    secrets = [{ name = "token" }]
"#;
const NOW: i64 = 1_700_000_000_000;

fn id() -> ExtensionId {
    ExtensionId::from_str("acme.notify").unwrap()
}

fn version(n: u8) -> ExtensionVersion {
    ExtensionVersion {
        component: Digest::from_sha256([n; 32]),
        manifest: ExtensionManifest::parse(MANIFEST).unwrap(),
    }
}

fn extension() -> Extension {
    let asked = version(1).manifest.capabilities;
    Extension {
        id: id(),
        version: version(1),
        grant: Grant { asked: asked.clone(), granted: asked },
        config: json!({ "channel": "swordfish" }),
        apps: None,
        state: ExtensionState::Active,
        waiting: None,
        seen: 7,
        installed_at_ms: NOW,
        changed_at_ms: NOW,
    }
}

fn operator() -> By {
    By { name: "user:olga".into(), ..by() }
}

async fn installed() -> Fixture {
    let store = Fixture::new().await;
    store.put_extension(&extension(), &by()).await.unwrap();
    store
}

/// Writes events about something, and gives their positions.
async fn events(store: &Store, count: usize) -> Vec<i64> {
    let mut seqs = Vec::new();
    for _ in 0..count {
        store.extension_event("extension.own", &id(), Value::Null, &by()).await.unwrap();
        seqs.push(store.newest_event().await.unwrap());
    }
    seqs
}

async fn due(store: &Store, now_ms: i64) -> Vec<i64> {
    let due = store.due_deliveries(&id(), now_ms, 100).await.unwrap();
    due.iter().map(|delivery| delivery.event.seq).collect()
}

async fn set(
    store: &Store,
    (key, value): (&str, &str),
    expires_at_ms: Option<i64>,
    absent_only: bool,
    now_ms: i64,
) -> Result<bool, KvError> {
    let pair = (key, value.as_bytes());
    store.put_extension_value(&id(), pair, expires_at_ms, absent_only, (64, now_ms)).await
}

#[tokio::test]
async fn an_extension_is_read_as_it_was_written_also_by_the_next_process() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let new = Extension {
        apps: Some(vec![app.id]),
        waiting: Some(version(2)),
        state: ExtensionState::Quarantined,
        ..extension()
    };
    store.put_extension(&new, &by()).await.unwrap();
    let again = store.again().await;
    assert_eq!(again.extension(&id()).await.unwrap(), Some(new.clone()));
    assert_eq!(again.extensions().await.unwrap(), [new]);
}

#[tokio::test]
async fn each_other_grant_leaves_who_gave_what_and_when() {
    let store = installed().await;
    let disabled = Extension { state: ExtensionState::Disabled, ..extension() };
    store.put_extension(&disabled, &operator()).await.unwrap();
    assert_eq!(store.extension_grants(&id()).await.unwrap().len(), 1, "it is the same grant");

    let narrower = Grant { granted: Capabilities::default(), ..extension().grant };
    let new = Extension { grant: narrower.clone(), version: version(2), ..extension() };
    store.put_extension(&new, &By { at_ms: NOW + 5, ..operator() }).await.unwrap();
    let grants = store.extension_grants(&id()).await.unwrap();
    assert_eq!(grants.len(), 2);
    assert_eq!((grants[0].at_ms, grants[0].actor.as_str()), (NOW + 5, "user:olga"));
    assert_eq!((grants[0].component, &grants[0].grant), (version(2).component, &narrower));
    assert_eq!(grants[1].grant, extension().grant);
}

#[tokio::test]
async fn events_tell_what_was_granted_and_no_configuration() {
    let store = installed().await;
    store.put_extension(&extension(), &by()).await.unwrap();
    assert!(store.remove_extension(&id(), &by()).await.unwrap());
    let all = EventFilter::all(Visible::All);
    let events = store.events(&all, Order::OldestAfter(0), 100).await.unwrap();
    let own: Vec<_> = events.iter().filter(|event| event.subject == "acme.notify").collect();
    let kinds: Vec<_> = own.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["extension.installed", "extension.changed", "extension.removed"]);
    assert_eq!(own[0].after["granted"]["kv"]["quota"], "1KiB");
    assert!(!format!("{events:?}").contains("swordfish"));
    let app = store.new_app("hello").await;
    let filter = EventFilter::all(Visible::team(app.team));
    let seen = store.events(&filter, Order::OldestAfter(0), 100).await.unwrap();
    assert!(seen.iter().all(|event| event.subject != "acme.notify"), "a team saw {seen:?}");
}

#[tokio::test]
async fn a_secret_is_sealed_and_in_no_event() {
    let store = installed().await;
    store.set_extension_secret(&id(), "token", Some("swordfish"), &by()).await.unwrap();
    assert_eq!(store.extension_secret_names(&id()).await.unwrap(), ["token"]);
    let value = store.extension_secret(&id(), "token").await.unwrap();
    assert_eq!(value.as_deref(), Some("swordfish"));
    assert_eq!(store.extension_secret(&id(), "other").await.unwrap(), None);

    let all = EventFilter::all(Visible::All);
    let events = store.events(&all, Order::OldestAfter(0), 100).await.unwrap();
    let last = events.last().unwrap();
    assert_eq!((last.kind.as_str(), &last.after["secret"]), ("extension.secret", &json!("token")));
    assert!(!format!("{events:?}").contains("swordfish"));

    // The configuration of the fixture has the same word: what is searched for is this value alone.
    store.set_extension_secret(&id(), "token", Some("mackerel"), &by()).await.unwrap();
    store.close().await;
    let file = std::fs::read(store.path()).unwrap();
    assert!(!file.windows(8).any(|bytes| bytes == b"mackerel"));

    let again = store.again().await;
    again.set_extension_secret(&id(), "token", None, &by()).await.unwrap();
    assert_eq!(again.extension_secret(&id(), "token").await.unwrap(), None);
    assert!(again.extension_secret_names(&id()).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_extension_that_is_not_there_has_no_secrets_and_no_values() {
    let store = Fixture::new().await;
    let secret = store.set_extension_secret(&id(), "token", Some("x"), &by()).await;
    assert!(secret.is_err());
    assert!(set(&store, ("key", "value"), None, false, NOW).await.is_err());
    let lines = [(NOW, "info", "lost".to_owned())];
    store.add_extension_lines(&id(), &lines).await.unwrap();
    assert!(store.extension_lines(&id(), None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn values_are_kept_within_the_quota_and_what_does_not_fit_changes_nothing() {
    let store = installed().await;
    let full = "v".repeat(60);
    assert!(set(&store, ("key1", &full), None, false, NOW).await.unwrap());
    let error = set(&store, ("b", ""), None, false, NOW).await.unwrap_err();
    assert!(matches!(error, KvError::Quota { quota_bytes: 64 }), "{error}");
    let error = set(&store, ("key1", &"v".repeat(61)), None, false, NOW).await.unwrap_err();
    assert!(matches!(error, KvError::Quota { .. }), "{error}");
    let value = store.extension_value(&id(), "key1", NOW).await.unwrap();
    assert_eq!(value.unwrap(), full.as_bytes());
    assert_eq!(store.extension_keys(&id(), "", 10, NOW).await.unwrap(), ["key1"]);

    assert!(store.remove_extension_value(&id(), "key1", NOW).await.unwrap());
    assert!(!store.remove_extension_value(&id(), "key1", NOW).await.unwrap());
    assert!(set(&store, ("b", ""), None, false, NOW).await.unwrap());
}

#[tokio::test]
async fn a_value_ends_at_its_time_and_gives_its_room_back() {
    let store = installed().await;
    let full = "v".repeat(60);
    assert!(set(&store, ("key1", &full), Some(NOW + 10), false, NOW).await.unwrap());
    assert!(store.extension_value(&id(), "key1", NOW + 9).await.unwrap().is_some());
    assert_eq!(store.extension_value(&id(), "key1", NOW + 10).await.unwrap(), None);
    assert!(store.extension_keys(&id(), "", 10, NOW + 10).await.unwrap().is_empty());
    assert!(!store.remove_extension_value(&id(), "key1", NOW + 10).await.unwrap());
    assert!(set(&store, ("key2", &full), None, false, NOW + 10).await.unwrap());
}

#[tokio::test]
async fn a_key_is_set_once_where_it_must_be_absent() {
    let store = installed().await;
    assert!(set(&store, ("seen", "1"), Some(NOW + 10), true, NOW).await.unwrap());
    assert!(!set(&store, ("seen", "2"), None, true, NOW + 9).await.unwrap());
    assert_eq!(store.extension_value(&id(), "seen", NOW).await.unwrap().unwrap(), b"1");
    assert!(set(&store, ("seen", "3"), None, true, NOW + 10).await.unwrap());
    assert!(set(&store, ("seen", "4"), None, false, NOW + 10).await.unwrap());
    assert_eq!(store.extension_value(&id(), "seen", NOW).await.unwrap().unwrap(), b"4");
}

#[tokio::test]
async fn keys_are_listed_by_prefix_to_the_letter_and_in_order() {
    let store = installed().await;
    for key in ["a/2", "a/1", "A/1", "a%1", "b", "ä/1"] {
        assert!(set(&store, (key, ""), None, false, NOW).await.unwrap());
    }
    let keys = async |prefix: &str, most| store.extension_keys(&id(), prefix, most, NOW).await;
    assert_eq!(keys("a/", 10).await.unwrap(), ["a/1", "a/2"]);
    assert_eq!(keys("a/", 1).await.unwrap(), ["a/1"]);
    assert_eq!(keys("a%", 10).await.unwrap(), ["a%1"]);
    assert_eq!(keys("ä", 10).await.unwrap(), ["ä/1"]);
    assert_eq!(keys("", 10).await.unwrap(), ["A/1", "a%1", "a/1", "a/2", "b", "ä/1"]);
}

#[tokio::test]
async fn events_of_one_subject_are_delivered_in_their_order_and_others_do_not_wait() {
    let store = installed().await;
    let seq = events(&store, 3).await;
    let wanted =
        [(seq[0], "one".to_owned()), (seq[1], "one".to_owned()), (seq[2], "two".to_owned())];
    store.add_deliveries(&id(), seq[2], &wanted, NOW).await.unwrap();
    assert_eq!(due(&store, NOW).await, [seq[0], seq[2]]);

    store.not_delivered(&id(), seq[0], Some(NOW + 1_000), "refused").await.unwrap();
    store.delivered(&id(), seq[2]).await.unwrap();
    assert_eq!(due(&store, NOW + 999).await, [0; 0], "the second waits for the first");
    // Not the second's own time, which came already: whoever waits for it would never rest.
    assert_eq!(store.next_delivery_at_ms(&id()).await.unwrap(), Some(NOW + 1_000));
    assert_eq!(due(&store, NOW + 1_000).await, [seq[0]]);
    let first = store.due_deliveries(&id(), NOW + 1_000, 1).await.unwrap().remove(0);
    assert_eq!((first.attempts, first.error.as_deref()), (1, Some("refused")));

    store.delivered(&id(), seq[0]).await.unwrap();
    assert_eq!(due(&store, NOW + 1_000).await, [seq[1]]);
    store.delivered(&id(), seq[1]).await.unwrap();
    assert_eq!(store.next_delivery_at_ms(&id()).await.unwrap(), None);
}

#[tokio::test]
async fn a_dead_letter_holds_nobody_up_and_is_offered_again_on_request() {
    let store = installed().await;
    let seq = events(&store, 2).await;
    let wanted = [(seq[0], "one".to_owned()), (seq[1], "one".to_owned())];
    store.add_deliveries(&id(), seq[1], &wanted, NOW).await.unwrap();
    store.not_delivered(&id(), seq[0], None, "refused").await.unwrap();
    assert_eq!(due(&store, NOW + 1).await, [seq[1]]);
    store.delivered(&id(), seq[1]).await.unwrap();
    assert_eq!(store.next_delivery_at_ms(&id()).await.unwrap(), None);

    let kept = store.deliveries(&id(), 10).await.unwrap();
    assert_eq!((kept.len(), kept[0].dead, kept[0].event.seq), (1, true, seq[0]));
    assert_eq!(store.replay_deliveries(&id(), Some(seq[1]), NOW + 2).await.unwrap(), 0);
    assert_eq!(store.replay_deliveries(&id(), Some(seq[0]), NOW + 2).await.unwrap(), 1);
    let again = store.due_deliveries(&id(), NOW + 2, 10).await.unwrap();
    assert_eq!((again[0].attempts, again[0].dead), (0, false));
    store.not_delivered(&id(), seq[0], None, "refused").await.unwrap();
    assert_eq!(store.replay_deliveries(&id(), None, NOW + 3).await.unwrap(), 1);
}

#[tokio::test]
async fn what_a_hook_was_asked_about_never_goes_back() {
    let store = installed().await;
    let seen = async || store.extension(&id()).await.unwrap().unwrap().seen;
    let seq = events(&store, 1).await[0];
    store.add_deliveries(&id(), 40, &[(seq, "one".to_owned())], NOW).await.unwrap();
    store.add_deliveries(&id(), 30, &[(seq, "one".to_owned())], NOW + 5).await.unwrap();
    assert_eq!(seen().await, 40);
    assert_eq!(due(&store, NOW).await, [seq], "it has one row, as it was first noted");
    store.put_extension(&Extension { seen: 1, ..extension() }, &by()).await.unwrap();
    assert_eq!(seen().await, 40);
}

#[tokio::test]
async fn a_delivery_goes_with_its_event() {
    let store = installed().await;
    let seq = events(&store, 2).await;
    let later = By { at_ms: NOW + 100 * 86_400_000, ..by() };
    store.extension_event("extension.own", &id(), Value::Null, &later).await.unwrap();
    let last = store.newest_event().await.unwrap();
    let wanted: Vec<_> = [seq[0], seq[1], last].map(|seq| (seq, "one".to_owned())).into();
    store.add_deliveries(&id(), last, &wanted, NOW).await.unwrap();
    store.sweep(later.at_ms).await.unwrap();
    assert_eq!(due(&store, later.at_ms).await, [last], "nothing that is gone holds it up");
    assert_eq!(store.deliveries(&id(), 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_log_keeps_the_last_two_thousand_lines() {
    let store = installed().await;
    for from in [0, 1_500] {
        let lines: Vec<_> =
            (from..from + 1_500).map(|n| (NOW + n, "info", format!("line {n}"))).collect();
        store.add_extension_lines(&id(), &lines).await.unwrap();
    }
    let all = store.extension_lines(&id(), Some(0), 5_000).await.unwrap();
    assert_eq!(all.len(), 2_000);
    assert_eq!((all[0].seq, all[0].line.as_str()), (1_001, "line 1000"));
    let last = store.extension_lines(&id(), None, 2).await.unwrap();
    let texts: Vec<_> = last.iter().map(|line| line.line.as_str()).collect();
    assert_eq!(texts, ["line 2998", "line 2999"]);
    let next = store.extension_lines(&id(), Some(last[0].seq), 10).await.unwrap();
    assert_eq!(next, last[1..]);
}

#[tokio::test]
async fn everything_of_an_extension_goes_with_it() {
    let store = installed().await;
    store.set_extension_secret(&id(), "token", Some("x"), &by()).await.unwrap();
    assert!(set(&store, ("key", "value"), None, false, NOW).await.unwrap());
    let seq = events(&store, 1).await[0];
    store.add_deliveries(&id(), seq, &[(seq, "one".to_owned())], NOW).await.unwrap();
    store.add_extension_lines(&id(), &[(NOW, "info", "hello".to_owned())]).await.unwrap();

    assert!(store.remove_extension(&id(), &by()).await.unwrap());
    assert!(!store.remove_extension(&id(), &by()).await.unwrap());
    assert_eq!(store.extension(&id()).await.unwrap(), None);
    // One of the same name begins with nothing.
    store.put_extension(&extension(), &by()).await.unwrap();
    assert_eq!(store.extension_grants(&id()).await.unwrap().len(), 1);
    assert!(store.extension_secret_names(&id()).await.unwrap().is_empty());
    assert_eq!(store.extension_value(&id(), "key", NOW).await.unwrap(), None);
    assert!(store.deliveries(&id(), 10).await.unwrap().is_empty());
    assert!(store.extension_lines(&id(), None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_components_of_extensions_are_in_use() {
    let store = installed().await;
    let new = Extension { waiting: Some(version(2)), ..extension() };
    store.put_extension(&new, &by()).await.unwrap();
    let used = store.blobs_in_use().await.unwrap();
    assert!(used.contains(&version(1).component) && used.contains(&version(2).component));
}
