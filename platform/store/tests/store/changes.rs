use berth_model::DeploymentState;
use berth_model::plan::{Change, Refusal};
use berth_store::StoreError;

use crate::{Fixture, by, configure};

#[tokio::test]
async fn a_destroyed_app_frees_its_name_at_once_and_its_block_when_it_is_erased() {
    let store = Fixture::new().await;
    let (first, second) = (store.new_app("first").await, store.new_app("second").await);
    assert_eq!((first.block, second.block), (0, 1));
    store.serving(&first, 1).await;
    let add = Change::AddDomain("www.example.org".parse().unwrap());
    store.change(Some(first.id), &add, None, &by()).await.unwrap();
    store.change(Some(first.id), &Change::Destroy, None, &by()).await.unwrap();

    assert_eq!(store.app(first.id).await.unwrap(), None);
    assert!(store.snapshot(first.id).await.unwrap().is_none());
    let again = store.new_app("first").await;
    assert_eq!(again.block, 2, "the old block may still be in use");
    store.change(Some(again.id), &add, None, &by()).await.unwrap();

    let destroyed = store.destroyed_apps().await.unwrap();
    assert_eq!(destroyed.iter().map(|app| app.id).collect::<Vec<_>>(), [first.id]);
    store.erase_app(first.id, &by()).await.unwrap();
    store.erase_app(first.id, &by()).await.unwrap();
    assert!(store.destroyed_apps().await.unwrap().is_empty());
    assert_eq!(store.new_app("third").await.block, 0);
    store.erase_app(second.id, &by()).await.unwrap();
    assert!(store.app(second.id).await.unwrap().is_some(), "what lives is not erased");
}

#[tokio::test]
async fn a_release_takes_the_newest_configuration_and_a_rollback_its_own() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    store.set(&app, &[("A", "1")]).await;
    let first = store.serving(&app, 1).await;
    assert_eq!((first.number, first.config_version), (1, 1));
    let set = store.set(&app, &[("A", "2")]).await;
    let second = set.release.unwrap();
    assert_eq!((second.number, second.config_version, second.image), (2, 2, first.image));
    let deployment = set.deployment.unwrap().id;
    store.switch_deployment(deployment, &by()).await.unwrap();
    store.finish_deployment(deployment, DeploymentState::Done, None, &by()).await.unwrap();

    let back = Change::Rollback { to: None };
    let done = store.change(Some(app.id), &back, None, &by()).await.unwrap();
    let third = done.release.unwrap();
    assert_eq!((third.number, third.config_version), (3, 1));
    assert_eq!(third.reason, "Rollback to v1");
    let (version, config) = store.config(app.id).await.unwrap();
    assert_eq!((version, config[&"A".parse().unwrap()].reveal()), (1, "1"));
    // The next change never writes over a version that exists.
    store.set(&app, &[("A", "3")]).await;
    assert_eq!(store.config(app.id).await.unwrap().0, 3);
}

#[tokio::test]
async fn a_change_of_configuration_is_released_from_what_is_on_its_way() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    store.serving(&app, 1).await;
    let pushed = store.deployed(&app, 2).await;
    let set = store.set(&app, &[("A", "1")]).await.release.unwrap();
    assert_eq!(set.image, crate::image(2).digest);
    // Neither came to run: what serves is the base again.
    let failed = DeploymentState::Failed;
    for deployment in store.deployments(app.id, None, 10).await.unwrap() {
        if !deployment.state.is_terminal() {
            store.finish_deployment(deployment.id, failed, None, &by()).await.unwrap();
        }
    }
    assert_eq!(pushed.release.unwrap().number, 2);
    let set = store.set(&app, &[("A", "2")]).await.release.unwrap();
    assert_eq!(set.image, crate::image(1).digest);
}

#[tokio::test]
async fn an_app_that_never_ran_can_be_mended_by_configuration() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let deployment = store.deployed(&app, 1).await.deployment.unwrap().id;
    let failed = DeploymentState::Failed;
    store
        .finish_deployment(deployment, failed, Some("no DATABASE_URL".into()), &by())
        .await
        .unwrap();
    let set = store.set(&app, &[("DATABASE_URL", "x")]).await;
    assert_eq!(set.release.unwrap().image, crate::image(1).digest);
    assert!(set.deployment.is_some());
}

#[tokio::test]
async fn names_and_domains_are_given_once() {
    let store = Fixture::new().await;
    let (one, two) = (store.new_app("one").await, store.new_app("two").await);
    let rename = Change::Rename("two".parse().unwrap());
    let error = store.change(Some(one.id), &rename, None, &by()).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(Refusal::NameTaken(_))), "{error}");
    let add = Change::AddDomain("www.example.org".parse().unwrap());
    store.change(Some(one.id), &add, None, &by()).await.unwrap();
    let error = store.change(Some(two.id), &add, None, &by()).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(Refusal::DomainTaken(_))), "{error}");
}

#[tokio::test]
async fn a_change_that_changes_nothing_writes_nothing() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    store.set(&app, &[("A", "1")]).await;
    let before = store.newest_event().await.unwrap();
    let done = store.set(&app, &[("A", "1")]).await;
    assert!(done.plan.is_empty() && done.release.is_none());
    assert_eq!(store.newest_event().await.unwrap(), before);
    assert_eq!(done.app.generation, 2);
}

#[tokio::test]
async fn an_expected_generation_is_held_to() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let change = configure(&[("A", "1")]);
    let error = store.change(Some(app.id), &change, Some(9), &by()).await.unwrap_err();
    assert!(matches!(error, StoreError::Changed { expected: 9, found: 1 }), "{error}");
    store.change(Some(app.id), &change, Some(1), &by()).await.unwrap();
}

#[tokio::test]
async fn a_release_never_changes() {
    use sqlx::ConnectOptions;
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    store.serving(&app, 1).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(store.path());
    let mut other = options.connect().await.unwrap();
    let error = sqlx::query("UPDATE releases SET reason = 'x'").execute(&mut other).await;
    assert!(error.unwrap_err().to_string().contains("immutable"));
}
