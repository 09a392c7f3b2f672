//! What `berth ext` says to people and to scripts.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;

use acceptance::Platform;
use nix::pty::{Winsize, openpty};

use super::policies::endless;
use super::{CONFIG, data, plugin, said, set_secret};

const URL: &str = "url=http://receiver.example:8080/berth";

/// Runs `berth` on a terminal where somebody types an answer to a question. Gives its exit code,
/// what the terminal showed, and what went to standard output.
fn on_terminal(
    platform: &Platform,
    arguments: &[&str],
    question: &str,
    answer: &str,
) -> (Option<i32>, String, String) {
    let size = Winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).unwrap();
    let mut child = platform
        .command(&platform.token, arguments)
        .stdin(Stdio::from(terminal.slave.try_clone().unwrap()))
        .stderr(Stdio::from(terminal.slave))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut person = File::from(terminal.master);
    let (mut shown, mut buffer, mut asked) = (String::new(), [0; 1024], false);
    // The terminal's other end is closed with the child: reading ends with an error.
    while let Ok(count @ 1..) = person.read(&mut buffer) {
        shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        if !asked && shown.contains(question) {
            asked = true;
            person.write_all(answer.as_bytes()).unwrap();
        }
    }
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    (child.wait().unwrap().code(), shown, out)
}

#[test]
fn a_person_sees_what_an_extension_asks_for_and_decides() {
    let platform = Platform::start_with(CONFIG);
    let file = plugin("webhook");
    let install = ["ext", "install", &file, "--set", URL];
    let question = "Grant all of this? [y/N]";
    let (code, shown, _) = on_terminal(&platform, &install, question, "n\n");
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("sends POST to any host") && shown.contains("why: "), "{shown}");
    assert!(shown.contains("nothing was granted, and nothing changed"), "{shown}");
    assert_eq!(data(&platform, &["ext", "list"])["items"], serde_json::json!([]));

    let (code, shown, out) = on_terminal(&platform, &install, question, "y\n");
    assert_eq!((code, out.as_str()), (Some(0), "berth.webhook 0.1.0 is installed\n"), "{shown}");
    assert!(shown.contains("berth ext secrets set berth.webhook signing-key"), "{shown}");
    // The same again is no question any more.
    platform.must(&["ext", "install", &file]);

    let set = ["ext", "secrets", "set", "berth.webhook", "signing-key"];
    let (code, shown, _) = on_terminal(&platform, &set, "not shown): ", "hunter2\n");
    assert!(code == Some(0) && !shown.contains("hunter2"), "{shown}");
    let listed = platform.must(&["ext", "secrets", "list", "berth.webhook"]);
    assert!(listed.contains("signing-key  set"), "{listed}");
}

#[test]
fn an_update_that_asks_for_more_waits_and_says_so_until_somebody_grants_it() {
    let platform = Platform::start_with(CONFIG);
    let folder = tempfile::tempdir().unwrap();
    let file = |version: &str, capabilities: &str| {
        let path = folder.path().join(format!("{version}.wasm"));
        std::fs::write(&path, endless("acme.judge", version, capabilities)).unwrap();
        path.display().to_string()
    };
    let first = file("1.0.0", "kv = { quota = '1MiB', why = 'to remember' }");
    let more = file("1.1.0", "kv = { quota = '2MiB', why = 'to remember more' }\nmetrics = {}");
    let other = file("1.2.0", "metrics = {}");
    platform.must(&["ext", "install", &first, "--yes"]);

    let (code, out, err) = said(platform.berth(&["ext", "install", &more]));
    assert_eq!(code, Some(2), "{err}");
    assert!(out.contains("acme.judge 1.1.0 (policy); 1.0.0 is installed"), "{out}");
    assert!(out.contains("keeps up to 2MiB of data") && out.contains("to remember more"), "{out}");
    assert!(err.contains("1.0.0 goes on, 1.1.0 waits"), "{err}");
    let told = err.split_once("if you do: ").unwrap().1.trim();
    let listed = platform.must(&["ext", "list"]);
    assert!(listed.contains("1.0.0") && listed.contains("active, 1.1.0 waits"), "{listed}");
    assert!(platform.must(&["ext", "show", "acme.judge"]).contains(told), "{told}");

    let (code, _, err) =
        said(platform.berth(&["ext", "grant", "acme.judge", "--accept", "0123456789abcdef"]));
    assert!(code == Some(1) && err.contains("does not have the hash 0123456789abcdef"), "{err}");
    let (code, _, err) = said(platform.berth(&["ext", "grant", "acme.judge"]));
    assert!(code == Some(2) && err.contains(told), "{err}");
    let words: Vec<&str> = told.split_whitespace().skip(1).collect();
    let granted = platform.must(&words);
    assert_eq!(granted, "acme.judge 1.1.0 runs with what was granted\n");
    let details = data(&platform, &["ext", "show", "acme.judge"]);
    assert_eq!(details["version"], "1.1.0");
    assert!(details["grants"].as_array().unwrap().len() == 2, "{details}");

    // One that asks for less is no question.
    let (code, out, err) = said(platform.berth(&["ext", "install", &other]));
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "acme.judge 1.2.0 takes the place of 1.1.0\n"),
        "{err}"
    );
}

#[test]
fn mistakes_are_told_with_what_to_do_and_every_answer_is_data() {
    let platform = Platform::start_with(CONFIG);
    let (code, _, err) = said(platform.berth(&["ext", "install", "/dev/null"]));
    assert!(code == Some(1) && err.contains("component"), "{err}");
    let (code, _, err) = said(platform.berth(&["ext", "install", "/nowhere.wasm"]));
    assert!(code == Some(1) && err.contains("cannot read /nowhere.wasm"), "{err}");
    let file = plugin("webhook");
    let (code, _, err) = said(platform.berth(&["ext", "install", &file, "--yes"]));
    assert!(code == Some(1) && err.contains("\"url\" is a required property"), "{err}");
    let (code, _, err) =
        said(platform.berth(&["ext", "install", &file, "--yes", "--set", "url=ftp://x"]));
    assert!(code == Some(1) && err.contains("/url"), "{err}");
    assert_eq!(data(&platform, &["ext"])["items"], serde_json::json!([]));

    platform.must(&["ext", "install", &file, "--yes", "--set", URL]);
    let (code, _, err) = said(platform.berth(&["ext", "show", "webhook"]));
    assert!(code == Some(1) && err.contains("did you mean berth.webhook?"), "{err}");
    let (code, _, err) = said(platform.berth(&["ext", "remove", "berth.webhook"]));
    assert!(code == Some(2) && err.contains("say --yes"), "{err}");
    let (code, _, err) =
        said(super::berth_with(&platform, &["ext", "secrets", "set", "berth.webhook", "a"], ""));
    assert!(code == Some(2) && err.contains("no value of a came"), "{err}");
    set_secret(&platform, "berth.webhook", "signing-key", "value");

    for list in ["list", "show", "config", "secrets list", "apps", "disable", "resume", "replay"] {
        let mut words: Vec<&str> = list.split(' ').collect();
        words.insert(0, "ext");
        if list != "list" {
            words.push("berth.webhook");
        }
        data(&platform, &words);
    }
    assert_eq!(data(&platform, &["ext", "config", "berth.webhook"])["url"], URL["url=".len()..]);
    platform.must(&["--json", "ext", "logs", "berth.webhook"]);
    assert_eq!(data(&platform, &["ext", "disable", "--all"])[0], "berth.webhook");
    assert_eq!(data(&platform, &["ext", "disable", "--all"]), serde_json::json!([]));
}
