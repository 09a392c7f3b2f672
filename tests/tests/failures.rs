//! Deploys that fail: the reason stands in the push, the release before goes on, nothing is left.

use acceptance::{Platform, Repository, wait_for};

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

/// Everything of this platform that a deploy could leave behind: loop devices, mounts, links in its
/// network, folders of containers, control groups, processes.
fn traces(platform: &Platform) -> Vec<String> {
    let id = std::fs::read_to_string(platform.data.join("id")).unwrap().trim().to_owned();
    let data = platform.data.display().to_string();
    let run = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).output().expect("starts");
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let own = |lines: Vec<String>| {
        lines.into_iter().filter(|line| line.contains(&id) || line.contains(&data))
    };
    let mut all: Vec<String> =
        own(run("losetup", &["--list", "--noheadings", "--output", "BACK-FILE"])).collect();
    all.extend(own(std::fs::read_to_string("/proc/mounts")
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()));
    all.extend(own(run("find", &["/sys/fs/cgroup", "-type", "d"])));
    all.extend(own(run("ps", &["-e", "-o", "args="])).filter(|line| !line.starts_with("git")));
    let links = run("nsenter", &[&format!("--net=/run/berth/{id}/net"), "ip", "-brief", "link"]);
    all.extend(
        links.iter().map(|line| line.split(['@', ' ']).next().unwrap_or_default().to_owned()),
    );
    all.extend(run("ls", &[&format!("/run/berth/{id}/i"), &format!("{data}/disks")]));
    all.sort();
    all
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
        (ps["items"].as_array()?.len() == 1).then(|| traces(&platform))
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
        left = traces(&platform);
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
