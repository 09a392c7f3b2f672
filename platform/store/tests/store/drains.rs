//! Log drains.

use berth_model::drain::{DRAINS_MAX, Reach};
use berth_store::{DrainCounts, DrainCursor, EventFilter, NewDrain, Order, Visible};

use super::*;

const URL: &str = "https://user:swordfish@logs.example.com/inputs/swordfish";

fn new(app: Option<&App>) -> NewDrain {
    NewDrain {
        app: app.map(|app| app.id),
        url: URL.parse().unwrap(),
        ca: None,
        reach: Reach::Public,
        processors: vec!["berth.redact-secrets".parse().unwrap()],
    }
}

#[tokio::test]
async fn the_address_of_a_drain_is_sealed_and_shown_nowhere() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let drain = store.create_drain(&new(Some(&app)), &by()).await.unwrap().unwrap();
    assert_eq!(drain.shown, "https://***@logs.example.com:443/***");
    assert_eq!(store.drain(drain.id).await.unwrap().unwrap(), drain);
    assert_eq!(store.drain_url(drain.id).await.unwrap().unwrap().reveal(), URL);
    let listed = store.drains(Some(app.team), None, None, 10).await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&drain));

    store.remove_drain(drain.id, &by()).await.unwrap();
    assert_eq!(store.drain(drain.id).await.unwrap(), None);
    let filter =
        EventFilter { app: Some(app.name.clone()), ..EventFilter::all(Visible::team(app.team)) };
    let events = store.events(&filter, Order::OldestAfter(0), 100).await.unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds[kinds.len() - 2..], ["drain.created", "drain.removed"]);
    store.close().await;
    let file = std::fs::read(store.path()).unwrap();
    assert!(!file.windows(9).any(|bytes| bytes == b"swordfish"));
}

#[tokio::test]
async fn a_drain_of_every_app_is_no_teams() {
    let store = Fixture::new().await;
    let drain = store.create_drain(&new(None), &by()).await.unwrap().unwrap();
    assert!(store.drains(Some(store.default_team()), None, None, 10).await.unwrap().is_empty());
    assert_eq!(store.drains(Visible::All, None, None, 10).await.unwrap(), [drain]);
}

#[tokio::test]
async fn a_drain_goes_on_where_it_was_and_its_positions_never_go_back() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let release = store.serving(&app, 1).await;
    store.put_instance(&instance(&release, 1), &by()).await.unwrap();
    let drain = store.create_drain(&new(Some(&app)), &by()).await.unwrap().unwrap();
    let sources = store.drain_sources(&drain).await.unwrap();
    assert_eq!(sources.len(), 1);
    assert_eq!(sources[0].instance.release, release.id);
    assert_eq!((sources[0].app.as_str(), sources[0].seq), ("hello", 0));

    let instance = sources[0].instance.id;
    let counts = DrainCounts { sent: 5, dropped: 2, unprocessed: 1 };
    for seq in [7, 3] {
        let cursor = DrainCursor { instance, seq, done: false };
        store.advance_drain(drain.id, &[cursor], counts).await.unwrap();
    }
    let again = store.again().await;
    assert_eq!(again.drain_sources(&drain).await.unwrap()[0].seq, 7);
    let now = again.drain(drain.id).await.unwrap().unwrap();
    assert_eq!(now.counts, DrainCounts { sent: 10, dropped: 4, unprocessed: 2 });

    let done = DrainCursor { instance, seq: 7, done: true };
    store.advance_drain(drain.id, &[done], DrainCounts::default()).await.unwrap();
    assert!(store.drain_sources(&drain).await.unwrap().is_empty());
    store.remove_drain(drain.id, &by()).await.unwrap();
    store.advance_drain(drain.id, &[done], counts).await.unwrap();
}

#[tokio::test]
async fn there_are_only_so_many_drains() {
    let store = Fixture::new().await;
    for _ in 0..DRAINS_MAX {
        assert!(store.create_drain(&new(None), &by()).await.unwrap().is_some());
    }
    assert!(store.create_drain(&new(None), &by()).await.unwrap().is_none());
}
