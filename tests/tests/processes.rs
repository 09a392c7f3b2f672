//! The platform's own processes: what they may do, and that they come back.

use std::path::Path;

use acceptance::platform::programs;
use acceptance::traces::processes;
use acceptance::{Platform, Repository, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn worker(platform: &Platform, kind: &str) -> i32 {
    let data = platform.data.display().to_string();
    wait_for("the worker", 10, || {
        let found = processes(&["berthd", kind, "--listeners-from-fd", &data]);
        (found.len() == 1).then(|| found[0])
    })
}

fn status(pid: i32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split(':').nth(1).unwrap().trim().to_owned()
}

fn component() -> Repository {
    let repository = Repository::new();
    repository
        .write("app.wasm", std::fs::read(programs().join("samples/wasm-hello/app.wasm")).unwrap());
    repository.commit("A component");
    repository
}

#[test]
fn control_router_and_wasm_worker_hold_no_capability_and_are_not_root() {
    let platform = Platform::start();
    let control = i32::try_from(platform.pid()).unwrap();
    let mut ids = Vec::new();
    for pid in [control, worker(&platform, " route "), worker(&platform, " wasm ")] {
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status(pid, set), "0000000000000000", "{set} of {pid}");
        }
        assert_eq!(status(pid, "NoNewPrivs"), "1");
        let uids = status(pid, "Uid");
        assert!(!uids.split_whitespace().any(|uid| uid == "0"), "{uids}");
        ids.push(uids);
    }
    ids.dedup();
    assert_eq!(ids.len(), 3, "each has an id of its own: {ids:?}");
}

#[test]
fn a_killed_router_and_a_killed_wasm_worker_come_back_and_serve_what_they_served() {
    let platform = Platform::start();
    component().deploy(&platform, "hello");
    let (_, before) = platform.get("hello", "/").unwrap();
    for kind in [" route ", " wasm "] {
        let old = worker(&platform, kind);
        kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
        wait_for("the app to answer again", 20, || {
            let (status, text) = platform.get("hello", "/").ok()?;
            (status == 200 && text == before).then_some(())
        });
        assert_ne!(worker(&platform, kind), old);
    }
}

#[test]
fn a_value_of_the_environment_is_in_no_file_and_in_no_command_line() {
    const VALUE: &str = "correct-horse-battery-staple-42";
    let platform = Platform::start();
    let repository = Repository::new();
    repository.write("requirements.txt", "");
    repository.write("Procfile", "web: python3 -m http.server --bind 0.0.0.0 $PORT\n");
    repository.commit("An app");
    repository.deploy(&platform, "app");
    component().deploy(&platform, "wasm");
    for app in ["app", "wasm"] {
        platform.must(&["config", "set", "--app", app, &format!("API_SECRET={VALUE}")]);
    }
    assert_eq!(
        platform.must(&["run", "--app", "app", "--", "sh", "-c", "echo $API_SECRET"]).trim(),
        VALUE
    );

    // What the run printed is in its log, as anything an app prints is.
    let found = std::process::Command::new("grep")
        .args([
            "--recursive",
            "--files-with-matches",
            "--binary-files=text",
            "--exclude-dir=logs",
            VALUE,
        ])
        .arg(&platform.data)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    assert_eq!(processes(&[VALUE]), Vec::<i32>::new());
    let events = platform.must(&["releases", "diff", "--app", "app", "v1", "v2"]);
    assert!(events.contains("API_SECRET") && !events.contains(VALUE), "{events}");
}

#[test]
fn berthd_serve_without_root_says_why_it_refuses() {
    let output = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(programs().join("berthd"))
        .args(["serve", "--data", "/var/lib/berth-test/nobody"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    // A home that others cannot search hides the program itself from that id.
    if output.status.code() == Some(64) {
        assert!(text.contains("must be started as root"), "{text}");
    } else {
        assert!(text.contains("Permission denied"), "{text}");
    }
    assert!(!Path::new("/var/lib/berth-test/nobody").exists());
}
