use berth_model::VolumeName;
use berth_model::plan::{Change, NewVolume, Refusal};
use berth_store::StoreError;

use crate::{Fixture, by};

fn create(name: &str, path: &str) -> Change {
    let volume = NewVolume {
        name: name.parse().unwrap(),
        process: "web".parse().unwrap(),
        path: path.parse().unwrap(),
        size_mib: 64,
    };
    Change::CreateVolume { volume, restart: true }
}

fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_volume_is_kept_with_the_app_and_begins_what_runs_anew() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    store.serving(&app, 1).await;
    let done = store.change(Some(app.id), &create("data", "/data"), None, &by()).await.unwrap();
    assert_eq!(done.app.settings.restarts, 1);
    let volumes = store.volumes(app.id).await.unwrap();
    assert_eq!(volumes.len(), 1);
    assert_eq!(
        (volumes[0].name.as_str(), volumes[0].size_mib, volumes[0].made),
        ("data", 64, false)
    );
    store.volumes_made(&[volumes[0].id]).await.unwrap();
    let snapshot = store.again().await.snapshot(app.id).await.unwrap().unwrap();
    assert!(snapshot.volumes[0].made);
    let again = store.change(Some(app.id), &create("data", "/other"), None, &by()).await;
    assert!(matches!(again, Err(StoreError::Refused(Refusal::VolumeTaken(_)))));
}

#[tokio::test]
async fn a_removed_volume_is_forgotten_when_its_disk_is_gone_and_its_name_is_free_at_once() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    store.change(Some(app.id), &create("data", "/data"), None, &by()).await.unwrap();
    let id = store.volumes(app.id).await.unwrap()[0].id;
    // What is there cannot be forgotten.
    store.erase_volume(id).await.unwrap();
    assert_eq!(store.volumes(app.id).await.unwrap().len(), 1);
    let remove = Change::RemoveVolume(name("data"));
    store.change(Some(app.id), &remove, None, &by()).await.unwrap();
    assert!(store.volumes(app.id).await.unwrap().is_empty());
    assert_eq!(store.removed_volumes(None).await.unwrap(), [id]);
    store.change(Some(app.id), &create("data", "/data"), None, &by()).await.unwrap();
    assert_ne!(store.volumes(app.id).await.unwrap()[0].id, id);
    store.erase_volume(id).await.unwrap();
    assert!(store.removed_volumes(None).await.unwrap().is_empty());
}

#[tokio::test]
async fn volumes_of_a_destroyed_app_wait_for_their_disks_to_go() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    store.change(Some(app.id), &create("data", "/data"), None, &by()).await.unwrap();
    let id = store.volumes(app.id).await.unwrap()[0].id;
    let refused = store.change(Some(app.id), &Change::Destroy, None, &by()).await;
    assert!(matches!(refused, Err(StoreError::Refused(Refusal::HasVolumes(_)))));
    assert!(store.removed_volumes(None).await.unwrap().is_empty());
    store.change(Some(app.id), &Change::DestroyWithVolumes, None, &by()).await.unwrap();
    assert_eq!(store.removed_volumes(Some(app.id)).await.unwrap(), [id]);
}
