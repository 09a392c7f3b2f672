//! `berth builds create`: the newest commit is built again and deployed.

use acceptance::platform::programs;
use acceptance::{Platform, Repository};

#[test]
fn a_secret_that_app_json_generates_comes_back_with_a_build_that_is_remembered() {
    let platform = Platform::start();
    let repository = Repository::new();
    repository
        .write("app.wasm", std::fs::read(programs().join("samples/wasm-hello/app.wasm")).unwrap())
        .write("app.json", r#"{"env": {"KEY": {"generator": "secret"}}}"#);
    repository.commit("An app with a secret");
    repository.deploy(&platform, "hello");
    let first = platform.must(&["config", "get", "--app", "hello", "KEY"]);
    assert_eq!(first.trim().len(), 64, "{first}");
    platform.must(&["config", "unset", "--app", "hello", "KEY"]);
    let said = platform.must(&["builds", "create", "--app", "hello"]);
    assert!(said.contains("Nothing changed since an earlier build"), "{said}");
    assert!(said.contains("Setting KEY as app.json says"), "{said}");
    let second = platform.must(&["config", "get", "--app", "hello", "KEY"]);
    assert_eq!(second.trim().len(), 64, "{second}");
    assert_ne!(first, second);
}

#[test]
fn a_build_whose_deployment_fails_says_so_to_its_last_line_and_in_its_exit_code() {
    let platform = Platform::start();
    let repository = Repository::new();
    repository.write("requirements.txt", "").write(
        "Procfile",
        "web: test -z \"$BROKEN\" || { echo broken on purpose; exit 3; }; \
         exec python3 -m http.server --bind 0.0.0.0 $PORT\n",
    );
    repository.commit("An app");
    repository.deploy(&platform, "app");
    platform.must(&["config", "set", "--app", "app", "--no-restart", "BROKEN=1"]);
    let built = platform.berth(&["builds", "create", "--app", "app"]);
    let (said, error) =
        (String::from_utf8_lossy(&built.stdout), String::from_utf8_lossy(&built.stderr));
    assert_eq!(built.status.code(), Some(1), "{said}{error}");
    assert!(said.contains("broken on purpose") && said.contains("exit code 3"), "{said}");
    assert!(error.contains("deployment as v2 is failed"), "{error}");
    platform.must(&["config", "unset", "--app", "app", "--no-restart", "BROKEN"]);
    let said = platform.must(&["builds", "create", "--app", "app"]);
    assert!(said.contains("Application deployed: v3"), "{said}");
}
