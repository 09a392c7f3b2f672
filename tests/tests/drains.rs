//! Log drains: lines of a real app reach rsyslog.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use acceptance::{Platform, Repository, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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
             template(name=\"parts\" type=\"string\" string=\"%app-name%|%procid%|%msgid%|%msg%\\n\")\n\
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

#[test]
fn no_line_is_lost_when_the_receiver_restarts_and_when_the_platform_is_killed() {
    let mut rsyslog = Rsyslog::start();
    let mut platform = Platform::start();
    platform.must(&["apps", "create", "count", "--no-remote"]);
    let url = format!("syslog+tcp://127.0.0.1:{}", rsyslog.port);
    let added = platform.must(&["drains", "add", &url, "--app", "count"]);
    let drain = added.split_whitespace().next().unwrap().to_owned();
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
    let info: serde_json::Value =
        serde_json::from_str(&platform.must(&["--json", "drains", "info", &drain])).unwrap();
    assert_eq!(info["dropped"], 0);
    platform.must(&["drains", "remove", &drain]);
}
