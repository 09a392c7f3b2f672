//! `kill -9` of the platform between what happened and a hook that hears of it.

use std::process::Stdio;

use acceptance::freeze::Watch;
use acceptance::{Platform, Rows, wait_for};

use super::receiver::Receiver;
use super::{CONFIG, again, data, grant, hello, name_of, plugin, scene};

const DONE: &str = "SELECT count(*) FROM events WHERE kind = 'deployment.changed'
    AND json_extract(\"after\", '$.state') = 'done'";

#[test]
fn a_hook_hears_at_least_once_of_what_happened_before_the_platform_was_killed() {
    let scene = scene();
    let receiver = Receiver::start(&scene, 8080);
    let mut platform = Platform::start_with(CONFIG);
    let file = grant(
        "events = { kinds = ['deployment.succeeded'] }\n\
         http = [{ host = 'receiver.example', methods = ['POST'], ports = [8080], private = true }]\n",
    );
    let url = "url=http://receiver.example:8080/";
    platform.must(&[
        "ext",
        "install",
        &plugin("webhook"),
        "--set",
        url,
        "--grant-file",
        name_of(&file),
    ]);
    let repository = hello();
    let mut rows = Rows::of(&platform);

    // Killed as soon as the event is written: nothing was sent yet.
    let state = platform.data.join("state");
    let watch = Watch::on(&[&state]);
    let mut push = repository
        .push_command(&platform, "hello", &["HEAD:main"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(watch.stop_when(platform.pid(), 60, |_| rows.number(DONE) > 0, || false));
    platform.kill();
    push.wait().unwrap();
    let sent = receiver.received().len();
    platform.serve().unwrap();
    let all = receiver.wait(sent.max(1));
    let first = all[0].header("berth-event").unwrap().to_owned();
    taken(&platform);

    // Killed while the receiver has it and has not answered: it is sent again as the same event.
    receiver.hold(true);
    again(&repository);
    repository.deploy(&platform, "hello");
    let second = wait_for("the second event", 30, || {
        let last = receiver.received().pop()?.header("berth-event")?.to_owned();
        (last != first).then_some(last)
    });
    platform.kill();
    let before = receiver.received().len();
    receiver.hold(false);
    platform.serve().unwrap();
    let all = receiver.wait(before + 1);
    let times = all.iter().filter(|one| one.header("berth-event") == Some(&*second)).count();
    assert!(times >= 2, "{all:?}");
    taken(&platform);
    assert_eq!(rows.number("SELECT count(*) FROM deliveries"), 0);
}

/// Waits until the hook took everything.
fn taken(platform: &Platform) {
    wait_for("every event to be taken", 20, || {
        let shown = data(platform, &["ext", "show", "berth.webhook"]);
        (shown["deliveries"] == serde_json::json!([]) && shown["health"]["calls"]["ok"] != 0)
            .then_some(())
    });
}
