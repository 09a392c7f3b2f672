//! Walks every operation as every kind of caller.

use std::collections::{BTreeMap, BTreeSet};

use berth_store::{EventFilter, Order, Visible};
use berthd::extensions::Choice;
use berthd::http::{BuildpackActions, ExtensionActions};
use serde_json::{Value, json};

use crate::packs::Packs;
use crate::shelf::{Shelf, component};
use crate::{Api, by, packs};

const CALLERS: [&str; 9] =
    ["nobody", "other", "viewer", "owner", "admin", "session", "gone", "elsewhere", "reader"];
const TABLE: &str = include_str!("../../src/http/authorization.table");
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO4OJQChOPeKTLlmiNo30923XiSUZBt0Tiaz2XF2Eaze";

/// Statuses by operation, in the order of [`CALLERS`].
fn table() -> BTreeMap<String, Vec<u16>> {
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .skip_while(|line| line.starts_with("operation"))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let statuses = words[2..].iter().map(|word| word.parse().unwrap()).collect();
            (format!("{} {}", words[0], words[1]), statuses)
        })
        .collect()
}

/// Every operation of the document.
pub(crate) fn operations() -> BTreeSet<String> {
    let document = serde_json::to_value(berthd::http::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect()
}

fn body(api: &Api, operation: &str) -> Option<Value> {
    Some(match operation {
        "POST /v1/apps" => json!({"name": "new", "team": "default"}),
        "PATCH /v1/apps/{app}" => json!({"name": "renamed"}),
        "POST /v1/apps/{app}/plan" => json!({"change": "destroy"}),
        "POST /v1/apps/{app}/domains" => json!({"domain": "new.example.org"}),
        "POST /v1/apps/{app}/volumes" => json!({"name": "data", "path": "/data"}),
        "PUT /v1/apps/{app}/scale" => json!({"processes": {"web": 2}}),
        "PATCH /v1/apps/{app}/config" => json!({"variables": {"A": "1", "PASSWORD": null}}),
        "POST /v1/apps/{app}/rollback" => json!({"release": 1}),
        "POST /v1/apps/{app}/runs" => json!({"command": ["ls"]}),
        "POST /v1/keys" => {
            json!({"name": "new", "public_key": KEY, "team": "default", "role": "viewer"})
        }
        "POST /v1/tokens" => json!({"name": "new", "team": "default", "role": "viewer"}),
        "POST /v1/addons" => json!({"kind": "test.store", "name": "new", "team": "default"}),
        "POST /v1/addons/{addon}/attachments" => json!({"app": "hello"}),
        "POST /v1/addons/{addon}/restore" => json!({"backup": api.backup}),
        "POST /v1/alerts" => {
            json!({"app": "hello", "measure": "cpu", "comparison": "above", "value": 1})
        }
        "POST /v1/drains" => json!({"app": "hello", "url": "syslog+tls://logs.example.com"}),
        "POST /v1/session" => json!({"link": "wrong"}),
        "POST /v1/session/password" => json!({"new": "correct horse battery"}),
        "POST /v1/users" => json!({"name": "new", "role": "viewer"}),
        "PATCH /v1/users/{user}" => json!({"state": "disabled"}),
        "PUT /v1/users/{user}/teams/{team}" => json!({"role": "viewer"}),
        "POST /v1/teams" => json!({"name": "new"}),
        "POST /v1/extensions/{extension}/grant" => json!({"accept": "0123456789abcdef"}),
        "PUT /v1/extensions/{extension}/config" => json!({}),
        "PUT /v1/extensions/{extension}/apps" => json!({"apps": ["hello"]}),
        "PUT /v1/extensions/{extension}/secrets/{secret}" => json!({"value": "swordfish"}),
        "POST /v1/extensions/{extension}/replay" => json!({}),
        "PUT /v1/buildpack-order" => json!({"groups": ["acme-make"]}),
        _ => return None,
    })
}

fn path(api: &Api, path: &str) -> String {
    let path = path
        .replace("{app}", "hello")
        .replace("{domain}", "www.example.org")
        .replace("{volume}", "none")
        .replace("{build}", &api.build.id.to_string())
        .replace("{number}", "1")
        .replace("{other}", "2")
        .replace("{deployment}", &api.deployment.id.to_string())
        .replace("{run}", &api.run.id.to_string())
        .replace("{instance}", &api.instance.id.to_string())
        .replace("{key}", &api.key)
        .replace("{token}", &api.token)
        .replace("{drain}", &api.drain)
        .replace("{alert}", &api.alert)
        .replace("{addon}", "cache")
        .replace("{backup}", &api.backup)
        .replace("{extension}", "test.hook")
        .replace("{secret}", "token")
        .replace("{page}", "owner")
        .replace("{buildpack}", "acme-make")
        .replace("{user}", "anna")
        .replace("{session}", &api.session)
        .replace("{team}", "default")
        .replace("{stack}", "debian-12");
    let query = match path.rsplit('/').next() {
        Some("exec") => "?command=true",
        Some("owner") => "?app=hello",
        _ => "",
    };
    format!("{path}{query}")
}

async fn status(api: &Api, operation: &str, caller: &str) -> u16 {
    let (method, template) = operation.split_once(' ').unwrap();
    let mut request = api.request(caller, method, &path(api, template));
    if let Some(body) = body(api, operation) {
        request = request.json(&body);
    } else if let Some(component) = match operation {
        "POST /v1/extensions" => Some(component("test.new", "token")),
        "POST /v1/buildpacks" => Some(packs::component("acme-new")),
        _ => None,
    } {
        request = request.header("content-type", "application/wasm").body(component);
    }
    if operation == "POST /v1/session" && caller != "session" {
        request = request.header("origin", format!("http://{}", api.address));
    }
    if template.ends_with("/exec") || template.ends_with("/attach") {
        request = request
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    }
    request.send().await.unwrap().status().as_u16()
}

/// The API with an extension that has a secret, a buildpack, and an add-on with a backup.
pub(crate) async fn with_components() -> Api {
    let mut api = Api::start().await;
    let extensions = Shelf::new(api.store.clone());
    let (row, _) =
        extensions.install(component("test.hook", "token"), Choice::default(), by()).await.unwrap();
    let secret = Some("swordfish".to_owned());
    extensions.set_secret(row.id, "token".to_owned(), secret, by()).await.unwrap();
    let buildpacks = Packs::new(api.store.clone());
    buildpacks.add(packs::component("acme-make"), false, by()).await.unwrap();
    let make = json!({"kind": "test.store", "name": "cache", "team": "default"});
    api.must("owner", "POST", "/v1/addons", Some(make)).await;
    let made = api.must("owner", "POST", "/v1/addons/cache/backups", None).await;
    api.backup = made["id"].as_str().unwrap().to_owned();
    api
}

#[test]
fn the_table_has_every_operation_and_no_other() {
    let table: BTreeSet<String> = table().into_keys().collect();
    assert_eq!(table, operations());
}

/// Whether anything was done; that a call was refused is told a little later.
async fn changed_since(api: &Api, before: i64) -> bool {
    let all = EventFilter::all(Visible::All);
    let events = api.store.events(&all, Order::OldestAfter(before), 200).await.unwrap();
    events.iter().any(|event| !event.kind.starts_with("access."))
}

#[tokio::test]
async fn every_operation_answers_every_caller_as_the_table_says() {
    let mut wrong = Vec::new();
    let mut api = with_components().await;
    for (operation, expected) in table() {
        assert_eq!(expected.len(), CALLERS.len(), "{operation}");
        for (caller, expected) in CALLERS.iter().zip(expected) {
            let before = api.store.newest_event().await.unwrap();
            let found = status(&api, &operation, caller).await;
            if found != expected {
                wrong.push(format!("{operation} as {caller}: {found}, not {expected}"));
            }
            if !changed_since(&api, before).await {
                continue;
            }
            if found >= 400 {
                wrong.push(format!("{operation} as {caller} was refused and changed something"));
            }
            // The next caller meets things as they were.
            api = with_components().await;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_refusal_hides_what_another_team_has() {
    let api = Api::start().await;
    let (_, hidden) = api.call("other", "GET", "/v1/apps/hello", None).await;
    let (_, absent) = api.call("other", "GET", "/v1/apps/holle", None).await;
    let told = |problem: &Value| {
        let mut problem = problem.clone();
        problem["instance"] = Value::Null;
        problem.to_string().replace("holle", "hello")
    };
    assert_eq!(told(&hidden), told(&absent));
}

#[tokio::test]
async fn lists_have_only_what_the_caller_may_see() {
    let api = Api::start().await;
    let names = |page: Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|item| item["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names(api.must("other", "GET", "/v1/apps", None).await), [""; 0]);
    assert_eq!(names(api.must("viewer", "GET", "/v1/apps", None).await), ["hello"]);
    assert_eq!(names(api.must("other", "GET", "/v1/teams", None).await), ["other"]);
    assert_eq!(names(api.must("admin", "GET", "/v1/teams", None).await), ["default", "other"]);
    assert_eq!(names(api.must("other", "GET", "/v1/tokens", None).await), ["other"]);
    assert_eq!(
        api.must("owner", "GET", "/v1/tokens", None).await["items"].as_array().unwrap().len(),
        7
    );
    assert_eq!(names(api.must("other", "GET", "/v1/keys", None).await), [""; 0]);
    let events = api.must("other", "GET", "/v1/events?limit=200", None).await;
    let kinds: Vec<&str> =
        events["items"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["team.created", "token.created"]);
    let (status, _) = api.call("other", "GET", "/v1/events?app=hello", None).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn nobody_gives_away_more_than_they_have() {
    let api = Api::start().await;
    let body = json!({"name": "x", "role": "admin"});
    let (status, problem) = api.call("owner", "POST", "/v1/tokens", Some(body)).await;
    assert_eq!(status, 403, "{problem}");
    let body = json!({"name": "x", "role": "admin", "public_key": KEY});
    let (status, _) = api.call("owner", "POST", "/v1/keys", Some(body)).await;
    assert_eq!(status, 403);
    // Nor does an operator end an administrator's token.
    let tokens = api.must("owner", "GET", "/v1/tokens", None).await;
    let admin = tokens["items"].as_array().unwrap().iter().find(|token| token["role"] == "admin");
    let path = format!("/v1/tokens/{}", admin.unwrap()["id"].as_str().unwrap());
    assert_eq!(api.call("owner", "DELETE", &path, None).await.0, 403);
    assert_eq!(api.call("admin", "GET", "/v1/me", None).await.0, 200);
}

#[tokio::test]
async fn what_belongs_to_another_app_is_not_found_below_this_one() {
    let api = Api::start().await;
    api.must("owner", "POST", "/v1/apps", Some(json!({"name": "second"}))).await;
    for template in [
        "/v1/apps/second/builds/{build}",
        "/v1/apps/second/builds/{build}/log",
        "/v1/apps/second/deployments/{deployment}",
        "/v1/apps/second/runs/{run}/attach",
        "/v1/apps/second/instances/{instance}/exec",
        "/v1/apps/second/releases/1",
    ] {
        let (status, _) = api.call("owner", "GET", &path(&api, template), None).await;
        assert_eq!(status, 404, "{template}");
    }
}

#[tokio::test]
async fn a_token_ends_with_its_revocation() {
    let api = Api::start().await;
    let body = json!({"name": "x", "role": "viewer", "expires_days": 1});
    let made = api.must("owner", "POST", "/v1/tokens", Some(body)).await;
    let secret = made["secret"].as_str().unwrap();
    let me = || api.client.get(format!("http://{}/v1/me", api.address)).bearer_auth(secret).send();
    assert_eq!(me().await.unwrap().status(), 200);
    let path = format!("/v1/tokens/{}", made["token"]["id"].as_str().unwrap());
    api.must("owner", "DELETE", &path, None).await;
    assert_eq!(me().await.unwrap().status(), 401);
    let filter = EventFilter::all(Visible::All);
    let events = api.store.events(&filter, Order::OldestAfter(0), 200).await.unwrap();
    assert!(!format!("{events:?}").contains(secret));
}
