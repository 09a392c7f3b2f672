//! Buildpacks that were added, and their order.

use berth_model::BuildpackId;
use berth_model::buildpack::{BuildpackGroup, BuildpackManifest};
use berth_store::{AddedBuildpack, EventFilter, Order, Visible};

use super::*;

fn id(text: &str) -> BuildpackId {
    text.parse().unwrap()
}

fn buildpack(name: &str, n: u8, at_ms: i64) -> AddedBuildpack {
    AddedBuildpack {
        component: Digest::from_sha256([n; 32]),
        manifest: BuildpackManifest {
            id: id(name),
            version: format!("{n}.0.0"),
            description: String::new(),
        },
        added_at_ms: at_ms,
        changed_at_ms: at_ms,
    }
}

fn groups(texts: &[&str]) -> Vec<BuildpackGroup> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

async fn kinds(store: &Store) -> Vec<String> {
    let all = EventFilter::all(Visible::All);
    let events = store.events(&all, Order::OldestAfter(0), 100).await.unwrap();
    let ours = events.into_iter().filter(|event| event.kind.starts_with("buildpack."));
    ours.map(|event| event.kind).collect()
}

#[tokio::test]
async fn buildpacks_are_kept_with_their_blobs_the_newest_first() {
    let store = Fixture::new().await;
    let (first, second) = (buildpack("first", 1, 10), buildpack("second", 2, 20));
    store.put_buildpack(&first, &[], &by()).await.unwrap();
    store.put_buildpack(&second, &[], &by()).await.unwrap();
    // Another component of it: what it was added as, and its place, stay.
    let changed = AddedBuildpack { changed_at_ms: 30, ..buildpack("first", 3, 10) };
    store.put_buildpack(&changed, &[], &by()).await.unwrap();
    let again = store.again().await;
    assert_eq!(again.buildpacks().await.unwrap(), [second.clone(), changed.clone()]);
    assert_eq!(again.buildpack(&id("first")).await.unwrap(), Some(changed));
    let used = store.blobs_in_use().await.unwrap();
    let digest = |n| Digest::from_sha256([n; 32]);
    assert!(used.contains(&digest(2)) && used.contains(&digest(3)) && !used.contains(&digest(1)));
    assert!(store.remove_buildpack(&id("first"), &[], &by()).await.unwrap());
    assert!(!store.remove_buildpack(&id("first"), &[], &by()).await.unwrap());
    assert_eq!(store.buildpacks().await.unwrap(), [second]);
    assert_eq!(
        kinds(&store).await,
        ["buildpack.added", "buildpack.added", "buildpack.changed", "buildpack.removed"]
    );
}

#[tokio::test]
async fn an_order_is_kept_as_a_whole() {
    let store = Fixture::new().await;
    assert_eq!(store.buildpack_order().await.unwrap(), []);
    let order = groups(&["second", "first,procfile?"]);
    store.set_buildpack_order(&order, &by()).await.unwrap();
    assert_eq!(store.again().await.buildpack_order().await.unwrap(), order);
    let shorter = groups(&["first"]);
    store.put_buildpack(&buildpack("first", 1, 10), &shorter, &by()).await.unwrap();
    assert_eq!(store.buildpack_order().await.unwrap(), shorter);
    store.remove_buildpack(&id("first"), &[], &by()).await.unwrap();
    assert_eq!(store.buildpack_order().await.unwrap(), []);
}
