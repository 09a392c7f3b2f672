use berth_model::{InstanceState, TargetAddress};
use berth_store::StoreError;

use crate::{Fixture, by, instance};

#[tokio::test]
async fn an_instance_reads_back_as_it_was_written() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let release = store.serving(&app, 1).await;
    let mut record = instance(&release, 1);
    store.put_instance(&record, &by()).await.unwrap();
    record.state = InstanceState::Ready;
    record.address = Some(TargetAddress::Tcp("10.0.0.2:5000".parse().unwrap()));
    record.answering = Some(1);
    record.ready_at_ms = Some(5);
    store.put_instance(&record, &by()).await.unwrap();
    assert_eq!(store.instance(record.id).await.unwrap(), Some(record.clone()));
    let events = store.newest_event().await.unwrap();
    store.put_instance(&record, &by()).await.unwrap();
    assert_eq!(store.newest_event().await.unwrap(), events, "nothing new, no event");
}

#[tokio::test]
async fn an_instance_never_goes_back() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let release = store.serving(&app, 1).await;
    let mut record = instance(&release, 1);
    record.state = InstanceState::Stopped;
    record.stopped_at_ms = Some(2);
    store.put_instance(&record, &by()).await.unwrap();
    for state in [InstanceState::Running, InstanceState::Failed] {
        let back = berth_model::InstanceRecord { state, ..record.clone() };
        let error = store.put_instance(&back, &by()).await.unwrap_err();
        assert!(matches!(error, StoreError::Backwards { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_snapshot_has_what_runs_what_holds_an_address_and_what_counts_against_a_deployment() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let done = store.deployed(&app, 1).await;
    let (release, deployment) = (done.release.unwrap(), done.deployment.unwrap().id);
    let over = |n, address, deployment| berth_model::InstanceRecord {
        state: InstanceState::Failed,
        stopped_at_ms: Some(2),
        address,
        deployment,
        ..instance(&release, n)
    };
    let address = Some(TargetAddress::Tcp("10.0.0.2:5000".parse().unwrap()));
    let runs = instance(&release, 1);
    let (holds, counts) = (over(2, address, None), over(3, None, Some(deployment)));
    let gone = over(4, None, None);
    for record in [&runs, &holds, &counts, &gone] {
        store.put_instance(record, &by()).await.unwrap();
    }
    let snapshot = store.snapshot(app.id).await.unwrap().unwrap();
    assert_eq!(snapshot.instances, [runs.clone(), holds.clone(), counts]);
    assert_eq!(store.live_instances(app.id).await.unwrap(), [runs, holds]);
    assert_eq!(store.instances(app.id, false, None, 10).await.unwrap().len(), 4);
    assert!(store.instances(app.id, true, None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_launch_has_the_image_and_the_values_of_the_releases_own_version() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    store.set(&app, &[("A", "1")]).await;
    let release = store.serving(&app, 1).await;
    store.set(&app, &[("A", "2")]).await;
    let (image, config) = store.launch(release.id).await.unwrap();
    assert_eq!(image, crate::image(1));
    assert_eq!(config, [("A".to_owned(), "1".to_owned())]);
}
