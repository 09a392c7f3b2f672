//! Two pushes at once.

use crate::host::{Build, Event};
use crate::world::{BOTH, Over, World};
use berth_push::Limits;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_push_of_an_app_is_refused_at_once_and_names_the_holder() {
    for over in BOTH {
        let mut world = World::new().await;
        let (first, second) = (world.client(), world.client());
        first.commit("a", "1");
        second.commit("b", "2");
        world.host.build(Build::Waits);
        let child = first.start_push(&world.url(Over::Ssh, "hello"), "main");
        assert_eq!(world.event().await, Event::Began);

        let said = second.push(&world, over, "main").await;
        assert!(!said.ok, "{said:?}");
        assert!(said.err.contains("hello is locked: developer is deploying it"), "{said:?}");

        world.host.go_on();
        let said = crate::client::said(child.wait_with_output().await.unwrap());
        assert!(said.ok, "{said:?}");
        assert_eq!(world.branch("hello", "main"), Some(first.head()));
        // The lock is free again.
        let said = second.git(&["push", "--force", &world.url(over, "hello"), "main"]).await;
        assert!(said.ok, "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_of_two_apps_do_not_wait_for_each_other() {
    let mut world = World::new().await;
    let client = world.client();
    client.commit("a", "1");
    world.host.build(Build::Waits);
    let child = client.start_push(&world.url(Over::Http, "hello"), "main");
    assert_eq!(world.event().await, Event::Began);
    let other = client.start_push(&world.url(Over::Ssh, "other"), "main");
    assert_eq!(world.event().await, Event::Began);
    world.host.go_on();
    assert!(crate::client::said(child.wait_with_output().await.unwrap()).ok);
    assert!(crate::client::said(other.wait_with_output().await.unwrap()).ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_pushes_than_the_platform_takes_are_refused_at_once() {
    for over in BOTH {
        let mut world = World::with(Limits { receives_max: 1, ..Limits::default() }).await;
        let client = world.client();
        client.commit("a", "1");
        world.host.build(Build::Waits);
        let child = client.start_push(&world.url(Over::Ssh, "hello"), "main");
        assert_eq!(world.event().await, Event::Began);
        let said = client.git(&["push", &world.url(over, "other"), "main"]).await;
        assert!(!said.ok && said.err.contains("too many pushes and fetches at once"), "{said:?}");
        world.host.go_on();
        assert!(crate::client::said(child.wait_with_output().await.unwrap()).ok);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_from_a_commit_that_is_no_longer_the_branch_is_refused() {
    let world = World::new().await;
    let (first, second) = (world.client(), world.client());
    first.commit("a", "1");
    second.commit("b", "2");
    first.pushes(&world, Over::Ssh, "main").await;
    let said = second.push(&world, Over::Ssh, "main").await;
    assert!(!said.ok && said.err.contains("rejected"), "{said:?}");
    assert_eq!(world.branch("hello", "main"), Some(first.head()));
}
