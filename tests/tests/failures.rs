//! Deploys that fail: the reason stands in the push, the release before goes on, nothing is left.

use acceptance::{Platform, Repository, traces, wait_for};

const GOOD: &str = "web: python3 -m http.server --bind 0.0.0.0 $PORT\n";

fn app(procfile: &str) -> Repository {
    let repository = Repository::new();
    repository
        .write("requirements.txt", "")
        .write("index.html", "the first")
        .write("Procfile", procfile);
    repository.commit("An app");
    repository
}

#[track_caller]
fn refused(platform: &Platform, repository: &Repository, reasons: &[&str]) {
    let pushed = repository.push(platform, "app", &["HEAD:main"]);
    assert!(!pushed.ok, "{}", pushed.text);
    for reason in reasons {
        assert!(pushed.text.contains(reason), "no {reason:?} in\n{}", pushed.text);
    }
    let (status, body) = platform.get("app", "/").unwrap();
    assert_eq!(status, 200);
    assert!(body.contains("the first"), "{body}");
}

#[test]
fn a_failing_deploy_says_why_keeps_the_old_release_and_leaves_nothing() {
    let platform = Platform::start();
    let repository = app(GOOD);
    repository.deploy(&platform, "app");
    let before = wait_for("the deploy to settle", 30, || {
        let ps: serde_json::Value =
            serde_json::from_str(&platform.must(&["ps", "--app", "app", "--json"])).ok()?;
        (ps["items"].as_array()?.len() == 1).then(|| traces::of(&platform))
    });

    for (procfile, reasons) in [
        ("web: echo starting; exit 3\n", &["starting", "exit code 3"][..]),
        ("web: python3 -m http.server --bind 0.0.0.0 8123\n", &["8123", "5000"]),
        ("web: python3 -m http.server --bind 127.0.0.1 $PORT\n", &["127.0.0.1"]),
        ("web: echo waiting for nothing; sleep 600\n", &["waiting for nothing", "5000"]),
        (
            "release: echo migrating; exit 7\nweb: python3 -m http.server --bind 0.0.0.0 $PORT\n",
            &["migrating", "7"],
        ),
        ("<<<<<<< HEAD\nweb: true\n=======\nweb: false\n>>>>>>> x\n", &["Procfile"]),
    ] {
        repository.write("Procfile", procfile);
        repository.commit("Broken");
        refused(&platform, &repository, reasons);
    }
    repository
        .write("Procfile", GOOD)
        .write("requirements.txt", "no-such-package-of-berth==9.9.9\n");
    repository.commit("A package that is nowhere");
    refused(&platform, &repository, &["no-such-package-of-berth"]);

    let mut left = Vec::new();
    for _ in 0..200 {
        left = traces::of(&platform);
        left.retain(|line| !before.contains(line));
        if left.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(left.is_empty(), "left behind: {left:#?}");

    repository.write("requirements.txt", "").write("index.html", "the second");
    repository.commit("Mended");
    repository.deploy(&platform, "app");
    assert!(platform.get("app", "/").unwrap().1.contains("the second"));
}
