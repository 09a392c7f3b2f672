//! The hook `chat-notify`, whose channel is a secret: it is used, and is found nowhere.

use std::fs;
use std::path::Path;

use acceptance::Platform;

use super::receiver::Receiver;
use super::{data, hello, plugin, said, scene, set_secret};

const ID: &str = "berth.chat-notify";
const SECRET: &str = "T0pS3cretCh4nnel";

#[test]
fn a_channel_is_told_of_a_push_and_its_address_is_found_nowhere() {
    let scene = scene();
    let (receiver, authority) = Receiver::secured(&scene, 443, "chat.example");
    let bundle = "ssl/certs/ca-certificates.crt";
    scene.put_etc(bundle, &authority);
    let platform = Platform::start_elsewhere(&[], &[("SSL_CERT_FILE", &format!("/etc/{bundle}"))]);
    platform.must(&["ext", "install", &plugin("chat-notify"), "--yes"]);
    let listed = platform.must(&["ext", "secrets", "list", ID]);
    assert!(listed.contains("channel-url  not set"), "{listed}");
    set_secret(&platform, ID, "channel-url", &format!("https://chat.example/hooks/{SECRET}\n"));
    let (_, _, err) =
        said(super::berth_with(&platform, &["ext", "secrets", "set", ID, "another"], SECRET));
    assert!(err.contains("does not ask for a secret 'another'"), "{err}");

    // It is refused at first, and on its way a second time while everything is looked at.
    receiver.script(&[503]);
    hello().deploy(&platform, "hello");
    receiver.wait(1);
    receiver.hold(true);
    let told = &receiver.wait(2)[1];
    assert_eq!(told.line(), format!("POST /hooks/{SECRET} HTTP/1.1"));
    let text = told.json()["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("hello was deployed"), "{text}");
    // Where it lay, it would be found.
    let planted = platform.data.join("planted");
    fs::write(&planted, format!("url={SECRET}\n")).unwrap();
    assert_eq!(found(&platform), [planted.display().to_string()]);
    fs::remove_file(&planted).unwrap();
    let places = found(&platform);
    assert!(places.is_empty(), "{places:?}");
    receiver.hold(false);
    acceptance::wait_for("the channel to have been told", 20, || {
        (data(&platform, &["ext", "show", ID])["health"]["calls"]["ok"] == 1).then_some(())
    });

    // Where it leads nowhere, what is said of that does not say where it was to lead.
    let nowhere = format!("https://receiver.example/{SECRET}");
    set_secret(&platform, ID, "channel-url", &nowhere);
    hello().deploy(&platform, "other");
    super::logs(&platform, ID, "receiver.example is not reached");
    let places = found(&platform);
    assert!(places.is_empty(), "{places:?}");
    platform.must(&["ext", "secrets", "unset", ID, "channel-url"]);
    let secrets = data(&platform, &["ext", "secrets", "list", ID]);
    assert_eq!(secrets, serde_json::json!([{ "name": "channel-url", "set": false }]));
}

/// Where the secret can be read: files of the platform, what its programs were started with, and
/// what it says to the administrator.
fn found(platform: &Platform) -> Vec<String> {
    let mut places = Vec::new();
    search(&platform.data, &mut places);
    for process in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        for file in ["cmdline", "environ"] {
            look(&process.path().join(file), &mut places);
        }
    }
    for arguments in [
        &["ext", "show", ID][..],
        &["ext", "logs", ID, "-n", "2000"],
        &["ext", "list"],
        &["--json", "ext", "show", ID],
        &["logs", "--app", "hello"],
    ] {
        let output = platform.berth(arguments);
        if [output.stdout, output.stderr].iter().any(|text| has(text)) {
            places.push(format!("{arguments:?}"));
        }
    }
    let url = format!("http://{}/v1/events", platform.api);
    let events = reqwest::blocking::Client::new().get(url).bearer_auth(&platform.token).send();
    if has(events.unwrap().text().unwrap().as_bytes()) {
        places.push("events".to_owned());
    }
    places
}

fn search(folder: &Path, places: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => search(&entry.path(), places),
            Ok(kind) if kind.is_file() => look(&entry.path(), places),
            _ => {}
        }
    }
}

fn look(file: &Path, places: &mut Vec<String>) {
    // A file may go while it is looked for.
    if has(&fs::read(file).unwrap_or_default()) {
        places.push(file.display().to_string());
    }
}

fn has(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes())
}
