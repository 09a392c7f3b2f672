//! What a push to each kind of ref does.

use crate::host::{Build, Event};
use crate::world::{BOTH, Over, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_first_push_creates_the_app_and_delivers_the_tree() {
    for over in BOTH {
        let world = World::new().await;
        let client = world.client();
        client.write("bin/run", "#!/bin/sh\n");
        std::fs::set_permissions(
            client.work.join("bin/run"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        std::os::unix::fs::symlink("../index.html", client.work.join("bin/link")).unwrap();
        let commit = client.commit("index.html", "hello\n");

        let said = client.push(&world, over, "main").await;

        assert!(said.ok, "{over:?}: {said:?}");
        for line in [
            "-----> Set main as deploy-branch",
            "-----> Building hello",
            "=====> Application deployed:",
            "http://hello.localhost:8080",
        ] {
            assert!(said.err.contains(line), "{over:?}: {line} is not in {}", said.err);
        }
        // Over SSH lines come on the channel's stderr, which git does not mark.
        assert_eq!(said.err.contains("remote: ----->"), over == Over::Http, "{}", said.err);
        assert!(said.err.contains("main -> main"), "{}", said.err);
        assert_eq!(world.branch("hello", "main"), Some(commit.clone()));
        assert_eq!(world.host.deploy_branch_of("hello").as_deref(), Some("main"));

        let pushed = &world.host.pushed()[0];
        assert_eq!((pushed.old.as_deref(), &pushed.new), (None, &commit));
        assert_eq!(pushed.ref_name, "refs/heads/main");
        assert_eq!(pushed.source.commit, commit);
        assert_eq!(pushed.source.tree, client.now(&["rev-parse", "HEAD^{tree}"]));
        assert_eq!(pushed.source.committed_at_s, 1_700_000_000);
        let archive: Vec<_> = world.archive(pushed).into_iter().collect();
        let expected = [
            ("bin", "directory"),
            ("bin/link", "-> ../index.html"),
            ("bin/run", "*#!/bin/sh\n"),
            ("index.html", "hello\n"),
        ];
        assert_eq!(archive, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert!(!world.host.is_locked("hello"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_push_hands_over_the_old_commit_and_the_same_tree_gives_the_same_archive() {
    let world = World::new().await;
    let client = world.client();
    let first = client.commit("a", "1");
    client.pushes(&world, Over::Ssh, "main").await;
    let second = client.commit_all("nothing changed");
    client.pushes(&world, Over::Http, "main").await;
    let pushed = world.host.pushed();
    assert_eq!(pushed[1].old, Some(first));
    assert_eq!(pushed[1].new, second);
    assert_eq!(pushed[0].source.archive, pushed[1].source.archive);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_what_is_deployed_changes_nothing() {
    let world = World::new().await;
    let client = world.client();
    client.commit("a", "1");
    client.pushes(&world, Over::Ssh, "main").await;
    for over in BOTH {
        let said = client.push(&world, over, "main").await;
        assert!(said.ok && said.err.contains("Everything up-to-date"), "{said:?}");
    }
    assert_eq!(world.host.pushed().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_build_rejects_the_ref_and_a_second_try_of_the_same_commit_builds() {
    for over in BOTH {
        let world = World::new().await;
        let client = world.client();
        let good = client.commit("a", "1");
        client.pushes(&world, over, "main").await;

        let bad = client.commit("a", "2");
        world.host.build(Build::Fails("it is broken\u{1b}[2J", "build failed"));
        let said = client.push(&world, over, "main").await;
        assert!(!said.ok, "{said:?}");
        assert!(
            said.err.contains("! [remote rejected] main -> main (build failed)"),
            "{}",
            said.err
        );
        // Build output cannot clear a terminal.
        assert!(said.err.contains("it is broken\\u{1b}[2J"), "{}", said.err);
        assert_eq!(world.branch("hello", "main"), Some(good));

        world.host.build(Build::Deploys);
        client.pushes(&world, over, "main").await;
        assert_eq!(world.branch("hello", "main"), Some(bad));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_branch_is_stored_with_a_warning_and_not_deployed() {
    for over in BOTH {
        let world = World::new().await;
        let client = world.client();
        client.commit("a", "1");
        client.pushes(&world, over, "main").await;
        client.now(&["checkout", "--quiet", "-b", "topic/new"]);
        let topic = client.commit("a", "2");
        let said = client.push(&world, over, "topic/new").await;
        assert!(said.ok, "{said:?}");
        assert!(
            said.err.contains("WARNING: deploy did not complete, you must push to main."),
            "{}",
            said.err
        );
        assert!(said.err.contains("git push <remote> topic/new:main"), "{}", said.err);
        assert_eq!(world.branch("hello", "topic/new"), Some(topic));
        assert_eq!(world.host.pushed().len(), 1);

        // The same branch, pushed to the deploy branch, deploys.
        client.pushes(&world, over, "topic/new:main").await;
        assert_eq!(world.host.pushed().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_first_branches_main_is_the_deploy_branch() {
    for over in BOTH {
        let world = World::new().await;
        let client = world.client();
        client.commit("a", "1");
        client.now(&["branch", "alpha"]);
        let said = client.git(&["push", &world.url(over, "hello"), "--all"]).await;
        assert!(said.ok, "{said:?}");
        assert_eq!(world.host.deploy_branch_of("hello").as_deref(), Some("main"));
        assert!(world.branch("hello", "alpha").is_some());
        assert_eq!(world.host.pushed().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_stored_and_a_tag_pushed_to_the_branch_deploys_its_commit() {
    for over in BOTH {
        let world = World::new().await;
        let client = world.client();
        let first = client.commit("a", "1");
        client.pushes(&world, over, "main").await;
        let second = client.commit("a", "2");
        client.now(&["tag", "light"]);
        client.now(&["tag", "--annotate", "--message", "one", "v1"]);
        let said = client.git(&["push", &world.url(over, "hello"), "light", "v1"]).await;
        assert!(said.ok && said.err.contains("which deploys nothing"), "{said:?}");
        assert_eq!(world.branch("hello", "main"), Some(first));
        let app = world.host.app("hello").unwrap();
        let tag = world.repositories.commit_of(app, "refs/tags/v1").unwrap();
        assert_eq!(tag, Some(client.now(&["rev-parse", "v1"])), "the tag object is kept");

        // An annotated tag on a branch: the branch names its commit.
        let said = client.push(&world, over, "v1:main").await;
        assert!(said.ok, "{said:?}");
        assert_eq!(world.branch("hello", "main"), Some(second.clone()));
        assert_eq!(world.host.pushed()[1].source.commit, second);
        client.pushes(&world, over, ":refs/tags/light").await;
        assert_eq!(world.repositories.commit_of(app, "refs/tags/light").unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_commit_deploys_by_force() {
    for over in BOTH {
        let world = World::new().await;
        let client = world.client();
        let first = client.commit("a", "1");
        client.commit("a", "2");
        client.pushes(&world, over, "main").await;
        let refspec = format!("{first}:main");
        assert!(!client.push(&world, over, &refspec).await.ok, "without force");
        let said = client.git(&["push", "--force", &world.url(over, "hello"), &refspec]).await;
        assert!(said.ok && said.err.contains("forced update"), "{said:?}");
        assert_eq!(world.branch("hello", "main"), Some(first));
        assert_eq!(world.host.pushed().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deploy_branch_cannot_be_deleted_and_others_can() {
    for over in BOTH {
        let world = World::new().await;
        let client = world.client();
        client.commit("a", "1");
        client.now(&["branch", "topic"]);
        let url = world.url(over, "hello");
        assert!(client.git(&["push", &url, "main", "topic"]).await.ok);
        let said = client.git(&["push", &url, ":main"]).await;
        assert!(!said.ok && said.err.contains("the deploy branch cannot be deleted"), "{said:?}");
        assert!(world.branch("hello", "main").is_some());
        assert!(client.git(&["push", &url, ":topic"]).await.ok);
        assert_eq!(world.branch("hello", "topic"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_atomic_push_moves_all_refs_or_none() {
    for over in BOTH {
        let world = World::new().await;
        let client = world.client();
        client.commit("a", "1");
        client.now(&["tag", "v1"]);
        let url = world.url(over, "hello");
        world.host.build(Build::Fails("no", "build failed"));
        let said = client.git(&["push", "--atomic", &url, "main", "v1"]).await;
        assert!(!said.ok, "{said:?}");
        let app = world.host.app("hello").unwrap();
        assert_eq!(world.repositories.commit_of(app, "refs/tags/v1").unwrap(), None);
        world.host.build(Build::Deploys);
        assert!(client.git(&["push", "--atomic", &url, "main", "v1"]).await.ok);
        assert!(world.repositories.commit_of(app, "refs/tags/v1").unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_brings_back_what_was_pushed() {
    for over in BOTH {
        for version in ["0", "1", "2"] {
            let mut world = World::new().await;
            let client = world.client();
            client.now(&["checkout", "--quiet", "-b", "trunk"]);
            let commit = client.commit("a", "1");
            client.pushes(&world, over, "trunk").await;
            assert_eq!((world.event().await, world.event().await), (Event::Began, Event::Ended));
            let setting = format!("protocol.version={version}");
            let url = world.url(over, "hello");
            let said = client.git(&["-c", &setting, "clone", "--quiet", &url, "copy"]).await;
            assert!(said.ok, "{over:?} {version}: {said:?}");
            // The deploy branch is checked out, whatever its name is.
            assert_eq!(client.now(&["-C", "copy", "rev-parse", "HEAD"]), commit);
            assert_eq!(client.now(&["-C", "copy", "rev-parse", "--abbrev-ref", "HEAD"]), "trunk");
        }
    }
}
