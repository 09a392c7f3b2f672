//! Who did what, when and from where, asked with the CLI of the real platform.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use acceptance::platform::programs;
use acceptance::repository::{said, ssh_key};
use acceptance::{Platform, Repository, wait_for};
use serde_json::Value;

/// Stands in every secret that is given.
const MARK: &str = "swordfish-7d1c";

fn component() -> Repository {
    let repository = Repository::new();
    repository
        .write("app.wasm", std::fs::read(programs().join("samples/wasm-hello/app.wasm")).unwrap());
    repository.commit("A component");
    repository
}

fn token(platform: &Platform, arguments: &[&str]) -> String {
    platform.must(&[&["tokens", "create"], arguments].concat()).trim().to_owned()
}

/// The rows of a table below its heads.
fn rows(platform: &Platform, token: &str, arguments: &[&str]) -> Vec<String> {
    let output = platform.berth_as(token, &[&["audit", "list"], arguments].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "audit list {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).lines().skip(1).map(str::to_owned).collect()
}

/// Whether a row has all of these, in this order.
fn has(rows: &[String], parts: &[&str]) -> bool {
    rows.iter().any(|row| {
        parts
            .iter()
            .try_fold(&row[..], |rest, part| rest.split_once(part).map(|(_, rest)| rest))
            .is_some()
    })
}

#[test]
fn everything_that_was_done_or_refused_is_listed_in_words_with_who_and_from_where() {
    let platform = Platform::start();
    let owner = token(&platform, &["--role", "operator", "--name", "olga"]);
    let viewer = token(&platform, &["--role", "viewer", "--name", "victor"]);
    platform.must(&["teams", "create", "blue"]);
    let other = token(&platform, &["--role", "operator", "--team", "blue", "--name", "bob"]);
    let repository = component();
    let mut push = repository.push_command(&platform, "hello", &["HEAD:main"]);
    let pushed = said(push.env("BERTH_TOKEN", &owner).output().unwrap());
    assert!(pushed.ok, "{}", pushed.text);
    let run =
        |token: &str, arguments: &[&str]| platform.berth_as(token, arguments).status.success();
    let set = ["config", "set", &format!("API_KEY={MARK}"), "--app", "hello"];
    assert!(run(&owner, &set));
    assert!(run(&owner, &["ps", "scale", "web=0", "--app", "hello"]));
    let drain = format!("https://user:{MARK}@logs.example.com/{MARK}");
    assert!(run(&owner, &["drains", "add", &drain, "--app", "hello"]));

    // What is refused.
    assert!(!run(&viewer, &set));
    assert!(!run(&other, &set), "another team's app");
    assert!(!run(&format!("berth_{MARK}"), &["apps", "list"]));
    let mut push = repository.push_command(&platform, "hello", &["HEAD:other"]);
    assert!(!said(push.env("BERTH_TOKEN", &viewer).output().unwrap()).ok);
    let folder = tempfile::tempdir().unwrap();
    let key = ssh_key(folder.path());
    assert!(!repository.push_ssh(&platform, &key, "hello", &["HEAD:main"]).ok);
    assert!(run(&owner, &["apps", "destroy", "--app", "hello", "--yes"]));

    // Refusals are told a moment later; the app is gone and has its history.
    let listed = wait_for("the refusals", 10, || {
        let listed = rows(&platform, &platform.token, &["--since", "1h", "--limit", "200"]);
        (listed.iter().filter(|row| row.contains("could not log in")).count() >= 2)
            .then_some(listed)
    });
    let shown = listed.join("\n");
    for parts in [
        &["olga", "127.0.0.1", "hello", "create app hello"][..],
        &["olga", "127.0.0.1", "hello", "start build"],
        &["olga", "127.0.0.1", "hello", "create release v1"],
        &["olga", "127.0.0.1", "hello", "set API_KEY (new)"],
        &["olga", "127.0.0.1", "hello", "scale web from 1 to 0"],
        &[
            "olga",
            "127.0.0.1",
            "hello",
            "send the lines of the app to https://***@logs.example.com",
        ],
        &["olga", "127.0.0.1", "hello", "destroy app hello"],
        &["admin", "127.0.0.1", "create token victor with the role viewer"],
        &["victor", "127.0.0.1", "hello", "may not change the app", "it takes developer"],
        &["victor", "127.0.0.1", "hello", "may not deploy (git push)"],
        &["bob", "127.0.0.1", "hello", "may not change the app", "it is another team's"],
        &["nobody", "127.0.0.1", "could not log in: a token that is not valid, over the API"],
        &["nobody", "127.0.0.1", "could not log in: the unknown key SHA256:", "over SSH"],
    ] {
        assert!(has(&listed, parts), "{parts:?} is not in\n{shown}");
    }
    assert!(!shown.contains(" system "), "the platform's own doings are not asked for:\n{shown}");

    // Filters, and what each may see.
    let own = rows(&platform, &viewer, &["--app", "hello", "--kind", "app.*"]);
    assert!(has(&own, &["olga", "destroy app hello"]) && !has(&own, &["start build"]), "{own:?}");
    let denied = rows(&platform, &viewer, &["--kind", "access.*"]);
    assert!(has(&denied, &["victor"]) && !has(&denied, &["bob"]) && !has(&denied, &["nobody"]));
    assert_eq!(rows(&platform, &viewer, &["--actor", "victor", "-n", "1"]).len(), 1);
    assert!(rows(&platform, &viewer, &["--actor", "nobody"]).is_empty());
    assert!(rows(&platform, &platform.token, &["--until", "1h"]).is_empty());
    assert!(!rows(&platform, &platform.token, &["--actor", "system"]).is_empty());
    let hidden = platform.berth_as(&other, &["audit", "list", "--app", "hello"]);
    assert_eq!(hidden.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&hidden.stderr).contains("there is no app 'hello'"));
    let wrong = platform.berth_as(&viewer, &["audit", "list", "--since", "yesterday"]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("how long ago"));
    let data: Value =
        serde_json::from_str(&platform.must(&["audit", "list", "--json", "-n", "3"])).unwrap();
    assert_eq!(data["items"].as_array().unwrap().len(), 3);

    // No secret, neither in what is told, nor in the table, nor in the log.
    let everything = platform.must(&["audit", "list", "--all", "--json", "--limit", "10000"]);
    let mut places = vec![("the audit", everything), ("the log", platform.log())];
    for file in std::fs::read_dir(platform.data.join("state")).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("berth.sqlite") {
            places.push((
                "the database",
                String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned(),
            ));
        }
    }
    assert!(places.len() >= 3, "the database is where it was");
    for (place, text) in &places {
        for secret in [MARK, &owner, &viewer, &other] {
            assert!(!text.contains(secret), "{secret} is in {place}");
        }
    }
}

/// `berth audit list --follow`, which ends with the test.
struct Follow {
    child: Child,
    lines: Receiver<String>,
}

impl Follow {
    fn start(platform: &Platform, token: &str, arguments: &[&str]) -> Self {
        let mut child = platform
            .command(token, &["audit", "list", "--follow", "--json"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        Self { child, lines }
    }

    /// The next event.
    fn next(&self) -> Value {
        let line = self.lines.recv_timeout(Duration::from_secs(20)).expect("an event");
        serde_json::from_str(&line).unwrap()
    }

    /// The next event of this kind, and the positions of all up to it.
    fn until(&self, kind: &str, seen: &mut Vec<i64>) -> Value {
        loop {
            let event = self.next();
            seen.push(event["seq"].as_i64().unwrap());
            if event["kind"] == kind {
                return event;
            }
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn following_goes_on_where_it_was_when_the_platform_was_killed_and_is_back() {
    let mut platform = Platform::start();
    platform.must(&["apps", "create", "one", "--no-remote"]);
    let follow = Follow::start(&platform, &platform.token, &["--all", "-n", "1"]);
    let mut seen = Vec::new();
    let event = follow.until("app.created", &mut seen);
    assert_eq!((&event["app"], seen.len()), (&Value::from("one"), 1), "the last one comes first");
    platform.must(&["apps", "create", "two", "--no-remote"]);
    assert_eq!(follow.until("app.created", &mut seen)["app"], "two");

    platform.kill();
    platform.serve().unwrap();
    platform.must(&["apps", "create", "three", "--no-remote"]);
    assert_eq!(follow.until("app.created", &mut seen)["app"], "three");
    platform.must(&["apps", "create", "four", "--no-remote"]);
    assert_eq!(follow.until("app.created", &mut seen)["app"], "four");

    let listed = platform.must(&["audit", "list", "--all", "--json", "--limit", "10000"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let (first, last) = (seen[0], seen[seen.len() - 1]);
    let mut expected: Vec<i64> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["seq"].as_i64().unwrap())
        .filter(|seq| (first..=last).contains(seq))
        .collect();
    expected.reverse();
    assert_eq!(seen, expected, "nothing is missing and nothing came twice");
}

#[test]
fn following_ends_when_the_token_does() {
    let platform = Platform::start();
    let made: Value =
        serde_json::from_str(&platform.must(&["tokens", "create", "--role", "viewer", "--json"]))
            .unwrap();
    let mut follow = Follow::start(&platform, made["secret"].as_str().unwrap(), &[]);
    assert_eq!(follow.next()["kind"], "token.created");
    platform.must(&["tokens", "revoke", made["token"]["id"].as_str().unwrap()]);
    let status = wait_for("the end", 20, || follow.child.try_wait().unwrap());
    let mut said = String::new();
    follow.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("not valid"), "{said}");
}
