use berth_model::plan::Change;
use berth_model::route::RouteState;
use berth_model::{InstanceState, TargetAddress};

use crate::{Fixture, by, instance};

#[tokio::test]
async fn a_table_has_every_app_with_its_hosts_state_and_targets() {
    let store = Fixture::new().await;
    let (new, serving, stopped) = (
        store.new_app("new").await,
        store.new_app("serving").await,
        store.new_app("stopped").await,
    );
    let old = store.serving(&serving, 1).await;
    let release = store.serving(&serving, 2).await;
    let domain = Change::AddDomain("www.example.org".parse().unwrap());
    store.change(Some(serving.id), &domain, None, &by()).await.unwrap();
    store.change(Some(stopped.id), &Change::Stop, None, &by()).await.unwrap();
    let ready = |release, n| berth_model::InstanceRecord {
        state: InstanceState::Ready,
        address: Some(TargetAddress::Tcp("10.0.0.2:5000".parse().unwrap())),
        answering: Some(1),
        ..instance(release, n)
    };
    let silent = berth_model::InstanceRecord { answering: None, ..ready(&release, 3) };
    for record in [&ready(&release, 1), &ready(&old, 2), &silent] {
        store.put_instance(record, &by()).await.unwrap();
    }
    let table = store.next_route_table().await.unwrap();
    let shown: Vec<_> = table
        .routes
        .iter()
        .map(|route| (route.app, route.state, route.targets.len(), route.release))
        .collect();
    assert_eq!(
        shown,
        [
            (new.id, RouteState::NoRelease, 0, None),
            (serving.id, RouteState::Serving, 1, Some(2)),
            (stopped.id, RouteState::Stopped, 0, None),
        ]
    );
    assert_eq!(table.routes[1].hosts, ["serving.localhost", "www.example.org"]);
}

#[tokio::test]
async fn generations_rise_across_restarts() {
    let store = Fixture::new().await;
    let first = store.next_route_table().await.unwrap().generation;
    let second = store.next_route_table().await.unwrap().generation;
    let third = store.again().await.next_route_table().await.unwrap().generation;
    assert!(first < second && second < third);
}
