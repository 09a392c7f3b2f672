//! Pushes from clones that lack history.

use crate::world::{BOTH, Over, World};

/// A shallow clone of a repository with three commits that the platform has not seen.
async fn shallow_clone(
    world: &World,
    depth: &str,
) -> (crate::client::Client, crate::client::Client) {
    let origin = world.client();
    for n in ["1", "2", "3"] {
        origin.commit("a", n);
    }
    let clone = world.client();
    let url = format!("file://{}", origin.work.display());
    let copy = clone.home().join("copy");
    clone.now(&["clone", "--quiet", "--depth", depth, &url, copy.to_str().unwrap()]);
    std::fs::remove_dir_all(&clone.work).unwrap();
    std::fs::rename(copy, &clone.work).unwrap();
    (origin, clone)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shallow_push_is_refused_before_building_with_advice_that_works() {
    for over in BOTH {
        let world = World::new().await;
        let (_origin, clone) = shallow_clone(&world, "1").await;
        clone.commit("a", "4");
        let said = clone.push(&world, over, "main").await;
        assert!(!said.ok, "{over:?}: {said:?}");
        assert!(said.err.contains("Your clone is shallow"), "{over:?}: {}", said.err);
        assert!(said.err.contains("git fetch --unshallow"), "{}", said.err);
        assert!(world.host.pushed().is_empty());
        assert_eq!(world.branch("hello", "main"), None);

        clone.now(&["fetch", "--quiet", "--unshallow"]);
        let said = clone.push(&world, over, "main").await;
        assert!(said.ok, "{over:?}: {said:?}");
        assert_eq!(world.branch("hello", "main"), Some(clone.head()));
        let copy = clone.git(&["clone", "--quiet", &world.url(over, "hello"), "copy"]).await;
        assert!(copy.ok, "{copy:?}");
        assert_eq!(clone.now(&["-C", "copy", "rev-list", "--count", "HEAD"]), "4");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shallow_clone_of_what_the_platform_has_may_push() {
    for over in BOTH {
        let world = World::new().await;
        let (origin, clone) = shallow_clone(&world, "2").await;
        origin.pushes(&world, Over::Ssh, "main").await;
        clone.commit("a", "4");
        let said = clone.push(&world, over, "main").await;
        assert!(said.ok, "{over:?}: {said:?}");
        assert_eq!(world.branch("hello", "main"), Some(clone.head()));
    }
}
