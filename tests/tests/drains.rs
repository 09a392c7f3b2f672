//! Log drains: lines of a real app reach rsyslog, through extensions, and nothing is lost on the way.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use acceptance::extensions::{api, install, plugin};
use acceptance::{Platform, Repository, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};

/// rsyslog with a configuration of its own in a folder of its own.
struct Rsyslog {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Rsyslog {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = folder.path().display();
        let config = format!(
            "global(workDirectory=\"{at}\" maxMessageSize=\"64k\")\nmodule(load=\"imtcp\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
             template(name=\"parts\" type=\"string\" string=\"%app-name%|%procid%|%msgid%|%syslogfacility-text%|%msg%\\n\")\n\
             action(type=\"omfile\" file=\"{at}/received\" template=\"parts\")\n"
        );
        std::fs::write(folder.path().join("config"), config).unwrap();
        let mut own = Self { folder, port, child: None };
        own.run();
        own
    }

    fn run(&mut self) {
        let at = self.folder.path();
        let child = Command::new("/usr/sbin/rsyslogd")
            .args(["-n", "-f"])
            .arg(at.join("config"))
            .arg("-i")
            .arg(at.join("pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let wanted = format!("0100007F:{:04X} ", self.port);
        wait_for("rsyslog to listen", 20, || {
            std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&wanted).then_some(())
        });
    }

    /// Ends it as a service manager does.
    fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        child.wait().unwrap();
    }

    fn received(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("received")).unwrap_or_default()
    }

    /// The numbers of the app's lines in the order in which each was first seen.
    fn numbers(&self) -> Vec<usize> {
        let text = self.received();
        let mut seen = BTreeSet::new();
        text.lines()
            .filter_map(|line| line.split_once("line ")?.1.split_whitespace().next()?.parse().ok())
            .filter(|number| seen.insert(*number))
            .collect()
    }

    /// Waits until it has that many lines more than now.
    fn grows(&self, by: usize) {
        let before = self.numbers().len();
        wait_for("further lines", 60, || (self.numbers().len() >= before + by).then_some(()));
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Serves, and counts in its log a hundred times a second.
const APP: &str = "\
import http.server, os, threading, time

def count():
    number = 0
    while True:
        print(f'line {number} DB_PASSWORD=swordfish', flush=True)
        number += 1
        time.sleep(0.01)

threading.Thread(target=count, daemon=True).start()
http.server.ThreadingHTTPServer(
    ('', int(os.environ['PORT'])), http.server.SimpleHTTPRequestHandler
).serve_forever()
";

fn counting() -> Repository {
    let repository = Repository::new();
    repository.write("requirements.txt", "");
    repository.write("app.py", APP);
    repository.write("Procfile", "web: python3 app.py\n");
    repository.commit("An app that counts");
    repository
}

/// Makes a drain of the app to rsyslog, and gives its id.
fn add(platform: &Platform, rsyslog: &Rsyslog, processors: &[&str]) -> String {
    let url = format!("syslog+tcp://127.0.0.1:{}", rsyslog.port);
    let mut arguments = vec!["drains", "add", &url, "--app", "count"];
    processors.iter().for_each(|id| arguments.extend(["--processor", *id]));
    let added = platform.must(&arguments);
    added.split_whitespace().next().unwrap().to_owned()
}

fn info(platform: &Platform, drain: &str) -> Value {
    serde_json::from_str(&platform.must(&["--json", "drains", "info", drain])).unwrap()
}

/// Waits until a count of the drain grows, and gives what fails.
fn counts(platform: &Platform, drain: &str, what: &str) -> String {
    let before = info(platform, drain)[what].as_u64().unwrap();
    wait_for(what, 30, || {
        let info = info(platform, drain);
        (info[what].as_u64()? > before).then(|| info["error"].as_str().map(str::to_owned))?
    })
}

#[test]
fn no_line_is_lost_when_the_receiver_restarts_and_when_the_platform_is_killed() {
    let mut rsyslog = Rsyslog::start();
    let mut platform = Platform::start();
    platform.must(&["apps", "create", "count", "--no-remote"]);
    let drain = add(&platform, &rsyslog, &[]);
    counting().deploy(&platform, "count");
    rsyslog.grows(50);

    rsyslog.stop();
    wait_for("the drain to say that its receiver is away", 30, || {
        let info = platform.must(&["drains", "info", &drain]);
        info.contains(&format!("127.0.0.1:{}", rsyslog.port)).then_some(())?;
        info.contains("broke").then_some(()).or(info.contains("cannot connect").then_some(()))
    });
    rsyslog.run();
    rsyslog.grows(200);

    platform.kill();
    platform.serve().unwrap();
    rsyslog.grows(200);
    platform.must(&["ps", "stop", "--app", "count"]);
    let last = wait_for("the last line of the app", 30, || {
        let shown = platform.must(&["logs", "--app", "count", "-n", "20"]);
        let last = shown.lines().filter_map(|line| line.split_once("line ")).next_back()?.1;
        let last: usize = last.split_whitespace().next()?.parse().ok()?;
        (rsyslog.numbers().last() == Some(&last)).then_some(last)
    });
    assert_eq!(rsyslog.numbers(), (0..=last).collect::<Vec<_>>());
    let text = rsyslog.received();
    assert!(text.contains("count|web.1|stdout|"), "{}", &text[..200.min(text.len())]);
    assert_eq!(info(&platform, &drain)["dropped"], 0);
    platform.must(&["drains", "remove", &drain]);
}

#[test]
fn processors_change_the_lines_and_the_manifest_of_one_that_fails_says_what_becomes_of_them() {
    let rsyslog = Rsyslog::start();
    let platform = Platform::start();
    platform.must(&["apps", "create", "count", "--no-remote"]);
    let url = format!("syslog+tcp://127.0.0.1:{}", rsyslog.port);
    let missing = ["drains", "add", &url, "--app", "count", "--processor", "berth.redact-secrets"];
    let refused = platform.berth(&missing);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("no extension"), "{text}");
    let redactor = install(&platform, &plugin("redact-secrets"), "count", &json!({}));
    let local0 = json!({ "facility": 16, "hostname": "prod" });
    let writer = install(&platform, &plugin("rfc5424-drain"), "count", &local0);
    let drain = add(&platform, &rsyslog, &[&redactor, &writer]);
    counting().deploy(&platform, "count");
    rsyslog.grows(50);
    let text = rsyslog.received();
    let line = text.lines().find(|line| line.contains("|stdout|")).unwrap();
    assert!(line.starts_with("count|web.1|stdout|local0|"), "{line}");
    assert!(line.ends_with("DB_PASSWORD=[redacted]"), "{line}");
    assert!(!text.contains("swordfish"));
    let told = info(&platform, &drain);
    assert_eq!((&told["dropped"], &told["unprocessed"]), (&json!(0), &json!(0)), "{told}");

    // The writer fails open: lines go on in the platform's own form.
    api(&platform, Method::POST, &format!("/{writer}/disable"), None);
    let error = counts(&platform, &drain, "unprocessed");
    assert!(error.contains(&writer), "{error}");
    wait_for("lines in the platform's own form", 30, || {
        rsyslog.received().contains("count|web.1|stdout|user|").then_some(())
    });
    // The redactor fails closed: nothing leaves that it did not see.
    let bad = json!({ "patterns": ["("] });
    api(&platform, Method::PUT, &format!("/{redactor}/config"), Some(bad));
    let error = counts(&platform, &drain, "dropped");
    assert!(error.contains(&redactor) && error.contains("pattern"), "{error}");
    api(&platform, Method::PUT, &format!("/{redactor}/config"), Some(json!({})));
    api(&platform, Method::POST, &format!("/{writer}/resume"), None);
    rsyslog.grows(50);
    assert!(!rsyslog.received().contains("swordfish"));
    // One that is gone hides nothing any more, so nothing leaves.
    api(&platform, Method::DELETE, &format!("/{redactor}"), None);
    let error = counts(&platform, &drain, "dropped");
    assert!(error.contains("not installed"), "{error}");
    assert!(!rsyslog.received().contains("swordfish"));
}

#[test]
fn what_an_address_may_hide_is_shown_nowhere_and_kept_only_sealed() {
    let platform = Platform::start();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("https://user:swordfish@127.0.0.1:{port}/swordfish?token=swordfish");
    let added = platform.must(&["drains", "add", &url, "--all-apps"]);
    let drain = added.split_whitespace().next().unwrap();
    assert!(added.contains(&format!("https://***@127.0.0.1:{port}/***")), "{added}");
    let events = reqwest::blocking::Client::new()
        .get(format!("http://{}/v1/events", platform.api))
        .bearer_auth(&platform.token)
        .send()
        .and_then(reqwest::blocking::Response::text)
        .unwrap();
    assert!(events.contains("drain.created"), "{events}");
    for text in [
        added.clone(),
        events,
        platform.must(&["drains"]),
        platform.must(&["--json", "drains"]),
        platform.must(&["drains", "info", drain]),
        platform.log(),
    ] {
        assert!(!text.contains("swordfish"), "{text}");
    }
    let mut folders = vec![platform.data.clone()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files += 1;
                let bytes = std::fs::read(entry.path()).unwrap();
                let plain = bytes.windows(9).any(|part| part == b"swordfish");
                assert!(!plain, "{}", entry.path().display());
            }
        }
    }
    assert!(files > 0);
}
