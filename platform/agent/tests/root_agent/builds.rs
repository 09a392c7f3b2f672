//! Build containers.

use std::io::{Read, Write};
use std::net::TcpListener;

use berth_container::{FailureCode, Reply, Request, Role};

use crate::platform::{Platform, app, code, shell};

#[tokio::test]
async fn a_build_has_no_way_out_but_the_listener_that_was_handed_over() {
    let platform = Platform::new();
    let request = platform.request(app(1), Role::Build);
    let mut started = platform.start(request, &shell("")).await.unwrap();
    assert_eq!(started.address, None);
    let listener = TcpListener::from(started.attached.remove(0));
    let proxy = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"from the proxy\n").unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    let script = "ip -o link | wc -l; nc -w 2 127.0.0.1 3128 < /dev/null";
    let (_, text) = platform.exec(started.instance, script).await;
    proxy.join().unwrap();
    assert_eq!(text, "1\nfrom the proxy\n");
    platform.stop(started.instance, 1000).await.unwrap();
}

#[tokio::test]
async fn a_builds_folders_are_the_apps_and_its_caches_last() {
    let platform = Platform::new();
    let begin = || platform.request(app(1), Role::Build);
    let first = platform.start(begin(), &shell("")).await.unwrap();
    let again = platform.start(begin(), &shell("")).await;
    assert_eq!(code(again.map(|_| ())), FailureCode::Conflict, "one build of an app at a time");
    let script =
        "touch /workspace/a /layers/b && echo kept > /caches/c && ls -ld /caches /layers; id -u";
    let (exit, text) = platform.exec(first.instance, script).await;
    assert_eq!(exit.code, 0, "{text}");
    platform.stop(first.instance, 0).await.unwrap();
    let second = platform.start(begin(), &shell("")).await.unwrap();
    let (_, text) = platform.exec(second.instance, "cat /caches/c; ls /workspace /layers").await;
    assert_eq!(text.trim().lines().next(), Some("kept"), "{text}");
    assert!(!text.contains("\nb"), "{text}");
    let busy = platform.call(&Request::CacheDrop { app: app(1) }, &[]).await;
    assert_eq!(code(busy.map(|_| ())), FailureCode::Conflict);
    platform.stop(second.instance, 0).await.unwrap();
    let dropped = platform.call(&Request::CacheDrop { app: app(1) }, &[]).await;
    assert_eq!(dropped.unwrap(), Reply::Done {});
    let third = platform.start(begin(), &shell("")).await.unwrap();
    let (_, text) = platform.exec(third.instance, "ls /caches").await;
    assert_eq!(text, "");
}

/// As in a data folder that was copied, or moved to another machine.
#[tokio::test]
async fn caches_of_other_user_ids_begin_anew() {
    let platform = Platform::new();
    let first = platform.start(platform.request(app(1), Role::Build), &shell("")).await.unwrap();
    assert_eq!(platform.exec(first.instance, "echo kept > /caches/c; echo $?").await.1, "0\n");
    platform.stop(first.instance, 0).await.unwrap();
    let mut moved = platform.request(app(1), Role::Build);
    moved.block += 5;
    let second = platform.start(moved, &shell("")).await.unwrap();
    let script = "cat /caches/c 2> /dev/null; echo new > /caches/c; cat /caches/c";
    assert_eq!(platform.exec(second.instance, script).await.1, "new\n");
    platform.stop(second.instance, 0).await.unwrap();
}

#[tokio::test]
async fn an_apps_builds_and_instances_have_different_ids() {
    let platform = Platform::new();
    let build = platform.start(platform.request(app(1), Role::Build), &shell("")).await.unwrap();
    let instance = platform.instance(app(1), "sleep 60").await;
    let map = "cat /proc/self/uid_map";
    let (_, first) = platform.exec(build.instance, map).await;
    let (_, second) = platform.exec(instance.instance, map).await;
    let base = |text: &str| text.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap();
    assert_eq!(base(&first), base(&second) + 65_536);
}
