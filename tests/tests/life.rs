//! Stopping the whole platform, and starting it again.

use acceptance::platform::programs;
use acceptance::{Platform, Repository, wait_for};

#[test]
fn down_stops_everything_and_the_apps_come_back_with_the_next_start() {
    let mut platform = Platform::start();
    let wasm = Repository::new();
    wasm.write("app.wasm", std::fs::read(programs().join("samples/wasm-hello/app.wasm")).unwrap());
    wasm.commit("A component");
    wasm.deploy(&platform, "wasm");
    Repository::of_sample("static-site").deploy(&platform, "site");
    let id = std::fs::read_to_string(platform.data.join("id")).unwrap().trim().to_owned();

    platform.must(&["down", "--yes", "--grace-ms", "2000"]);
    platform.wait_end();
    let data = platform.data.display().to_string();
    let left = wait_for("everything to be gone", 20, || {
        let processes =
            std::process::Command::new("ps").args(["-e", "-o", "args="]).output().ok()?;
        let processes = String::from_utf8_lossy(&processes.stdout).into_owned();
        let mounts = std::fs::read_to_string("/proc/mounts").ok()?;
        let gone = |text: &str| !text.contains(&id) && !text.contains(&data);
        (gone(&processes) && gone(&mounts)).then_some(mounts)
    });
    assert!(!left.contains(&id));

    platform.serve().unwrap();
    for app in ["wasm", "site"] {
        wait_for("the app to answer again", 30, || {
            platform.get(app, "/").ok().filter(|(status, _)| *status == 200)
        });
    }
}

#[test]
fn a_second_berthd_on_the_same_data_folder_is_refused() {
    let platform = Platform::start();
    let output = std::process::Command::new(programs().join("berthd"))
        .args([
            "serve",
            "--http",
            "127.0.0.1:0",
            "--api",
            "127.0.0.1:0",
            "--ssh",
            "127.0.0.1:0",
            "--data",
        ])
        .arg(&platform.data)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another berthd serves"));
}

#[test]
fn an_address_that_is_not_loopback_is_refused_for_the_api() {
    let output = std::process::Command::new(programs().join("berthd"))
        .args(["serve", "--api", "0.0.0.0:0", "--data", "/var/lib/berth-test/never"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("loopback"));
    assert!(!std::path::Path::new("/var/lib/berth-test/never").exists());
}
