//! Users: how they begin, what they and their tokens and keys may do, and how it ends.

use std::path::{Path, PathBuf};
use std::process::Output;

use acceptance::repository::{said, ssh_key};
use acceptance::{Platform, Repository};
use reqwest::Method;
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery";

/// A browser on the console's pages.
struct Browser<'a> {
    platform: &'a Platform,
    cookie: String,
}

impl<'a> Browser<'a> {
    /// Signs in, which must succeed.
    fn enter(platform: &'a Platform, body: &Value) -> Self {
        let mut browser = Self { platform, cookie: String::new() };
        let answer = browser.call(Method::POST, "/v1/session", Some(body));
        assert_eq!(answer.status(), 200, "{}", answer.text().unwrap());
        let set = answer.headers()["set-cookie"].to_str().unwrap();
        browser.cookie = set.split(';').next().unwrap().to_owned();
        browser
    }

    /// Follows a link.
    fn follow(platform: &'a Platform, link: &str) -> Self {
        let start = format!("http://{}/sign-in#", platform.api);
        let secret = link.trim().strip_prefix(&start).expect("a link to the console");
        Self::enter(platform, &json!({ "link": secret }))
    }

    fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Response {
        let origin = format!("http://{}", self.platform.api);
        let request = Client::new().request(method, format!("{origin}{path}"));
        let request = request.header("origin", &origin).header("cookie", &self.cookie);
        match body {
            Some(body) => request.json(body),
            None => request,
        }
        .send()
        .unwrap()
    }

    fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let answer = self.call(method, path, body);
        let (status, text) = (answer.status(), answer.text().unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    fn choose_password(&self) {
        let body = json!({ "new": PASSWORD });
        self.json(Method::POST, "/v1/session/password", Some(&body));
    }

    /// A token that acts as who is signed in.
    fn token(&self) -> String {
        let body = json!({ "name": "mine", "mine": true });
        let made = self.json(Method::POST, "/v1/tokens", Some(&body));
        made["secret"].as_str().unwrap().to_owned()
    }
}

fn token(platform: &Platform, arguments: &[&str]) -> String {
    platform.must(&[&["tokens", "create"], arguments].concat()).trim().to_owned()
}

#[test]
fn the_first_link_leads_to_an_administrator_who_invites_others() {
    let mut platform = Platform::start();
    let file = platform.data.join("console-link");
    let link = std::fs::read_to_string(&file).unwrap();
    let (_, secret) = link.trim().split_once('#').unwrap();
    let log = platform.log();
    assert!(log.contains("console-link") && !log.contains(secret), "{log}");

    let admin = Browser::follow(&platform, &link);
    let session = admin.json(Method::GET, "/v1/session", None);
    assert_eq!((&session["user"], &session["admin"]), (&json!("admin"), &json!(true)));
    admin.choose_password();
    let again = admin.call(Method::POST, "/v1/session", Some(&json!({ "link": secret })));
    assert_eq!(again.status(), 401);
    Browser::enter(&platform, &json!({ "user": "admin", "password": PASSWORD }));

    let link = platform.must(&["users", "create", "anna", "--role", "developer"]);
    let anna = Browser::follow(&platform, &link);
    anna.choose_password();
    let mine = anna.token();
    let as_anna = |arguments: &[&str]| {
        let output = platform.berth_as(&mine, arguments);
        (
            output.status.code(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    let (code, text) = as_anna(&["apps", "create", "hers", "--no-remote"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = as_anna(&["users", "list"]);
    assert!(code == Some(1) && text.contains("admin"), "{text}");
    let (code, text) = as_anna(&["users", "show", "anna"]);
    assert!(code == Some(0) && text.contains("developer in default"), "{text}");

    platform.must(&["teams", "create", "blue"]);
    platform.must(&["users", "grant", "anna", "operator", "--team", "blue"]);
    let listed = platform.must(&["users", "list"]);
    assert!(listed.contains("developer in default") && listed.contains("operator in blue"));
    platform.must(&["users", "revoke", "anna"]);
    let (code, text) = as_anna(&["apps", "info", "--app", "hers"]);
    assert!(code == Some(1) && text.contains("there is no app 'hers'"), "{text}");

    let sessions = platform.must(&["users", "sessions", "anna"]);
    assert!(sessions.contains("ses_"), "{sessions}");
    platform.must(&["users", "sign-out", "anna"]);
    assert_eq!(anna.call(Method::GET, "/v1/session", None).status(), 401);
    platform.must(&["users", "disable", "anna"]);
    let (code, text) = as_anna(&["apps", "list"]);
    assert!(code == Some(1) && text.contains("not valid"), "{text}");
    platform.must(&["users", "enable", "anna"]);
    assert_eq!(as_anna(&["apps", "list"]).0, Some(0));
    platform.must(&["users", "remove", "anna", "--yes"]);
    assert_eq!(as_anna(&["apps", "list"]).0, Some(1));

    let refused = platform.berth(&["users", "disable", "admin"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("last active administrator"), "{text}");
    let audit = platform.must(&["audit", "list", "--limit", "100"]);
    for told in ["create user anna", "choose a password for user anna", "disable user anna"] {
        assert!(audit.contains(told), "no {told:?} in {audit}");
    }
    assert!(!audit.contains(&mine) && !audit.contains(PASSWORD));

    // A link is of the first start alone, and what it led to stays.
    platform.kill();
    platform.serve().unwrap();
    assert!(!file.exists());
    Browser::enter(&platform, &json!({ "user": "admin", "password": PASSWORD }));
}

/// One kind of caller: a token and a key, where it has them.
struct Kind {
    name: &'static str,
    token: String,
    key: Option<PathBuf>,
}

/// Makes each kind of caller of the table, in its order.
fn kinds(platform: &Platform, folder: &Path) -> Vec<Kind> {
    platform.must(&["teams", "create", "blue"]);
    platform.must(&["apps", "create", "elsewhere", "--no-remote"]);
    let key = |name: &str| {
        let folder = folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        ssh_key(&folder)
    };
    let public = |key: &Path| key.with_extension("pub").display().to_string();
    let mut kinds =
        vec![Kind { name: "nobody", token: "berth_00".to_owned(), key: Some(key("nobody")) }];
    for (name, role, team) in [
        ("other", "operator", "blue"),
        ("viewer", "viewer", "default"),
        ("developer", "developer", "default"),
        ("operator", "operator", "default"),
        ("admin", "admin", "default"),
    ] {
        let key = key(name);
        platform.must(&["keys", "add", name, &public(&key), "--role", role, "--team", team]);
        // The first start made one that is called admin.
        let called = format!("the {name}");
        let token = token(platform, &["--name", &called, "--role", role, "--team", team]);
        kinds.push(Kind { name, token, key: Some(key) });
    }
    for name in ["user", "disabled"] {
        let link = platform.must(&["users", "create", name, "--role", "developer"]);
        let browser = Browser::follow(platform, &link);
        let (key, token) = (key(name), browser.token());
        let public = std::fs::read_to_string(public(&key)).unwrap();
        let body = json!({ "name": "mine", "mine": true, "public_key": public.trim() });
        browser.json(Method::POST, "/v1/keys", Some(&body));
        kinds.push(Kind { name, token, key: Some(key) });
    }
    platform.must(&["users", "disable", "disabled"]);
    for (name, limit) in [
        ("elsewhere", ["--app", "elsewhere"]),
        ("reader", ["--scope", "read"]),
        ("deployer", ["--scope", "deploy"]),
    ] {
        let token =
            token(platform, &[&["--name", name, "--role", "operator"], &limit[..]].concat());
        kinds.push(Kind { name, token, key: None });
    }
    kinds
}

fn git(repository: &Repository, platform: &Platform, kind: &Kind, verb: &str) -> Output {
    let mut command = repository.command();
    let url = if verb.ends_with("ssh") {
        let key = kind.key.as_ref().unwrap().display();
        command.env(
            "GIT_SSH_COMMAND",
            format!(
                "ssh -F /dev/null -i {key} -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
            ),
        );
        format!("ssh://git@{}/site", platform.ssh)
    } else {
        let helper =
            "credential.helper=!f() { echo username=x; echo \"password=$BERTH_TOKEN\"; }; f";
        command.env("BERTH_TOKEN", &kind.token).args(["-c", helper]);
        format!("http://{}/git/site.git", platform.api)
    };
    match verb.starts_with("push") {
        // What is there already: who may push is told so, and nothing is built.
        true => command.args(["push", &url, "HEAD:main"]),
        false => command.args(["ls-remote", &url]),
    };
    command.output().expect("git starts")
}

/// What became of a verb.
fn outcome(output: Output) -> String {
    let said = said(output);
    let has = |texts: &[&str]| texts.iter().any(|text| said.text.contains(text));
    match said.ok {
        true => "ok".to_owned(),
        false if has(&["there is no app 'site'"]) => "hidden".to_owned(),
        false if has(&["not valid", "Authentication failed", "Permission denied"]) => {
            "unknown".to_owned()
        }
        false if has(&["developer", "has the scope"]) => "denied".to_owned(),
        false => format!("?({})", said.text),
    }
}

#[test]
fn git_run_and_exec_answer_every_caller_as_the_table_says() {
    let table = include_str!("verbs.table");
    let mut lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let heads: Vec<&str> = lines.next().unwrap().split_whitespace().skip(1).collect();

    let platform = Platform::start();
    let repository = Repository::of_sample("static-site");
    repository.deploy(&platform, "site");
    let folder = tempfile::tempdir().unwrap();
    let kinds = kinds(&platform, folder.path());
    assert_eq!(heads, kinds.iter().map(|kind| kind.name).collect::<Vec<_>>());

    let mut wrong = Vec::new();
    for line in lines {
        let (verb, expected) = line.split_once(' ').unwrap();
        for (kind, expected) in kinds.iter().zip(expected.split_whitespace()) {
            if expected == "-" {
                assert!(kind.key.is_none() && verb.ends_with("ssh"), "{verb} {}", kind.name);
                continue;
            }
            let berth = |arguments: &[&str]| platform.berth_as(&kind.token, arguments);
            let output = match verb {
                "run" => berth(&["run", "--app", "site", "true"]),
                "exec" => berth(&["exec", "--app", "site", "web.1", "true"]),
                verb => git(&repository, &platform, kind, verb),
            };
            let found = outcome(output);
            if found != expected {
                wrong.push(format!("{verb} as {}: {found}, not {expected}", kind.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
