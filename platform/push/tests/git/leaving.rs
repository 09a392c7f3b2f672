//! Clients that go away.

use std::time::Duration;

use berth_push::Limits;
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::client::signal_group;
use crate::host::{Build, Event};
use crate::world::{BOTH, Over, World, eventually};

/// Reads until `text` has come.
async fn read_until(reader: &mut (impl AsyncRead + Unpin), text: &str) {
    let mut said = String::new();
    let reading = async {
        while !said.contains(text) {
            let mut bytes = [0; 4096];
            let count = reader.read(&mut bytes).await.unwrap();
            assert!(count > 0, "no '{text}' in {said}");
            said.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), reading).await.is_ok();
    assert!(in_time, "no '{text}' within 20 s in {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_cancels_the_build_and_leaves_the_ref() {
    for over in BOTH {
        let mut world = World::new().await;
        let client = world.client();
        client.commit("a", "1");
        world.host.build(Build::Waits);
        let mut child = client.start_push(&world.url(over, "hello"), "main");
        assert_eq!(world.event().await, Event::Began);
        signal_group(&child, Signal::INT);
        assert!(!child.wait().await.unwrap().success());
        assert_eq!(world.event().await, Event::Cancelled, "{over:?}");
        eventually("the lock is free", || !world.host.is_locked("hello")).await;
        assert_eq!(world.branch("hello", "main"), None);

        world.host.build(Build::Deploys);
        client.pushes(&world, over, "main").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_killed_cancels_the_build() {
    for over in BOTH {
        let mut world = World::new().await;
        let client = world.client();
        client.commit("a", "1");
        world.host.build(Build::Waits);
        let child = client.start_push(&world.url(over, "hello"), "main");
        assert_eq!(world.event().await, Event::Began);
        signal_group(&child, Signal::KILL);
        assert_eq!(world.event().await, Event::Cancelled, "{over:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ssh_client_that_gives_no_sign_of_life_cancels_the_build() {
    let limits = Limits { keepalive: Duration::from_millis(100), ..Limits::default() };
    let mut world = World::with(limits).await;
    let client = world.client();
    client.commit("a", "1");
    world.host.build(Build::Waits);
    let child = client.start_push(&world.url(Over::Ssh, "hello"), "main");
    assert_eq!(world.event().await, Event::Began);
    // Its connection stays: only that nothing answers tells that it is gone.
    signal_group(&child, Signal::STOP);
    assert_eq!(world.event().await, Event::Cancelled);
    signal_group(&child, Signal::KILL);
}

#[tokio::test(flavor = "multi_thread")]
async fn past_its_release_a_deploy_ends_without_the_client_and_moves_the_ref() {
    for over in BOTH {
        let mut world = World::new().await;
        let client = world.client();
        let commit = client.commit("a", "1");
        world.host.build(Build::WaitsReleased);
        let child = client.start_push(&world.url(over, "hello"), "main");
        assert_eq!(world.event().await, Event::Began);
        signal_group(&child, Signal::KILL);
        assert_eq!(world.event().await, Event::Cancelled);
        assert_eq!(world.branch("hello", "main"), None);
        assert!(world.host.is_locked("hello"), "the deploy still runs");
        world.host.go_on();
        assert_eq!(world.event().await, Event::Ended);
        eventually("the ref moves", || world.branch("hello", "main") == Some(commit.clone())).await;
        let said = client.push(&world, over, "main").await;
        assert!(said.err.contains("Everything up-to-date"), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_arrive_while_the_build_runs() {
    for over in BOTH {
        let mut world = World::new().await;
        let client = world.client();
        client.commit("a", "1");
        world.host.build(Build::Waits);
        let mut child = client.start_push(&world.url(over, "hello"), "main");
        assert_eq!(world.event().await, Event::Began);
        let mut stderr = child.stderr.take().unwrap();
        read_until(&mut stderr, "-----> Building hello").await;
        world.host.go_on();
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).await.unwrap();
        assert!(rest.contains("=====> Application deployed:"), "{rest}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_build_keeps_the_connection_alive() {
    let mut world = World::new().await;
    let client = world.client();
    client.commit("a", "1");
    // The repository exists after this; its interval is five seconds otherwise.
    client.pushes(&world, Over::Ssh, "main").await;
    assert_eq!((world.event().await, world.event().await), (Event::Began, Event::Ended));
    let app = world.host.app("hello").unwrap();
    let config = world.folder.path().join(format!("git/{app}.git/config"));
    let config = config.to_str().unwrap();
    client.now(&["config", "--file", config, "receive.keepAlive", "1"]);

    client.commit("a", "2");
    world.host.build(Build::Waits);
    let mut command = client.command("git");
    command.args(["push", &world.url(Over::Http, "hello"), "main"]);
    command.env("GIT_TRACE_PACKET", "1").stderr(std::process::Stdio::piped()).process_group(0);
    let mut child = command.spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    // An empty packet of the side band.
    read_until(&mut stderr, "sideband< \\1\n").await;
    world.host.go_on();
    let mut rest = Vec::new();
    stderr.read_to_end(&mut rest).await.unwrap();
    assert!(child.wait().await.unwrap().success());
}
