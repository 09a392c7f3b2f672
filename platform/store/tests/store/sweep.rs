use berth_model::{InstanceState, LayerRef, PrincipalId};
use berth_store::{BuildEnd, By, Stack};

use crate::{Fixture, by, image, instance};

const DAY_MS: i64 = 86_400_000;

#[tokio::test]
async fn what_is_old_is_forgotten_and_what_runs_is_kept() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let release = store.serving(&app, 1).await;
    store.put_instance(&instance(&release, 1), &by()).await.unwrap();
    for n in 0..=250 {
        let over = berth_model::InstanceRecord {
            id: berth_model::InstanceId::new(1000 + n, [9; 10]),
            state: InstanceState::Stopped,
            stopped_at_ms: Some(2),
            ..instance(&release, 1)
        };
        store.put_instance(&over, &by()).await.unwrap();
    }
    for n in 0..60 {
        let build =
            store.create_build(app.id, "c", image(2).digest, None, &By::system(n)).await.unwrap();
        store.append_build_log(build.id, &["line".to_owned()], 1).await.unwrap();
        store.finish_build(build.id, BuildEnd::Failed("no"), &by()).await.unwrap();
    }
    let who = PrincipalId::new(1, [1; 10]);
    store.claim(who, "key", "hash", 1).await.unwrap();

    let swept = store.sweep(by().at_ms + DAY_MS).await.unwrap();
    assert_eq!((swept.builds, swept.instances, swept.answers, swept.images), (11, 51, 1, 0));
    assert_eq!(store.builds(app.id, None, 200).await.unwrap().len(), 50);
    assert_eq!(store.live_instances(app.id).await.unwrap().len(), 1);
    assert!(store.release(release.id).await.unwrap().is_some());
    let swept = store.sweep(by().at_ms + 100 * DAY_MS).await.unwrap();
    assert!(swept.events > 0);
    assert!(store.newest_event().await.unwrap() == 0);
    let next = store.new_app("next").await;
    assert_eq!(next.generation, 1);
    assert!(store.newest_event().await.unwrap() > 300, "positions are never given again");
}

#[tokio::test]
async fn an_image_goes_with_the_last_that_needs_it() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    store.serving(&app, 1).await;
    assert_eq!(store.sweep(1).await.unwrap().images, 0);
    let used = store.blobs_in_use().await.unwrap();
    assert!(used.contains(&image(1).digest) && used.contains(&image(1).layers[0].diff_id));
    store.change(Some(app.id), &berth_model::plan::Change::Destroy, None, &by()).await.unwrap();
    assert_eq!(store.sweep(1).await.unwrap().images, 0, "it may still run");
    store.erase_app(app.id, &by()).await.unwrap();
    assert_eq!(store.sweep(1).await.unwrap().images, 1);
    assert!(store.blobs_in_use().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_stack_is_replaced_by_the_next_one_of_its_name() {
    let store = Fixture::new().await;
    let layer = |n: u8| LayerRef {
        diff_id: berth_model::Digest::from_sha256([n; 32]),
        bytes: 1,
        name: "stack".into(),
    };
    for n in [1, 3] {
        let stack = Stack {
            name: "debian-12".into(),
            run: layer(n),
            build: layer(n + 1),
            packages: [("libc6".to_owned(), n.to_string())].into(),
            created_at_ms: i64::from(n),
        };
        store.put_stack(&stack, &by()).await.unwrap();
        assert_eq!(store.stack("debian-12").await.unwrap(), Some(stack));
    }
    assert_eq!(store.stacks().await.unwrap().len(), 1);
    let used = store.blobs_in_use().await.unwrap();
    assert!(used.contains(&layer(3).diff_id) && !used.contains(&layer(1).diff_id));
}
