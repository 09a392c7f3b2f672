//! What `berth` says to people and to scripts.

use std::process::{Command, Stdio};

use acceptance::platform::programs;
use acceptance::{Platform, Repository};
use nix::pty::{Winsize, openpty};

/// Code, standard output and standard error.
fn said(output: std::process::Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_platform_that_is_away_is_exit_code_3_with_what_to_do() {
    for arguments in [&["apps", "list"][..], &["run", "--app", "a", "id"], &["logs", "-fa", "a"]] {
        let output = Command::new(programs().join("berth"))
            .env("BERTH_SERVER", "http://127.0.0.1:1")
            .args(arguments)
            .output()
            .unwrap();
        let (code, out, err) = said(output);
        assert_eq!((code, out.as_str()), (Some(3), ""), "{arguments:?}: {err}");
        assert!(err.contains("cannot reach http://127.0.0.1:1"), "{err}");
        assert!(err.contains("BERTH_SERVER"), "{err}");
    }
}

#[test]
fn completions_are_scripts_that_their_shell_takes() {
    let script = said(
        Command::new(programs().join("berth")).args(["completions", "bash"]).output().unwrap(),
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &script.1).unwrap();
    let checked = Command::new("bash").arg("-n").arg(file.path()).output().unwrap();
    assert!(checked.status.success() && script.1.contains("releases"), "{checked:?}");
}

#[test]
fn an_app_is_found_by_its_remote_a_slip_is_recognised_and_every_list_is_data() {
    let platform = Platform::start();
    let repository = Repository::new();
    let inside = |arguments: &[&str]| {
        let mut command = Command::new(programs().join("berth"));
        command.env("BERTH_SERVER", format!("http://{}", platform.api));
        command.env("BERTH_TOKEN", &platform.token).current_dir(repository.path());
        said(command.args(arguments).stdin(Stdio::null()).output().unwrap())
    };
    let (code, _, err) = inside(&["apps", "create", "shop"]);
    assert!(code == Some(0) && err.contains("git push berth HEAD:main"), "{err}");
    let (code, out, err) = inside(&["apps", "info"]);
    assert!(code == Some(0) && out.contains("shop"), "{err}");

    let (code, _, err) = inside(&["ps", "--app", "shpo"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("there is no app 'shpo'") && err.contains("did you mean shop?"), "{err}");
    let (_, _, err) = inside(&["ps", "--app", "elsewhere"]);
    assert!(err.contains("`berth apps list` lists the apps"), "{err}");

    let outside = platform.berth(&["ps"]);
    let (code, _, err) = said(outside);
    assert!(code == Some(2) && err.contains("give --app NAME"), "{err}");

    for list in [
        "apps list",
        "ps",
        "config list",
        "builds list",
        "releases list",
        "domains list",
        "keys list",
        "tokens list",
        "teams list",
        "users list",
        "stacks list",
        "doctor",
        "logs",
        // A noun alone is its list.
        "apps",
        "config",
        "builds",
        "releases",
        "domains",
        "keys",
        "tokens",
        "teams",
        "users",
        "stacks",
    ] {
        let mut words: Vec<&str> = list.split(' ').collect();
        words.push("--json");
        let (_, out, err) = inside(&words);
        if list != "logs" {
            let value: Result<serde_json::Value, _> = serde_json::from_str(&out);
            assert!(value.is_ok(), "{list}: {out}{err}");
        }
        assert!(!err.contains("error"), "{list}: {err}");
    }
}

/// An app whose instances need some seconds to be ready.
fn slow_app(platform: &Platform) {
    let repository = Repository::new();
    repository
        .write("requirements.txt", "")
        .write("Procfile", "web: sleep 3; exec python3 -m http.server --bind 0.0.0.0 $PORT\n");
    repository.commit("A slow app");
    repository.deploy(platform, "slow");
}

#[test]
fn who_waits_for_instances_sees_them_come() {
    let platform = Platform::start();
    slow_app(&platform);
    let (code, out, err) = said(platform.berth(&["ps", "scale", "--app", "slow", "web=2"]));
    assert_eq!((code, out.as_str()), (Some(0), "slow runs web=2\n"), "{err}");
    assert!(err.contains("Scaling: web.1 ready, web.2 "), "{err}");

    // On a terminal the line moves, and is gone in the end.
    let size = Winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).unwrap();
    let mut child = Command::new(programs().join("berth"))
        .env("BERTH_SERVER", format!("http://{}", platform.api))
        .env("BERTH_TOKEN", &platform.token)
        .args(["ps", "restart", "--app", "slow"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(terminal.slave))
        .spawn()
        .unwrap();
    let mut shown = Vec::new();
    // The terminal's other end is closed with the child: reading ends with an error.
    let _ = std::io::Read::read_to_end(&mut std::fs::File::from(terminal.master), &mut shown);
    assert!(child.wait().unwrap().success());
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.matches("Restarting").count() > 4, "{shown:?}");
    assert!(shown.contains("(3s)") || shown.contains("(2s)"), "{shown:?}");
    assert!(shown.ends_with("\u{1b}[2K") || shown.ends_with('\r'), "{shown:?}");
}
