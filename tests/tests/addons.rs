//! Add-ons, as people use them: Redis and PostgreSQL serve an app, are reached by nobody else, keep
//! what they hold through crashes, are backed up and restored, and leave nothing when they go.

use std::path::PathBuf;

use acceptance::{Platform, Repository, platform::programs, wait_for};
use serde_json::Value;

/// Counts in Redis, and keeps rows in PostgreSQL.
const APP: &str = r#"
import os, urllib.parse
from http.server import BaseHTTPRequestHandler, HTTPServer
import pg8000.native, redis

def cache():
    return redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)

def database():
    url = urllib.parse.urlsplit(os.environ["DATABASE_URL"])
    return pg8000.native.Connection(
        url.username, url.hostname, url.path[1:], url.port, url.password)

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        verb, _, text = self.path.strip("/").partition("/")
        try:
            body, status = self.answer(verb, text), 200
        except Exception as error:
            body, status = repr(error), 500
        self.send_response(status)
        self.end_headers()
        self.wfile.write(f"{body}\n".encode())

    def answer(self, verb, text):
        if verb == "visit":
            return cache().incr("visits")
        if verb == "visits":
            return cache().get("visits")
        if verb == "names":
            return " ".join(sorted(name for name in os.environ if name.endswith("_URL")))
        if verb in ("put", "rows"):
            db = database()
            db.run("CREATE TABLE IF NOT EXISTS rows (name text)")
            if verb == "put":
                db.run("INSERT INTO rows VALUES (:name)", name=text)
            rows = db.run("SELECT name FROM rows ORDER BY name")
            db.close()
            return " ".join(name for name, in rows)
        return "here"

HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// As other tests', but for the time that a database may take to come up.
const CONFIG: &str = "[deploy]\nmonitor_ms = 1000\ndrain_ms_max = 3000\nstop_ms_max = 10000\n";

/// Connects to a host and a port, and says whether it could.
const REACH: &str = "import socket, sys\n\
    try:\n    socket.create_connection((sys.argv[1], int(sys.argv[2])), 2); print('reached')\n\
    except socket.gaierror: print('unknown')\n\
    except OSError: print('not reached')\n";

fn app() -> Repository {
    let repository = Repository::new();
    repository.write("requirements.txt", "pg8000==1.31.2\nredis==5.0.8\n");
    repository.write("Procfile", "web: exec python3 app.py\n");
    repository.write("app.py", APP);
    repository.commit("An app");
    repository
}

/// Installs an extension that ships with Berth, with all that it asks for or with less.
fn install(platform: &Platform, name: &str, granted: Option<&str>) {
    let component = std::fs::read(programs().join(format!("plugins/{name}.wasm"))).unwrap();
    let url = format!("http://{}/v1/extensions", platform.api);
    let client = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
    let post = |query: &[(&str, &str)]| -> Value {
        let request = client
            .post(&url)
            .query(query)
            .bearer_auth(&platform.token)
            .header("content-type", "application/wasm");
        let answer = request.body(component.clone()).send().unwrap();
        let status = answer.status();
        let text = answer.text().unwrap();
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str(&text).unwrap()
    };
    let review = post(&[("review", "true")]);
    let hash = review["hash"].as_str().unwrap_or_else(|| panic!("{review}"));
    match granted {
        Some(granted) => post(&[("accept", hash), ("granted", granted)]),
        None => post(&[("accept", hash)]),
    };
}

fn get(platform: &Platform, path: &str) -> String {
    wait_for(&format!("{path} of the app"), 60, || {
        let (status, text) = platform.get("app", path).ok()?;
        (status == 200).then(|| text.trim().to_owned())
    })
}

/// What a command that must fail says.
#[track_caller]
fn refused(platform: &Platform, arguments: &[&str]) -> String {
    let output = platform.berth(arguments);
    assert!(!output.status.success(), "{arguments:?} did not fail");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until the newest deployment of an app is watched no longer: an end of the platform counts
/// against one that is.
fn watched(platform: &Platform, app: &str) {
    let url = format!("http://{}/v1/apps/{app}/deployments?limit=1", platform.api);
    let client = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
    wait_for("the end of a watch", 60, || {
        let answer = client.get(&url).bearer_auth(&platform.token).send().ok()?;
        let page: Value = serde_json::from_str(&answer.text().ok()?).ok()?;
        (page["items"][0]["state"] == "done").then_some(())
    });
}

fn reach(platform: &Platform, app: &str, host: &str, port: &str) -> String {
    let said = platform.must(&["run", "--app", app, "--", "python3", "-c", REACH, host, port]);
    said.trim().to_owned()
}

fn backup(platform: &Platform, name: &str) -> String {
    let made = platform.must(&["--json", "addons", "backup", name]);
    let made: Value = serde_json::from_str(&made).unwrap();
    made["id"].as_str().unwrap().to_owned()
}

fn disks(platform: &Platform) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(platform.data.join("disks")).unwrap().flatten();
    let all = entries.map(|entry| entry.path());
    all.filter(|path| path.to_string_lossy().contains("/volume-")).collect()
}

#[test]
fn redis_and_postgresql_serve_an_app_outlive_crashes_and_are_restored() {
    let mut platform = Platform::start_with(CONFIG);
    install(&platform, "redis", None);
    install(&platform, "postgresql", None);
    platform.must(&["addons", "create", "redis", "cache"]);
    platform.must(&["addons", "create", "berth.postgresql", "db", "--size", "512MiB"]);
    let list = platform.must(&["addons"]);
    assert!(list.contains("berth.redis") && list.contains("berth.postgresql"), "{list}");
    let shown = platform.must(&["addons", "show", "db"]);
    assert!(shown.contains("db.internal:5432") && shown.contains("512"), "{shown}");
    // Neither is an app, and nobody pushes to it or asks it over HTTP.
    assert!(!platform.must(&["apps"]).contains("cache"));
    assert_eq!(platform.get("cache", "/").unwrap().0, 404);

    let repository = app();
    repository.deploy(&platform, "app");
    platform.must(&["addons", "attach", "cache", "--app", "app"]);
    platform.must(&["addons", "attach", "db", "--app", "app"]);
    assert_eq!(get(&platform, "/names"), "DATABASE_URL REDIS_URL");
    assert_eq!(get(&platform, "/visit"), "1");
    assert_eq!(get(&platform, "/visit"), "2");
    assert_eq!(get(&platform, "/put/first"), "first");

    // What was backed up is there again, and what came after it is not.
    let (of_cache, of_db) = (backup(&platform, "cache"), backup(&platform, "db"));
    assert_eq!(get(&platform, "/visit"), "3");
    assert_eq!(get(&platform, "/put/second"), "first second");
    platform.must(&["addons", "restore", "cache", &of_cache, "--yes"]);
    platform.must(&["addons", "restore", "db", &of_db, "--yes"]);
    assert_eq!(get(&platform, "/visits"), "2");
    assert_eq!(get(&platform, "/rows"), "first");

    // `kill -9` of the platform's processes costs nothing; nor does its end and a new start, nor a
    // restart of the add-ons.
    platform.kill();
    assert_eq!(get(&platform, "/visit"), "3");
    platform.kill_agent();
    platform.serve().unwrap();
    assert_eq!(get(&platform, "/put/third"), "first third");
    platform.must(&["ps", "restart", "--app", "db"]);
    platform.must(&["ps", "restart", "--app", "cache"]);
    assert_eq!(get(&platform, "/rows"), "first third");
    assert_eq!(get(&platform, "/visits"), "3");
    for app in ["app", "cache", "db"] {
        watched(&platform, app);
    }
    platform.down().unwrap();
    platform.serve().unwrap();
    assert_eq!(get(&platform, "/rows"), "first third");
    assert_eq!(get(&platform, "/visits"), "3");

    // Into another add-on of the same kind, and into no other kind.
    platform.must(&["addons", "create", "redis", "copy"]);
    platform.must(&["addons", "restore", "copy", &of_cache, "--yes"]);
    let text = refused(&platform, &["addons", "restore", "copy", &of_db, "--yes"]);
    assert!(text.contains("is one of berth.postgresql"), "{text}");
    platform.must(&["addons", "detach", "cache", "--app", "app"]);
    platform.must(&["addons", "attach", "copy", "--app", "app"]);
    assert_eq!(get(&platform, "/visits"), "2");

    // A backup can be had as a file; what is damaged is refused and changes nothing.
    let file = repository.path().join("dump");
    let path = file.to_str().unwrap();
    platform.must(&["addons", "download", "db", &of_db, path]);
    assert!(std::fs::read(&file).unwrap().starts_with(b"PGDMP"));

    // No password is in an argument, a log or an event.
    let config = platform.must(&["config", "get", "DATABASE_URL", "--app", "app"]);
    let password = config.split(['@', ':']).nth(2).unwrap().to_owned();
    assert_eq!(password.len(), 32, "{config}");
    let processes = std::process::Command::new("ps").args(["-e", "-o", "args="]).output().unwrap();
    let logs = platform.must(&["logs", "--app", "db", "-n", "1000"]);
    let seen = [String::from_utf8_lossy(&processes.stdout).into_owned(), logs, platform.log()];
    assert!(!seen.iter().any(|text| text.contains(&password)), "{seen:?}");

    // Nothing goes while it is used, and nothing stays when it goes.
    let text = refused(&platform, &["addons", "remove", "db", "--yes"]);
    assert!(text.contains("attached to app"), "{text}");
    let text = refused(&platform, &["apps", "destroy", "--app", "db", "--yes", "--volumes"]);
    assert!(text.contains("add-on"), "{text}");
    for name in ["db", "copy"] {
        platform.must(&["addons", "detach", name, "--app", "app"]);
    }
    assert_eq!(get(&platform, "/names"), "");
    assert_eq!(disks(&platform).len(), 3);
    for name in ["db", "copy", "cache"] {
        let text = refused(&platform, &["addons", "remove", name]);
        assert!(text.contains("say --yes"), "{text}");
        platform.must(&["addons", "remove", name, "--yes"]);
    }
    wait_for("the disks to go", 30, || disks(&platform).is_empty().then_some(()));
    assert!(refused(&platform, &["addons", "backups", "db"]).contains("no add-on"));
}

#[test]
fn an_addon_is_reached_at_its_port_by_the_apps_that_are_attached_and_by_nobody_else() {
    let platform = Platform::start();
    install(&platform, "redis", None);
    platform.must(&["addons", "create", "redis", "cache"]);
    platform.must(&["addons", "create", "redis", "unused"]);
    let repository = Repository::new();
    repository.write("requirements.txt", "");
    repository.write("Procfile", "web: exec python3 -m http.server $PORT\n");
    repository.commit("An app");
    repository.deploy(&platform, "app");
    repository.deploy(&platform, "other");
    assert_eq!(reach(&platform, "app", "cache.internal", "6379"), "not reached");
    platform.must(&["addons", "attach", "cache", "--app", "app", "--as", "FAST"]);
    let config = platform.must(&["config", "--app", "app"]);
    assert!(config.contains("FAST_REDIS_URL"), "{config}");
    assert_eq!(reach(&platform, "app", "cache.internal", "6379"), "reached");
    for (app, host, port) in [
        ("app", "cache.internal", "5000"),
        ("app", "unused.internal", "6379"),
        ("other", "cache.internal", "6379"),
    ] {
        assert_eq!(reach(&platform, app, host, port), "not reached", "{app} {host}:{port}");
    }
    assert_eq!(reach(&platform, "app", "nothing.internal", "6379"), "unknown");
    let twice = refused(&platform, &["addons", "attach", "cache", "--app", "app"]);
    assert!(twice.contains("attached to this app already"), "{twice}");
    platform.must(&["addons", "detach", "cache", "--app", "app"]);
    assert_eq!(reach(&platform, "app", "cache.internal", "6379"), "not reached");
}

#[test]
fn an_addon_is_made_of_what_was_granted_and_of_nothing_else() {
    let platform = Platform::start();
    let text = refused(&platform, &["addons", "create", "redis", "cache"]);
    assert!(text.contains("no kind of add-on is called 'redis'"), "{text}");
    install(&platform, "redis", Some(r#"{"packages": [{"name": "redis-tools"}]}"#));
    let text = refused(&platform, &["addons", "create", "redis", "cache"]);
    assert!(text.contains("the package 'redis-server' was not granted"), "{text}");
    let text = refused(&platform, &["addons", "create", "redis", "cache", "--set", "size-mib=1"]);
    assert!(text.contains("size-mib"), "{text}");
    assert!(!platform.must(&["addons"]).contains("cache"));
}
