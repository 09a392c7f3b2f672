use berth_model::DeploymentState::{Checking, Failed, Fetching, RolledBack, Switching};
use berth_store::StoreError;

use crate::{Fixture, by};

#[tokio::test]
async fn states_only_go_forward_and_a_step_may_be_taken_twice() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let id = store.deployed(&app, 1).await.deployment.unwrap().id;
    store.advance_deployment(id, Checking, &by()).await.unwrap();
    let events = store.newest_event().await.unwrap();
    store.advance_deployment(id, Checking, &by()).await.unwrap();
    assert_eq!(store.newest_event().await.unwrap(), events, "nothing new, no event");
    let error = store.advance_deployment(id, Fetching, &by()).await.unwrap_err();
    assert!(matches!(error, StoreError::Backwards { .. }), "{error}");
    store.finish_deployment(id, Failed, Some("no port".into()), &by()).await.unwrap();
    let error = store.switch_deployment(id, &by()).await.unwrap_err();
    assert!(matches!(error, StoreError::Backwards { .. }), "{error}");
    let found = store.deployment(id).await.unwrap().unwrap();
    assert_eq!((found.state, found.error.as_deref()), (Failed, Some("no port")));
    assert_eq!(found.finished_at_ms, Some(by().at_ms));
    assert_eq!(store.app(app.id).await.unwrap().unwrap().current_release, None);
}

#[tokio::test]
async fn the_switch_remembers_what_served_before() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let first = store.serving(&app, 1).await;
    let done = store.deployed(&app, 2).await;
    let (second, id) = (done.release.unwrap(), done.deployment.unwrap().id);
    store.switch_deployment(id, &by()).await.unwrap();
    store.switch_deployment(id, &by()).await.unwrap();
    let found = store.deployment(id).await.unwrap().unwrap();
    assert_eq!((found.state, found.previous), (Switching, Some(first.id)));
    let app = store.app(app.id).await.unwrap().unwrap();
    assert_eq!(app.current_release, Some(second.id));
}

#[tokio::test]
async fn a_rollback_queues_the_release_before_exactly_once() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let first = store.serving(&app, 1).await;
    let id = store.deployed(&app, 2).await.deployment.unwrap().id;
    store.switch_deployment(id, &by()).await.unwrap();
    for _ in 0..2 {
        store.roll_back_deployment(id, "it exited".into(), &by()).await.unwrap();
    }
    assert_eq!(store.deployment(id).await.unwrap().unwrap().state, RolledBack);
    let waiting = store.snapshot(app.id).await.unwrap().unwrap().deployments;
    let [(back, release)] = waiting.as_slice() else { panic!("{waiting:?}") };
    assert!(back.rollback);
    assert_eq!((back.release, release), (first.id, &first));
}

#[tokio::test]
async fn deployments_keep_their_order_when_the_clock_stands_still_or_goes_back() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let mut expected = Vec::new();
    for n in 1..=8 {
        expected.push(store.deployed(&app, n).await.deployment.unwrap().id);
    }
    let waiting = store.snapshot(app.id).await.unwrap().unwrap().deployments;
    assert_eq!(waiting.iter().map(|(d, _)| d.id).collect::<Vec<_>>(), expected);
    let newest = store.deployments(app.id, None, 3).await.unwrap();
    assert_eq!(newest[0].id, expected[7]);
    let next = store.deployments(app.id, Some(newest[2].id), 2).await.unwrap();
    assert_eq!(next.iter().map(|d| d.id).collect::<Vec<_>>(), [expected[4], expected[3]]);
}
