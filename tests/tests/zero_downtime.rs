//! Requests go on without a failure while everything happens to the app they go to.

use acceptance::load::Form;
use acceptance::{Load, Platform, Repository, wait_for};

fn drive(sample: &str, file: &str, form: Form) {
    let mut platform = Platform::start();
    let repository = Repository::of_sample(sample);
    repository.deploy(&platform, "app");
    let load = Load::start(platform.http, "app.localhost", form, 200);
    let steady = |load: &Load| {
        let before = load.sent();
        wait_for("more requests", 10, || (load.sent() > before + 100).then_some(()));
    };
    steady(&load);

    let path = repository.path().join(file);
    let source = std::fs::read_to_string(&path).unwrap();
    assert!(source.contains("Hello"));
    std::fs::write(&path, source.replace("Hello", "Good day")).unwrap();
    repository.commit("A change");
    repository.deploy(&platform, "app");
    steady(&load);
    platform.must(&["config", "set", "--app", "app", "GREETING=Servus"]);
    steady(&load);
    platform.must(&["ps", "scale", "--app", "app", "web=2"]);
    steady(&load);
    platform.must(&["ps", "scale", "--app", "app", "web=1"]);
    steady(&load);
    platform.must(&["releases", "rollback", "--app", "app", "v1"]);
    steady(&load);
    platform.kill();
    steady(&load);
    platform.serve().unwrap();
    steady(&load);

    platform.kill_agent();
    // Without its agent berthd ends with 70, for its supervisor to start both again.
    assert_eq!(platform.wait_end(), 70, "{}", platform.log());
    steady(&load);
    platform.serve().unwrap();
    platform.must(&["ps", "restart", "--app", "app"]);
    steady(&load);

    let seen = load.finish();
    assert!(
        seen.failures.is_empty(),
        "{} of {} failed: {:#?}",
        seen.failures.len(),
        seen.sent,
        &seen.failures[..seen.failures.len().min(20)]
    );
}

#[test]
fn no_request_to_a_python_app_fails_while_it_is_changed_and_the_platform_is_killed() {
    drive("python-flask", "app.py", Form { get: "/", post: "/notes", body: "text=x" });
}

#[test]
fn no_request_to_a_node_app_fails_while_it_is_changed_and_the_platform_is_killed() {
    drive(
        "node-express",
        "server.js",
        Form { get: "/api/votes", post: "/api/votes", body: "choice=row" },
    );
}
