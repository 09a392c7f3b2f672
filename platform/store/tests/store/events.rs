use berth_model::plan::Change;
use berth_store::{EventFilter, Order, Visible};

use crate::{Fixture, by};

#[tokio::test]
async fn every_change_writes_exactly_one_event_without_secrets() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    store.set(&app, &[("PASSWORD", "swordfish")]).await;
    store.serving(&app, 1).await;
    store.change(Some(app.id), &Change::Stop, None, &by()).await.unwrap();
    let all = EventFilter { app: Some(app.name.clone()), ..EventFilter::all(Visible::All) };
    let events = store.events(&all, Order::OldestAfter(0), 100).await.unwrap();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "app.created",
            "app.configured",
            "build.created",
            "build.finished",
            "release.created",
            "deployment.changed",
            "deployment.changed",
            "app.stopped"
        ]
    );
    let text = format!("{events:?}");
    assert!(!text.contains("swordfish"), "{text}");
    assert_eq!(events[1].after["changes"][0], "set PASSWORD (new)");
    assert_eq!(events[7].before["settings"]["stopped"], false);
    assert_eq!(events[7].after["settings"]["stopped"], true);
}

#[tokio::test]
async fn a_team_sees_its_own_events_only() {
    let store = Fixture::new().await;
    let other = store.create_team(&"other".parse().unwrap(), &by()).await.unwrap();
    store.new_app("mine").await;
    let create = Change::Create { name: "theirs".parse().unwrap(), team: other.id };
    store.change(None, &create, None, &by()).await.unwrap();
    store.adopt_admin_token("hash", 1).await.unwrap();
    let seen = |visible| {
        let filter = EventFilter::all(visible);
        let store = &store;
        async move {
            let events = store.events(&filter, Order::OldestAfter(0), 100).await.unwrap();
            events.into_iter().map(|event| event.kind).collect::<Vec<_>>()
        }
    };
    assert_eq!(seen(Visible::team(store.default_team())).await, ["app.created"]);
    assert_eq!(seen(Visible::team(other.id)).await, ["team.created", "app.created"]);
    assert_eq!(seen(Visible::All).await.len(), 4);
}

#[tokio::test]
async fn followers_are_woken_and_positions_never_return() {
    let store = Fixture::new().await;
    let mut newest = store.watch_events();
    let app = store.new_app("hello").await;
    let (id, first) = (app.id, store.newest_event().await.unwrap());
    assert!(newest.has_changed().unwrap());
    assert_eq!(*newest.borrow_and_update(), first);
    store.change(Some(id), &Change::Destroy, None, &by()).await.unwrap();
    store.erase_app(id, &by()).await.unwrap();
    let filter = EventFilter { app: Some(app.name.clone()), ..EventFilter::all(Visible::All) };
    let left = store.events(&filter, Order::OldestAfter(first), 10).await.unwrap();
    assert_eq!(left.len(), 2, "events outlive their app");
    assert!(left.iter().all(|event| event.seq > first));
}
