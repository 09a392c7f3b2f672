//! Who may do what, over git, SSH and the CLI.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

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
    assert_eq!(with(&viewer, &["config", "list", "--reveal", "--app", "hello"]).0, Some(1));
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

/// A GET that asks for a WebSocket: the status, and all that comes until the server is done.
fn upgrade(platform: &Platform, token: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(platform.api).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let bearer = match token {
        "" => String::new(),
        token => format!("Authorization: Bearer {token}\r\n"),
    };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\n{bearer}Connection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    let text = loop {
        let count = stream.read(&mut buffer).unwrap();
        seen.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&seen).into_owned();
        // A session ends with the exit code, a refusal with its problem.
        if count == 0 || text.contains("{\"exit\":") || text.contains("\"status\":") {
            break text;
        }
    };
    (text[9..12].parse().unwrap(), text)
}

#[test]
fn a_command_runs_for_who_may_run_commands_and_leaves_no_trace_of_anybody_else() {
    let platform = Platform::start();
    Repository::of_sample("static-site").deploy(&platform, "site");
    platform.must(&["teams", "create", "blue"]);
    let token = |arguments: &[&str]| {
        platform.must(&[&["tokens", "create"], arguments].concat()).trim().to_owned()
    };
    let viewer = token(&["--role", "viewer"]);
    let stranger = token(&["--role", "operator", "--team", "blue"]);
    let owner = token(&["--role", "developer"]);
    let callers = [
        ("nobody", "", 401),
        ("forger", "berth_00", 401),
        ("viewer", &*viewer, 403),
        ("stranger", &*stranger, 404),
        ("owner", &*owner, 101),
    ];

    let ps: serde_json::Value =
        serde_json::from_str(&platform.must(&["ps", "--app", "site", "--json"])).unwrap();
    let instance = ps["items"][0]["id"].as_str().unwrap();
    for (name, token, status) in callers {
        let path = format!(
            "/v1/apps/site/instances/{instance}/exec?command=sh&command=-c&command=mkdir+/tmp/by-{name}%3Becho+done+$%28%281%2B1%29%29"
        );
        let (answered, text) = upgrade(&platform, token, &path);
        assert_eq!(answered, status, "{name}: {text}");
        assert_eq!(text.contains("done 2"), status == 101, "{name}: {text}");
    }
    let made = platform.must(&["exec", "--app", "site", "web.1", "sh", "-c", "cd /tmp; echo by-*"]);
    assert_eq!(made.trim(), "by-owner", "only the owner's command ran");

    let client = reqwest::blocking::Client::new();
    let runs = format!("http://{}/v1/apps/site/runs", platform.api);
    let create = |token: &str| {
        let body = "{\"command\":[\"echo\",\"said to its owner\"]}";
        let request = client.post(&runs).header("content-type", "application/json").body(body);
        let request = if token.is_empty() { request } else { request.bearer_auth(token) };
        let answer = request.send().unwrap();
        (answer.status().as_u16(), answer.text().unwrap())
    };
    for (name, token, status) in callers {
        let (answered, text) = create(token);
        assert_eq!(answered, if status == 101 { 201 } else { status }, "{name}: {text}");
    }
    // A command that waits for its client waits for nobody else.
    let made: serde_json::Value = serde_json::from_str(&create(&owner).1).unwrap();
    let path = format!("/v1/apps/site/runs/{}/attach", made["id"].as_str().unwrap());
    for (name, token, status) in callers {
        let (answered, text) = upgrade(&platform, token, &path);
        assert_eq!(answered, status, "{name}: {text}");
        assert_eq!(text.contains("said to its owner"), status == 101, "{name}: {text}");
    }
    let (again, text) = upgrade(&platform, &owner, &path);
    assert_eq!(again, 404, "a session is taken once: {text}");

    let with = |token: &str, arguments: &[&str]| {
        let output = platform.berth_as(token, arguments);
        (
            output.status.code(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    for verb in [&["run", "--app", "site", "id"][..], &["exec", "--app", "site", "web.1", "id"]] {
        let (code, text) = with(&owner, verb);
        assert!(code == Some(0) && text.starts_with("uid="), "{text}");
        let (code, text) = with(&viewer, verb);
        assert!(code == Some(1) && text.contains("developer"), "{text}");
        let (code, text) = with(&stranger, verb);
        assert!(code == Some(1) && text.contains("there is no app 'site'"), "{text}");
    }
}
