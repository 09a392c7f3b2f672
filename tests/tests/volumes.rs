//! Named volumes, as people use them: what an app writes outlives its releases, its instances and
//! the platform's own processes, and goes only when somebody says so.

use std::path::PathBuf;
use std::process::Stdio;

use acceptance::{Platform, Repository, wait_for};

/// Appends what it is told to `/data/rows`, and tells of its own life there.
const APP: &str = r#"
import os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
VERSION = "one"

def append(name, text):
    with open(f"/data/{name}", "a") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())

def read(name):
    try:
        return open(f"/data/{name}").read()
    except FileNotFoundError:
        return ""

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        verb, _, text = self.path.strip("/").partition("/")
        body = VERSION + "\n"
        if verb == "put":
            append("rows", text)
        elif verb == "rows":
            body = read("rows")
        elif verb == "life":
            body = read("life")
        elif verb == "who":
            found = os.stat("/data")
            body = f"{os.getuid()} {found.st_uid} {found.st_gid}\n"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())

def end(*_):
    append("life", "end")
    sys.exit(0)

if os.path.ismount("/data"):
    signal.signal(signal.SIGTERM, end)
    append("life", "begin")
HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

fn app() -> Repository {
    let repository = Repository::new();
    repository.write("requirements.txt", "");
    repository.write("Procfile", "web: exec python3 app.py\nworker: exec sleep 600\n");
    repository.write("app.py", APP);
    repository.commit("An app");
    repository
}

fn get(platform: &Platform, path: &str) -> String {
    wait_for("the app to answer", 30, || {
        let (status, text) = platform.get("app", path).ok()?;
        (status == 200).then_some(text)
    })
}

fn disks(platform: &Platform) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(platform.data.join("disks")).unwrap().flatten();
    let all = entries.map(|entry| entry.path());
    all.filter(|path| path.to_string_lossy().contains("/volume-")).collect()
}

/// What a command that must fail says.
fn refused(platform: &Platform, arguments: &[&str]) -> String {
    let output = platform.berth(arguments);
    assert!(!output.status.success(), "{arguments:?} did not fail");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_an_app_wrote_outlives_releases_restarts_and_the_platform() {
    let mut platform = Platform::start();
    let repository = app();
    repository.deploy(&platform, "app");
    let made = platform
        .must(&["volumes", "create", "data", "--app", "app", "--path", "/data", "--size", "64MiB"]);
    assert!(made.contains("web has the volume data of 64MiB at /data"), "{made}");
    assert_eq!(get(&platform, "/who"), "1000 1000 1000\n");
    get(&platform, "/put/first");

    // A new release: the old instance has ended before the new one begins.
    repository.write("app.py", APP.replace("VERSION = \"one\"", "VERSION = \"two\""));
    repository.commit("Another release");
    repository.deploy(&platform, "app");
    assert_eq!(get(&platform, "/"), "two\n");
    assert_eq!(get(&platform, "/rows"), "first\n");
    platform.must(&["ps", "restart", "--app", "app"]);
    assert_eq!(get(&platform, "/life"), "begin\nend\nbegin\nend\nbegin\n");
    get(&platform, "/put/second");

    // `kill -9` of the platform's processes costs nothing; nor does its end and a new start.
    platform.kill();
    platform.kill_agent();
    platform.serve().unwrap();
    assert_eq!(get(&platform, "/rows"), "first\nsecond\n");
    get(&platform, "/put/third");
    platform.down().unwrap();
    platform.serve().unwrap();
    assert_eq!(get(&platform, "/rows"), "first\nsecond\nthird\n");
    let list = platform.must(&["volumes", "--app", "app"]);
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1][..5], ["data", "app", "web", "/data", "64MiB"], "{list}");
    assert_eq!(rows[1][6], "yes", "{list}");
    // A command beside the instance has no part in it.
    let beside =
        platform.must(&["run", "--app", "app", "--", "sh", "-c", "ls /data 2> /dev/null || true"]);
    assert_eq!(beside, "");
    let inside = platform.must(&["exec", "--app", "app", "web.1", "cat", "/data/rows"]);
    assert_eq!(inside, "first\nsecond\nthird\n");
}

#[test]
fn a_release_that_does_not_come_up_gives_the_volume_back() {
    let platform = Platform::start_with("[deploy]\ncheck_ms_max = 2000\n");
    let repository = app();
    repository.deploy(&platform, "app");
    platform.must(&["volumes", "create", "data", "--app", "app", "--path", "/data"]);
    get(&platform, "/put/first");
    repository.write("app.py", "raise SystemExit(1)\n");
    repository.commit("A broken release");
    assert!(!repository.push(&platform, "app", &["HEAD:main"]).ok);
    assert_eq!(get(&platform, "/rows"), "first\n");
    assert_eq!(get(&platform, "/"), "one\n");
}

#[test]
fn a_volume_is_one_instances_and_goes_only_when_somebody_says_so() {
    let platform = Platform::start();
    let repository = app();
    repository.deploy(&platform, "app");
    for (path, said) in [("/etc/app", "would hide"), ("data", "absolute path")] {
        let text =
            refused(&platform, &["volumes", "create", "data", "--app", "app", "--path", path]);
        assert!(text.contains(said), "{text}");
    }
    platform.must(&["volumes", "create", "data", "--app", "app", "--path", "/data"]);
    get(&platform, "/put/first");
    let text = refused(&platform, &["ps", "scale", "--app", "app", "web=2"]);
    assert!(text.contains("web mounts the volume 'data'"), "{text}");
    platform.must(&["ps", "scale", "--app", "app", "worker=2"]);
    let text = refused(&platform, &["apps", "destroy", "--app", "app", "--yes"]);
    assert!(text.contains("--volumes"), "{text}");
    let remove = ["volumes", "remove", "data", "--app", "app", "--yes"];
    let text = refused(&platform, &remove);
    assert!(text.contains("web uses the volume 'data'"), "{text}");
    assert_eq!(get(&platform, "/rows"), "first\n");

    platform.must(&["ps", "stop", "--app", "app"]);
    assert_eq!(disks(&platform).len(), 1);
    platform.must(&remove);
    assert_eq!(disks(&platform), Vec::<PathBuf>::new());
    // The same name again is another volume.
    platform.must(&["volumes", "create", "data", "--app", "app", "--path", "/data"]);
    platform.must(&["ps", "start", "--app", "app"]);
    assert_eq!(get(&platform, "/rows"), "");
    assert_eq!(disks(&platform).len(), 1);
    platform.must(&["apps", "destroy", "--app", "app", "--yes", "--volumes"]);
    wait_for("the disk to go", 30, || disks(&platform).is_empty().then_some(()));
}

/// What `ps` shows of the app's process: the state of each instance, with its id.
fn instances(platform: &Platform) -> Vec<(String, String)> {
    let text = platform.must(&["--json", "ps", "--app", "app"]);
    let page: serde_json::Value = serde_json::from_str(&text).unwrap();
    let items = page["items"].as_array().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    items.iter().map(|item| (text(&item["id"]), text(&item["state"]))).collect()
}

#[test]
fn a_platform_that_is_killed_while_it_deploys_leaves_the_volume_to_one_instance() {
    let mut platform = Platform::start();
    let repository = app();
    repository.write("Procfile", "web: exec python3 app.py\n");
    repository.commit("One process");
    repository.deploy(&platform, "app");
    platform.must(&["volumes", "create", "data", "--app", "app", "--path", "/data"]);
    get(&platform, "/life");
    for round in 0..6 {
        let before = instances(&platform);
        let mut restart = platform
            .command(&platform.token, &["ps", "restart", "--app", "app"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("something to happen", 30, || {
            let now = instances(&platform);
            let begun = now.iter().any(|(id, _)| before.iter().all(|(known, _)| known != id));
            // By turns: the old one is on its way out, or the new one is there.
            if round % 2 == 0 { now != before } else { begun }.then_some(())
        });
        if round % 3 == 0 {
            platform.kill_agent();
        }
        platform.kill();
        restart.wait().unwrap();
        platform.serve().unwrap();
        wait_for("one instance that is ready", 60, || {
            let now = instances(&platform);
            let [(id, state)] = now.as_slice() else { return None };
            let is_new = before.iter().all(|(known, _)| known != id);
            (state == "ready" && is_new).then_some(())
        });
        let rows = get(&platform, &format!("/put/{round}"));
        assert_eq!(rows, "one\n");
    }
    // Each instance ended before the next one began.
    let life = get(&platform, "/life");
    let lines: Vec<&str> = life.lines().collect();
    assert!(lines.len() >= 13, "{life}");
    for (at, line) in lines.iter().enumerate() {
        assert_eq!(*line, if at % 2 == 0 { "begin" } else { "end" }, "{life}");
    }
    assert_eq!(get(&platform, "/rows"), "0\n1\n2\n3\n4\n5\n");
    assert_eq!(disks(&platform).len(), 1);
}
