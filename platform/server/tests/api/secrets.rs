//! No secret that anybody gives to the API, or gets from it, stands in an event, in what an auditor
//! gets, in the database, or in the platform's own log.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

use crate::Api;
use crate::authorization::{operations, with_components};

/// Stands in every secret that is given.
const MARK: &str = "swordfish-7d1c";
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO4OJQChOPeKTLlmiNo30923XiSUZBt0Tiaz2XF2Eaze";

/// Operations with a body that take a secret, or would where somebody made a mistake. Each is in
/// [`give`].
const TAKES: [&str; 11] = [
    "PATCH /v1/apps/{app}/config",
    "POST /v1/addons",
    "POST /v1/apps/{app}/plan",
    "POST /v1/apps/{app}/runs",
    "POST /v1/drains",
    "POST /v1/keys",
    "POST /v1/session",
    "POST /v1/session/password",
    "POST /v1/tokens",
    "PUT /v1/apps/{app}/scale",
    "PUT /v1/extensions/{extension}/secrets/{secret}",
];

/// The others: names, numbers and choices that are shown to everybody who sees the thing.
const TAKES_NONE: [&str; 21] = [
    "PATCH /v1/apps/{app}",
    "PATCH /v1/users/{user}",
    "POST /v1/addons/{addon}/attachments",
    "POST /v1/addons/{addon}/restore",
    "POST /v1/alerts",
    "POST /v1/apps",
    "POST /v1/apps/{app}/domains",
    "POST /v1/apps/{app}/rollback",
    "POST /v1/apps/{app}/volumes",
    "POST /v1/buildpacks",
    "POST /v1/extensions",
    "POST /v1/extensions/{extension}/disable",
    "POST /v1/extensions/{extension}/grant",
    "POST /v1/extensions/{extension}/replay",
    "POST /v1/extensions/disable",
    "POST /v1/teams",
    "POST /v1/users",
    "PUT /v1/buildpack-order",
    "PUT /v1/extensions/{extension}/apps",
    "PUT /v1/extensions/{extension}/config",
    "PUT /v1/users/{user}/teams/{team}",
];

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Everything that the platform says from now on, more than it ever says.
    fn start() -> Self {
        let log = Self::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("debug,berthd=trace,hyper=info,hyper_util=info"))
            .with_writer(move || writer.clone())
            .init();
        log
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Its last errors.
    fn end(&self) -> String {
        let text = self.text();
        let errors: Vec<&str> = text.lines().rev().filter(|line| line.contains("ERROR")).collect();
        errors.into_iter().take(3).collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn it_is_decided_of_every_operation_with_a_body_whether_it_takes_a_secret() {
    let document = serde_json::to_value(berthd::http::openapi()).unwrap();
    let with_body: BTreeSet<String> = operations()
        .into_iter()
        .filter(|operation| {
            let (method, path) = operation.split_once(' ').unwrap();
            !document["paths"][path][method.to_lowercase()]["requestBody"].is_null()
        })
        .collect();
    let decided: BTreeSet<String> =
        TAKES.iter().chain(&TAKES_NONE).map(|operation| (*operation).to_owned()).collect();
    let new: Vec<_> = with_body.difference(&decided).collect();
    assert!(
        new.is_empty(),
        "put them where they belong, and those that take one in `give`: {new:?}"
    );
}

/// Gives secrets to everything that takes one, in good requests and in wrong ones.
async fn give(api: &Api, log: &Log) -> BTreeSet<&'static str> {
    let mut given = BTreeSet::new();
    for (operation, path, bodies) in [
        (
            "PATCH /v1/apps/{app}/config",
            "/v1/apps/hello/config",
            vec![
                json!({"variables": {"API_KEY": MARK}}),
                json!({"variables": {"API_KEY": format!("{MARK}\nagain"), "PASSWORD": null}}),
                json!({"variables": {"NOT A NAME": MARK}}),
                json!({"variables": {"PORT": MARK}}),
                json!({"variables": {"A": [MARK]}}),
                json!({"variables": {"A": MARK.repeat(40_000)}}),
                json!({ MARK: MARK }),
            ],
        ),
        (
            "POST /v1/apps/{app}/plan",
            "/v1/apps/hello/plan",
            vec![
                json!({"change": "config", "set": [MARK], "unset": [MARK]}),
                json!({"change": MARK}),
            ],
        ),
        (
            "PUT /v1/apps/{app}/scale",
            "/v1/apps/hello/scale",
            vec![json!({"processes": {"web": MARK}})],
        ),
        (
            "POST /v1/apps/{app}/runs",
            "/v1/apps/hello/runs",
            vec![json!({"command": ["login", "--password", MARK]}), json!({"command": MARK})],
        ),
        (
            "POST /v1/session",
            "/v1/session",
            vec![
                json!({"user": "anna", "password": MARK}),
                json!({"user": MARK, "password": MARK}),
                json!({"link": MARK}),
                json!({"link": [MARK]}),
                json!({ MARK: MARK }),
            ],
        ),
        (
            "POST /v1/session/password",
            "/v1/session/password",
            vec![
                json!({"new": &MARK[..4]}),
                json!({"new": MARK.repeat(100)}),
                json!({"new": [MARK]}),
                json!({"new": format!("{MARK}, and more of it")}),
                json!({"new": format!("{MARK}, and another one"), "current": MARK}),
            ],
        ),
        ("POST /v1/tokens", "/v1/tokens", vec![json!({"name": "x", "role": MARK})]),
        (
            "POST /v1/keys",
            "/v1/keys",
            vec![
                json!({"name": "pasted", "public_key":
                format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{MARK}\n-----END OPENSSH PRIVATE KEY-----")}),
                json!({"name": "pasted", "public_key": MARK}),
            ],
        ),
        (
            "POST /v1/drains",
            "/v1/drains",
            vec![
                json!({"app": "hello", "url": format!("https://user:{MARK}@logs.example.com/{MARK}?key={MARK}")}),
                json!({"app": "hello", "url": format!("https://{MARK}@logs.example.com")}),
                json!({"url": format!("https://logs.example.com/in/{MARK}")}),
                json!({"app": "hello", "url": format!("ftp://user:{MARK}@logs.example.com")}),
                json!({"app": "hello", "url": "syslog+tls://logs.example.com",
                "ca": format!("-----BEGIN PRIVATE KEY-----\n{MARK}\n-----END PRIVATE KEY-----")}),
            ],
        ),
        (
            "PUT /v1/extensions/{extension}/secrets/{secret}",
            "/v1/extensions/test.hook/secrets/token",
            vec![json!({"value": MARK}), json!({"value": {"x": MARK}}), json!({"valu": MARK})],
        ),
        (
            "POST /v1/addons",
            "/v1/addons",
            vec![json!({"kind": "test.store", "name": "vault", "team": "default",
                "options": {"password": MARK}})],
        ),
    ] {
        let method = operation.split_once(' ').unwrap().0;
        for body in bodies {
            // Who may, who may not, and who does not see it.
            for caller in ["other", "viewer", "admin", "session"] {
                let (status, answer) = api.call(caller, method, path, Some(body.clone())).await;
                assert!(
                    !status.is_server_error(),
                    "{operation} as {caller}: {answer}\n{}",
                    log.end()
                );
            }
        }
        given.insert(operation);
    }
    given
}

/// The same in what is no body.
async fn give_elsewhere(api: &Api) {
    let url = format!("http://{}/v1/apps/hello", api.address);
    for wrong in [format!("Bearer {MARK}"), format!("bearer berth_{MARK}"), MARK.to_owned()] {
        api.client.get(&url).header("authorization", wrong).send().await.unwrap();
    }
    for path in [
        format!("/v1/apps/{MARK}"),
        format!("/v1/tokens/{MARK}"),
        format!("/v1/events?actor={MARK}"),
        format!("/v1/apps/hello/log?{MARK}"),
        format!("/v1/apps/hello/instances/{}/exec?command={MARK}", api.instance.id),
    ] {
        for caller in ["other", "viewer", "admin"] {
            let (status, answer) = api.call(caller, "GET", &path, None).await;
            assert!(!status.is_server_error(), "{path} as {caller}: {answer}");
        }
    }
    let request = api.request("owner", "PATCH", "/v1/apps/hello/config");
    let half = format!("{{\"variables\": {{\"A\": \"{MARK}");
    let answer =
        request.header("content-type", "application/json").body(half).send().await.unwrap();
    assert_eq!(answer.status(), 400);
}

/// Secrets that the API gives: each is shown once, or to whoever may read configuration.
async fn taken(api: &Api) -> Vec<String> {
    let body = json!({"name": "ci-2", "role": "viewer"});
    let token = api.must("owner", "POST", "/v1/tokens", Some(body)).await;
    let config = api.must("owner", "GET", "/v1/apps/hello/config", None).await;
    let values = config["variables"].as_object().unwrap().values();
    let mut secrets: Vec<String> = values.map(|value| value.as_str().unwrap().to_owned()).collect();
    assert!(secrets.iter().any(|value| value.contains(MARK)), "the mark was kept: {config}");
    secrets.push(token["secret"].as_str().unwrap().to_owned());
    secrets.extend(api.tokens.values().cloned());
    secrets
}

#[tokio::test]
async fn no_secret_stands_in_an_event_an_audit_answer_the_database_or_the_log() {
    let log = Log::start();
    let api = with_components().await;
    let given = give(&api, &log).await;
    assert_eq!(given, BTreeSet::from(TAKES));
    let body = json!({"name": "good", "public_key": KEY, "role": "viewer"});
    api.must("owner", "POST", "/v1/keys", Some(body)).await;
    give_elsewhere(&api).await;
    let mut secrets = taken(&api).await;
    secrets.push(MARK.to_owned());
    api.events_of("access.failed", 1).await;
    // The last refusals are on their way.
    api.events_of("access.denied", 10).await;

    let mut audit = Vec::new();
    let mut next = String::new();
    loop {
        let page = api.must("admin", "GET", &format!("/v1/events?limit=200{next}"), None).await;
        audit.extend(page["items"].as_array().unwrap().clone());
        match page["next_page_token"].as_str() {
            Some(token) => next = format!("&page_token={token}"),
            None => break,
        }
    }
    let kinds: BTreeSet<&str> = audit.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    for kind in
        ["app.configured", "drain.created", "extension.secret", "key.added", "token.created"]
    {
        assert!(kinds.contains(kind), "{kind} is not among {kinds:?}");
    }
    let places = [
        ("an answer to an auditor", Value::from(audit).to_string()),
        ("the log", log.text()),
        ("the database", database(&api)),
    ];
    assert!(places.iter().all(|(place, text)| text.len() > 1000 || *place == "the log"));
    for (place, text) in &places {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{secret} in {place}: {}", near(text, secret));
        }
    }
}

/// The database's files as they are, the table of events among them.
fn database(api: &Api) -> String {
    let files = std::fs::read_dir(api.folder.path()).unwrap();
    files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .fold(String::new(), |text, bytes| text + &String::from_utf8_lossy(&bytes))
}

fn near<'a>(text: &'a str, secret: &str) -> &'a str {
    let at = text.find(secret).unwrap_or(0);
    let (mut from, mut to) = (at.saturating_sub(200), (at + 200).min(text.len()));
    while !text.is_char_boundary(from) {
        from -= 1;
    }
    while !text.is_char_boundary(to) {
        to += 1;
    }
    &text[from..to]
}
