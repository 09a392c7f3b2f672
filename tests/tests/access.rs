//! Who may do what, over git, SSH and the CLI.

use acceptance::platform::programs;
use acceptance::repository::{said, ssh_key};
use acceptance::{Platform, Repository};

fn component() -> Repository {
    let repository = Repository::new();
    repository
        .write("app.wasm", std::fs::read(programs().join("samples/wasm-hello/app.wasm")).unwrap());
    repository.commit("A component");
    repository
}

#[test]
fn a_push_over_ssh_needs_a_key_that_may_deploy_and_other_teams_see_nothing() {
    let platform = Platform::start();
    let repository = component();
    let folder = tempfile::tempdir().unwrap();
    let key = ssh_key(folder.path());
    let public = key.with_extension("pub").display().to_string();

    let unknown = repository.push_ssh(&platform, &key, "hello", &["HEAD:main"]);
    assert!(!unknown.ok && unknown.text.contains("Permission denied"), "{}", unknown.text);

    platform.must(&["keys", "add", "laptop", &public]);
    let pushed = repository.push_ssh(&platform, &key, "hello", &["HEAD:main"]);
    assert!(pushed.ok, "{}", pushed.text);
    assert!(pushed.text.contains("=====> Application deployed:"), "{}", pushed.text);
    assert_eq!(platform.get("hello", "/").unwrap().0, 200);

    platform.must(&["keys", "remove", "laptop"]);
    platform.must(&["keys", "add", "looker", &public, "--role", "viewer"]);
    let viewer = repository.push_ssh(&platform, &key, "hello", &["HEAD:other"]);
    assert!(!viewer.ok && viewer.text.contains("developer"), "{}", viewer.text);

    platform.must(&["keys", "remove", "looker"]);
    platform.must(&["teams", "create", "blue"]);
    platform.must(&["keys", "add", "blue", &public, "--team", "blue"]);
    let other = repository.push_ssh(&platform, &key, "hello", &["HEAD:main"]);
    assert!(!other.ok && other.text.contains("there is no app 'hello'"), "{}", other.text);
}

#[test]
fn another_team_and_a_viewer_get_what_their_role_gives_over_http() {
    let platform = Platform::start();
    let repository = component();
    repository.deploy(&platform, "hello");
    platform.must(&["teams", "create", "blue"]);
    let token = |arguments: &[&str]| {
        platform.must(&[&["tokens", "create"], arguments].concat()).trim().to_owned()
    };
    let viewer = token(&["--role", "viewer"]);
    let other = token(&["--role", "admin", "--team", "blue"]);
    let stranger = token(&["--role", "operator", "--team", "blue"]);

    let with = |token: &str, arguments: &[&str]| {
        let output = platform.berth_as(token, arguments);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(with(&viewer, &["apps", "info", "--app", "hello"]).0, Some(0));
    assert_eq!(with(&viewer, &["config", "list", "--app", "hello"]).0, Some(1));
    assert_eq!(with(&viewer, &["run", "--app", "hello", "true"]).0, Some(1));
    assert_eq!(with(&other, &["apps", "info", "--app", "hello"]).0, Some(0));
    let (code, text) = with(&stranger, &["apps", "info", "--app", "hello"]);
    let (_, absent) = with(&stranger, &["apps", "info", "--app", "absent"]);
    assert_eq!(code, Some(1));
    assert_eq!(text.replace("hello", "absent"), absent, "a hidden app reads like an absent one");
    assert_eq!(with("wrong", &["apps", "list"]).0, Some(1));

    for (token, wanted) in [
        (&viewer, "developer"),
        (&stranger, "there is no app"),
        (&"wrong".to_owned(), "Authentication failed"),
    ] {
        let mut push = repository.push_command(&platform, "hello", &["HEAD:main", "--force"]);
        let pushed = said(push.env("BERTH_TOKEN", token).output().unwrap());
        assert!(!pushed.ok && pushed.text.contains(wanted), "no {wanted:?} in {}", pushed.text);
    }
}

#[test]
fn an_api_call_with_another_host_name_is_misdirected() {
    let platform = Platform::start();
    let client = reqwest::blocking::Client::new();
    let answer = client
        .get(format!("http://{}/healthz", platform.api))
        .header("host", "evil.example")
        .send()
        .unwrap();
    assert_eq!(answer.status(), 421);
}
