//! Stopping the whole platform, and starting it again.

use acceptance::freeze::Watch;
use acceptance::platform::programs;
use acceptance::traces::{self, processes};
use acceptance::{Platform, Repository, Rows, wait_for};

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
fn down_stops_what_an_agent_that_was_killed_has_left() {
    let mut platform = Platform::start();
    Repository::of_sample("static-site").deploy(&platform, "site");
    let id = std::fs::read_to_string(platform.data.join("id")).unwrap().trim().to_owned();
    platform.kill_agent();
    platform.wait_end();
    assert_eq!(platform.get("site", "/").unwrap().0, 200, "the app goes on");
    let down = std::process::Command::new(programs().join("berthd"))
        .args(["down", "--grace-ms", "2000", "--data"])
        .arg(&platform.data)
        .output()
        .unwrap();
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert!(platform.get("site", "/").is_err(), "the router is gone");
    assert!(!std::path::Path::new("/run/berth").join(&id).exists(), "its run folder is gone");
    assert_eq!(processes(&[&id]), Vec::<i32>::new());
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

#[test]
fn a_reset_of_the_admin_token_takes_effect_at_once() {
    let platform = Platform::start();
    let old = platform.token.clone();
    platform.must(&["apps", "list"]);
    let reset = std::process::Command::new(programs().join("berthd"))
        .args(["admin-token-reset", "--data"])
        .arg(&platform.data)
        .output()
        .unwrap();
    assert!(reset.status.success(), "{}", String::from_utf8_lossy(&reset.stderr));
    let refused = platform.berth_as(&old, &["apps", "list"]);
    assert!(!refused.status.success(), "the old token is worth nothing any more");
    let new = std::fs::read_to_string(platform.data.join("admin-token")).unwrap();
    let allowed = platform.berth_as(new.trim(), &["apps", "list"]);
    assert!(allowed.status.success(), "{}", String::from_utf8_lossy(&allowed.stderr));
}

#[test]
fn a_first_start_that_fails_after_the_admin_token_was_made_leaves_a_token_that_is_valid() {
    let parent = std::path::Path::new("/var/lib/berth-test");
    std::fs::create_dir_all(parent).unwrap();
    let data = tempfile::Builder::new().prefix("t").tempdir_in(parent).unwrap().keep();
    // A folder where the database is to be: the start fails after the token was written.
    std::fs::create_dir_all(data.join("state/berth.sqlite")).unwrap();
    // Its agent stays, with what it was given: nobody waits for the end of its output.
    let nothing = std::process::Stdio::null;
    let failed = std::process::Command::new(programs().join("berthd"))
        .args(["serve", "--http", "127.0.0.1:0", "--api", "127.0.0.1:0", "--ssh", "127.0.0.1:0"])
        .arg("--data")
        .arg(&data)
        .stdout(nothing())
        .stderr(nothing())
        .status()
        .unwrap();
    assert_eq!(failed.code(), Some(64));
    let token = std::fs::read_to_string(data.join("admin-token")).unwrap();
    std::fs::remove_dir(data.join("state/berth.sqlite")).unwrap();
    let platform = Platform::start_in(data, "");
    assert_eq!(platform.token, token.trim());
    platform.must(&["apps", "list"]);
}

#[test]
fn an_app_that_is_destroyed_during_its_build_keeps_its_user_ids_until_the_build_has_ended() {
    let platform = Platform::start();
    let repository = Repository::new();
    repository.write("requirements.txt", "./slow\n").write("Procfile", "web: sleep 60\n");
    repository.endless_package("98762");
    repository.commit("A build without an end");
    let mut push = repository.push_command(&platform, "app", &["HEAD:main"]).spawn().unwrap();
    wait_for("the build to be in its container", 90, || {
        processes(&["sleep", "98762"]).first().copied()
    });
    let mut rows = Rows::of(&platform);
    let folder = platform.data.join("state");
    let watch = Watch::on(&[&folder]);
    platform.must(&["apps", "destroy", "--app", "app", "--yes"]);
    // Stopped as soon as the app is forgotten: nothing that works with its ids may be left then.
    let forgotten = "SELECT count(*) FROM events WHERE kind = 'app.erased'";
    if rows.number(forgotten) == 0 {
        assert!(watch.stop_when(platform.pid(), 60, |_| rows.number(forgotten) > 0, || false));
    }
    let left = processes(&["sleep", "98762"]);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(platform.pid()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    assert_eq!(left, Vec::<i32>::new(), "the build runs and its ids are free");
    assert!(!push.wait().unwrap().success());
    assert_eq!(rows.number("SELECT count(*) FROM apps"), 0);
    let disks = std::fs::read_dir(platform.data.join("disks")).unwrap().count();
    assert_eq!(disks, 0, "its caches are gone");
}

#[test]
fn a_destroyed_app_is_forgotten_and_nothing_of_it_runs_also_when_berthd_is_killed_meanwhile() {
    let mut platform = Platform::start();
    let site = Repository::of_sample("static-site");
    // What the first container of a platform leaves for others stays.
    site.deploy(&platform, "kept");
    let mut rows = Rows::of(&platform);
    wait_for("the first deployment to end", 30, || {
        let left = "SELECT count(*) FROM deployments WHERE finished_at_ms IS NULL";
        (rows.number(left) == 0).then_some(())
    });
    let calm = traces::kinds(&platform);
    for app in ["one", "two"] {
        site.deploy(&platform, app);
    }
    platform.must(&["apps", "destroy", "--app", "one", "--yes"]);
    wait_for("the app to be forgotten", 30, || {
        (rows.number("SELECT count(*) FROM apps") == 2).then_some(())
    });
    let destroyed = "SELECT count(*) FROM apps WHERE destroyed_at_ms IS NOT NULL";
    let folder = platform.data.join("state");
    let watch = Watch::on(&[&folder]);
    let destroy = ["apps", "destroy", "--app", "two", "--yes"];
    let mut destroy = platform.command(&platform.token, &destroy);
    let asked = std::thread::spawn(move || destroy.output());
    assert!(watch.stop_when(platform.pid(), 30, |_| rows.number(destroyed) == 1, || false));
    platform.kill();
    asked.join().unwrap().unwrap();
    platform.serve().unwrap();
    wait_for("the app to be forgotten", 30, || {
        (rows.number("SELECT count(*) FROM apps") == 1).then_some(())
    });
    let mut left = Vec::new();
    for _ in 0..200 {
        left = traces::kinds(&platform);
        if left == calm {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("left {left:#?}\nof {calm:#?}\n{}", platform.log());
}

#[test]
fn a_domain_is_routed_when_its_addition_is_answered() {
    let platform = Platform::start();
    let wasm = Repository::new();
    wasm.write("app.wasm", std::fs::read(programs().join("samples/wasm-hello/app.wasm")).unwrap());
    wasm.commit("A component");
    wasm.deploy(&platform, "hello");
    let data = platform.data.display().to_string();
    let router = processes(&["berthd", " route ", "--listeners-from-fd", &data]);
    let router = nix::unistd::Pid::from_raw(router[0]);
    nix::sys::signal::kill(router, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let add = ["domains", "add", "--app", "hello", "www.example.org"];
    let mut add = platform.command(&platform.token, &add);
    let adding = std::thread::spawn(move || add.output().unwrap());
    let mut rows = Rows::of(&platform);
    wait_for("the domain to be stored", 10, || {
        (rows.number("SELECT count(*) FROM domains") == 1).then_some(())
    });
    assert!(!adding.is_finished(), "answered while the router does not know the domain");
    nix::sys::signal::kill(router, nix::sys::signal::Signal::SIGCONT).unwrap();
    let added = adding.join().unwrap();
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let answer = platform
        .client("www.example.org")
        .get(format!("http://www.example.org:{}/", platform.http.port()))
        .send()
        .unwrap();
    assert_eq!(answer.status().as_u16(), 200);
}
