//! The hook `webhook`: what happens to apps reaches an HTTP server.

use std::process::{Command, Stdio};

use acceptance::{Platform, Repository, Rows};
use serde_json::Value;

use super::receiver::Receiver;
use super::{CONFIG, again, data, grant, hello, logs, name_of, plugin, said, scene, set_secret};

const ID: &str = "berth.webhook";
const URL: &str = "url=http://receiver.example:8080/berth";

/// It may hear of deployments that succeeded, and post to the receiver.
const GRANT: &str = "\
events = { kinds = ['deployment.succeeded'] }
secrets = [{ name = 'signing-key' }]
http = [{ host = 'receiver.example', methods = ['POST'], ports = [8080], private = true }]
";

/// Installs it with that grant.
fn install(platform: &Platform) {
    let file = grant(GRANT);
    let arguments = ["ext", "install", &plugin("webhook"), "--set", URL, "--grant-file"];
    platform.must(&[&arguments[..], &[name_of(&file)]].concat());
}

#[test]
fn a_push_is_posted_signed_and_only_after_the_operator_granted_it() {
    let scene = scene();
    let receiver = Receiver::start(&scene, 8080);
    let platform = Platform::start_with(CONFIG);
    let file = plugin("webhook");

    // Nobody says yes: it is reviewed, and not there.
    let (code, out, err) = said(platform.berth(&["ext", "install", &file, "--set", URL]));
    assert_eq!(code, Some(2), "{err}");
    assert!(out.contains("berth.webhook 0.1.0 (hook)") && out.contains("any host"), "{out}");
    let command = err.split_once("if you do: ").unwrap().1.trim().to_owned();
    assert!(command.starts_with(&format!("berth ext install {file}")), "{err}");
    assert_eq!(data(&platform, &["ext", "list"])["items"], Value::Array(Vec::new()));

    // Told of the push, and not allowed to go to a private network.
    let narrow = grant(&GRANT.replace(", private = true", ""));
    let install = ["ext", "install", &file, "--set", URL, "--grant-file", name_of(&narrow)];
    platform.must(&install);
    set_secret(&platform, ID, "signing-key", "k3y\n");
    let repository = hello();
    repository.deploy(&platform, "hello");
    logs(&platform, ID, "receiver.example is not reached");
    let shown = platform.must(&["ext", "show", ID]);
    assert!(shown.contains("is told of deployment.succeeded"), "{shown}");
    assert!(shown.contains("It asks for this too, and may not"), "{shown}");
    assert!(receiver.received().is_empty(), "{:?}", receiver.received());

    // Granted: what happened before reaches it.
    let wide = grant(GRANT);
    platform.must(&["ext", "grant", ID, "--grant-file", name_of(&wide)]);
    let posted = &receiver.wait(1)[0];
    assert_eq!(posted.line(), "POST /berth HTTP/1.1");
    assert_eq!(posted.header("content-type"), Some("application/json"));
    let event = posted.json();
    assert_eq!(event["kind"], "deployment.succeeded", "{event}");
    assert_eq!(event["payload"]["app"], "hello", "{event}");
    assert_eq!(event["id"].as_str(), posted.header("berth-event"));
    let signature = signature("k3y", &posted.body);
    assert_eq!(posted.header("berth-signature"), Some(&*format!("sha256={signature}")));

    // Every further push once, and none of what it was not told of.
    again(&repository);
    repository.deploy(&platform, "hello");
    let all = receiver.wait(2);
    assert_ne!(all[1].header("berth-event"), all[0].header("berth-event"));
    assert!(all.iter().all(|one| one.json()["kind"] == "deployment.succeeded"));

    // The command that was told takes the place of the grant with all that it asks for.
    let words: Vec<&str> = command.split_whitespace().skip(1).collect();
    platform.must(&words);
    assert!(platform.must(&["ext", "show", ID]).contains("any host"));
    platform.must(&["ext", "remove", ID, "--yes"]);
    assert_eq!(data(&platform, &["ext", "list"])["items"], Value::Array(Vec::new()));
}

#[test]
fn what_was_not_granted_is_not_sent_and_the_refusal_is_shown() {
    let scene = scene();
    let receiver = Receiver::start(&scene, 8080);
    let platform = Platform::start_with(CONFIG);
    let none = grant("events = { kinds = ['deployment.succeeded'] }\n");
    let file = plugin("webhook");
    platform.must(&["ext", "install", &file, "--set", URL, "--grant-file", name_of(&none)]);
    hello().deploy(&platform, "hello");
    logs(&platform, ID, "denied: http: POST receiver.example:8080 was not granted");
    let details = data(&platform, &["ext", "show", ID]);
    assert!(details["health"]["denied"].as_u64().unwrap() > 0, "{details}");
    let waiting = &details["deliveries"][0];
    assert!(waiting["kind"].as_str().unwrap().starts_with("deployment."), "{details}");
    assert!(waiting["error"].as_str().unwrap().contains("not granted"), "{waiting}");
    let shown = platform.must(&["ext", "show", ID]);
    assert!(shown.contains("what it may not; its log says what"), "{shown}");
    assert!(receiver.received().is_empty());

    // More than it asks for cannot be granted.
    let more = grant("clock = {}\n");
    let (code, _, err) =
        said(platform.berth(&["ext", "grant", ID, "--grant-file", name_of(&more)]));
    assert_eq!(code, Some(1));
    assert!(err.contains("more than the extension asks for: knows the time"), "{err}");
}

#[test]
fn a_receiver_that_fails_is_asked_again_and_a_dead_letter_is_replayed() {
    let scene = scene();
    let receiver = Receiver::start(&scene, 8080);
    let platform = Platform::start_with(&format!("{CONFIG}attempts_max = 3\n"));
    install(&platform);
    receiver.script(&[500, 503]);
    let repository = hello();
    repository.deploy(&platform, "hello");
    let tries = receiver.wait(3);
    let of = |name: &str| tries.iter().map(|one| one.header(name).unwrap()).collect::<Vec<_>>();
    assert_eq!(of("berth-attempt"), ["1", "2", "3"]);
    assert!(of("berth-event").iter().all(|id| *id == of("berth-event")[0]));
    assert!(tries.iter().all(|one| one.header("berth-signature").is_none()), "no key is set");

    receiver.script(&[500, 500, 500]);
    again(&repository);
    repository.deploy(&platform, "hello");
    logs(&platform, ID, "was not taken in 3 tries and is given up");
    let deliveries = data(&platform, &["ext", "show", ID])["deliveries"].clone();
    let [dead] = &deliveries.as_array().unwrap()[..] else { panic!("{deliveries}") };
    assert!(dead["dead"] == true && dead["attempts"] == 3, "{dead}");
    assert!(dead["error"].as_str().unwrap().contains("the receiver answered 500"), "{dead}");
    let event = dead["event"].to_string();
    let shown = platform.must(&["ext", "show", ID]);
    let row = shown.lines().find(|line| line.trim_start().starts_with(&event)).unwrap();
    assert!(row.contains("given up") && row.contains("answered 500"), "{shown}");

    assert_eq!(platform.must(&["ext", "replay", ID, &event]), "1 event is offered again\n");
    let last = receiver.wait(7).pop().unwrap();
    assert_eq!(last.header("berth-event"), Some(&*event));
    acceptance::wait_for("no event to be left", 10, || {
        (data(&platform, &["ext", "show", ID])["deliveries"] == serde_json::json!([])).then_some(())
    });
    let (code, _, err) = said(platform.berth(&["ext", "replay", ID, &event]));
    assert!(code == Some(1) && err.contains("none that berth.webhook gave up"), "{err}");
}

#[test]
fn an_extension_hears_of_its_apps_alone_and_nothing_while_it_is_disabled() {
    let scene = scene();
    let receiver = Receiver::start(&scene, 8080);
    let platform = Platform::start_with(CONFIG);
    let (one, other) = (hello(), hello());
    // A push ends before its release was watched to the end, which is what the hook is told of.
    let mut rows = Rows::of(&platform);
    let mut deploy = |repository: &Repository, app: &str| {
        again(repository);
        repository.deploy(&platform, app);
        acceptance::wait_for("the end of the deployment", 30, || {
            let left = "SELECT count(*) FROM deployments WHERE finished_at_ms IS NULL";
            (rows.number(left) == 0).then_some(())
        });
    };
    deploy(&one, "one");
    deploy(&other, "other");
    install(&platform);
    assert_eq!(platform.must(&["ext", "apps", ID]), "all\n");
    assert_eq!(platform.must(&["ext", "apps", ID, "other"]), "berth.webhook is for: other\n");
    let listed = platform.must(&["ext", "list"]);
    assert!(listed.contains("active") && listed.contains("other"), "{listed}");
    let (_, _, err) = said(platform.berth(&["ext", "apps", ID, "another"]));
    assert!(err.contains("there is no app 'another'"), "{err}");

    deploy(&one, "one");
    deploy(&other, "other");
    assert_eq!(receiver.wait(1)[0].json()["payload"]["app"], "other");

    platform.must(&["ext", "apps", ID, "--all"]);
    platform.must(&["ext", "disable", ID]);
    deploy(&one, "one");
    platform.must(&["ext", "resume", ID]);
    deploy(&other, "other");
    // What happened meanwhile is not lost, and comes first.
    let apps: Vec<Value> =
        receiver.wait(3).iter().map(|one| one.json()["payload"]["app"].clone()).collect();
    assert_eq!(apps, ["other", "one", "other"]);
}

/// HMAC-SHA-256 in hex, as somebody else makes it.
fn signature(key: &str, body: &[u8]) -> String {
    let option = format!("key:{key}");
    let mut running = Command::new("openssl")
        .args(["dgst", "-sha256", "-mac", "HMAC", "-macopt", &option, "-r"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut running.stdin.take().unwrap(), body).unwrap();
    let output = running.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().to_owned()
}
