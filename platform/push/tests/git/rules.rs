//! What git is run with, and what of the client's and the repository's settings reaches it.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use berth_push::Limits;
use tokio::io::AsyncWriteExt;

use crate::host::{Build, Event};
use crate::world::{BOTH, Over, World};

/// Files of a folder below the repository of the app `hello`.
fn names(world: &World, folder: &str) -> Vec<String> {
    let app = world.host.app("hello").unwrap();
    let folder = world.folder.path().join(format!("git/{app}.git")).join(folder);
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_one_object_is_kept_as_one_pack_and_no_loose_objects() {
    for over in BOTH {
        let world = World::new().await;
        let client = world.client();
        client.commit("a", "1");
        client.pushes(&world, over, "main").await;
        assert_eq!(names(&world, "objects"), ["info", "pack"], "{over:?}");
        let packs = names(&world, "objects/pack");
        assert_eq!(packs.iter().filter(|name| name.ends_with(".pack")).count(), 1, "{packs:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_are_malformed_are_refused_by_what_is_wrong_with_them() {
    for over in BOTH {
        let world = World::new().await;
        let client = world.client();
        client.commit("a", "1");
        let tree = client.now(&["rev-parse", "HEAD^{tree}"]);
        let text =
            format!("tree {tree}\ncommitter T <t@example.org> 1700000000 +0000\n\nno author\n");
        let literally = ["hash-object", "-t", "commit", "-w", "--literally", "--stdin"];
        let commit = client.with_input(&literally, text.as_bytes()).await;
        let said = client.push(&world, over, &format!("{commit}:refs/heads/main")).await;
        assert!(!said.ok && said.err.contains("missingAuthor"), "{over:?}: {said:?}");
        assert!(world.host.pushed().is_empty());
        assert_eq!(names(&world, "objects/pack"), Vec::<String>::new(), "nothing is kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_that_lie_in_a_repository_are_never_run() {
    let world = World::new().await;
    let client = world.client();
    client.commit("a", "1");
    client.pushes(&world, Over::Ssh, "main").await;
    let app = world.host.app("hello").unwrap();
    let hooks = world.folder.path().join(format!("git/{app}.git/hooks"));
    std::fs::create_dir_all(&hooks).unwrap();
    let trace = world.folder.path().join("ran");
    for hook in ["pre-receive", "update", "post-receive", "post-update", "reference-transaction"] {
        let hook = hooks.join(hook);
        std::fs::write(&hook, format!("#!/bin/sh\ntouch {}\nexit 1\n", trace.display())).unwrap();
        std::fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)).unwrap();
    }
    for over in BOTH {
        client.commit_all("again");
        client.pushes(&world, over, "main").await;
        assert!(!trace.exists(), "{over:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_of_a_client_do_not_reach_git() {
    let world = World::new().await;
    let mut client = world.client();
    client.commit("a", "1");
    client.pushes(&world, Over::Ssh, "main").await;
    // Each would show: a trace on stderr, refs that are not there, or a push that is refused.
    let sent =
        "-o SetEnv=GIT_TRACE=1 -o SetEnv=GIT_NAMESPACE=other -o SetEnv=GIT_PROTOCOL=version=9";
    let ssh = format!("{} {sent}", client.ssh());
    client.use_ssh(ssh);
    let commit = client.commit("a", "2");
    let said = client.pushes(&world, Over::Ssh, "main").await;
    assert!(!said.err.contains("trace:"), "{said:?}");
    assert_eq!(world.branch("hello", "main"), Some(commit));
    let listed = client.git(&["ls-remote", &world.url(Over::Ssh, "hello")]).await;
    assert!(listed.ok && listed.out.contains("refs/heads/main"), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_may_be_silent_for_longer_than_a_client() {
    for over in BOTH {
        let limits = Limits { idle_max: Duration::from_millis(400), ..Limits::default() };
        let mut world = World::with(limits).await;
        let client = world.client();
        client.commit("a", "1");
        world.host.build(Build::Waits);
        let mut child = client.start_push(&world.url(over, "hello"), "main");
        assert_eq!(world.event().await, Event::Began);
        let over_early = tokio::time::timeout(Duration::from_millis(1500), child.wait()).await;
        assert!(over_early.is_err(), "{over:?}: the push ended while its build was silent");
        world.host.go_on();
        let said = crate::client::said(child.wait_with_output().await.unwrap());
        assert!(said.ok, "{over:?}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_pack_over_ssh_is_refused_and_leaves_nothing() {
    let world = World::new().await;
    let client = world.client();
    let (zero, id) = ("0".repeat(40), "1".repeat(40));
    for pack in [&b"PACK garbage"[..], b"", &[0xff; 4096]] {
        let command = format!("{zero} {id} refs/heads/main\0report-status");
        let mut said = format!("{:04x}{command}0000", command.len() + 4).into_bytes();
        said.extend_from_slice(pack);
        let mut words = client.ssh().split_whitespace();
        let mut ssh = client.command(words.next().unwrap());
        ssh.args(words).args(["-p", &world.ssh.port().to_string(), "git@127.0.0.1"]);
        ssh.arg("git-receive-pack 'hello'");
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ssh.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A refusal may come before all of it is read.
        let _ = stdin.write_all(&said).await;
        drop(stdin);
        let ended = tokio::time::timeout(Duration::from_secs(20), child.wait_with_output()).await;
        let said = crate::client::said(ended.expect("an end within 20 s").unwrap());
        assert!(said.out.contains("ng refs/heads/main"), "{said:?}");
        assert!(world.host.pushed().is_empty());
        assert_eq!(world.branch("hello", "main"), None);
        assert_eq!(names(&world, "objects/pack"), Vec::<String>::new());
        assert_eq!(names(&world, "objects"), ["info", "pack"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_built_before_deploys_again_when_it_is_pushed_again() {
    for over in BOTH {
        let world = World::new().await;
        let client = world.client();
        let first = client.commit("a", "1");
        client.pushes(&world, over, "main").await;
        let second = client.commit("a", "2");
        client.pushes(&world, over, "main").await;
        for commit in [&first, &second] {
            client.pushes(&world, over, &format!("+{commit}:main")).await;
            assert_eq!(world.branch("hello", "main").as_ref(), Some(commit), "{over:?}");
        }
        let pushed: Vec<String> =
            world.host.pushed().into_iter().map(|pushed| pushed.new).collect();
        assert_eq!(pushed, [&*first, &*second, &*first, &*second], "{over:?}");
    }
}
