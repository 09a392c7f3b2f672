//! Changes through the API: what they do, and what is told of them.

use std::time::Duration;

use berth_model::plan::Change;
use berth_store::By;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{Api, NOW_MS};

#[tokio::test]
async fn configuration_is_set_read_and_released_without_showing_values() {
    let api = Api::start().await;
    let body = json!({"variables": {"GREETING": "hello\nworld", "PASSWORD": null}});
    let changed = api.must("developer", "PATCH", "/v1/apps/hello/config", Some(body)).await;
    assert_eq!(changed["version"], 2);
    let path = format!("/v1/apps/hello/deployments/{}", changed["deployment"].as_str().unwrap());
    let deployment = api.must("viewer", "GET", &path, None).await;
    assert_eq!((&deployment["state"], &deployment["release"]), (&json!("queued"), &json!(3)));
    assert!(api.rooms.was_asked("wake"));
    let config = api.must("developer", "GET", "/v1/apps/hello/config", None).await;
    assert_eq!(config, json!({"version": 2, "variables": {"GREETING": "hello\nworld"}}));
    let body = json!({"variables": {"GREETING": "hello\nworld"}});
    let again = api.must("developer", "PATCH", "/v1/apps/hello/config", Some(body)).await;
    assert_eq!(again, json!({"version": 2}), "nothing changed, nothing is deployed");
    let body = json!({"variables": {"LATER": "x"}, "no_restart": true});
    let later = api.must("developer", "PATCH", "/v1/apps/hello/config", Some(body)).await;
    assert_eq!(later, json!({"version": 3}));

    let versions = api.must("viewer", "GET", "/v1/apps/hello/config/versions", None).await;
    assert_eq!(versions["items"][0]["names"], json!(["GREETING", "LATER"]));
    let diff = api.must("viewer", "GET", "/v1/apps/hello/releases/2/diff/3", None).await;
    assert_eq!(
        diff["changes"],
        json!([
            {"what": "config GREETING", "from": null, "to": "(set)"},
            {"what": "config PASSWORD", "from": "(set)", "to": null},
        ])
    );
    let events = api.must("viewer", "GET", "/v1/events?limit=200", None).await.to_string();
    for secret in ["swordfish", "world"] {
        assert!(!events.contains(secret), "{secret} in {events}");
    }
}

#[tokio::test]
async fn an_app_is_created_changed_and_destroyed() {
    let api = Api::start().await;
    let answer = api
        .request("developer", "POST", "/v1/apps")
        .json(&json!({"name": "new"}))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["location"], "/v1/apps/new");
    let app: Value = answer.json().await.unwrap();
    let port = api.address.port();
    assert_eq!(app["git_http"], json!(format!("http://127.0.0.1:{port}/git/new.git")));
    assert_eq!(app["git_ssh"], "ssh://git@127.0.0.1:2222/new");
    assert_eq!(app["urls"], json!(["http://new.localhost:8080/"]));
    let (status, problem) =
        api.call("developer", "POST", "/v1/apps", Some(json!({"name": "new"}))).await;
    assert_eq!((status.as_u16(), &problem["type"]), (409, &json!("taken")));
    let (status, _) = api.call("developer", "DELETE", "/v1/apps/new", None).await;
    assert_eq!(status, 403, "a developer does not destroy");
    let body = json!({"name": "newer", "deploy_branch": "trunk"});
    let app = api.must("owner", "PATCH", "/v1/apps/new", Some(body)).await;
    assert_eq!((&app["name"], &app["deploy_branch"]), (&json!("newer"), &json!("trunk")));
    api.must("owner", "DELETE", "/v1/apps/newer", None).await;
    assert!(api.rooms.was_asked("clean up newer"));
    assert_eq!(api.call("owner", "GET", "/v1/apps/newer", None).await.0, 404);
}

#[tokio::test]
async fn a_change_may_be_bound_to_the_generation_it_was_planned_on() {
    let api = Api::start().await;
    let plan = json!({"change": "scale", "processes": {"web": 3}});
    let plan = api.must("viewer", "POST", "/v1/apps/hello/plan", Some(plan)).await;
    assert_eq!(plan["changes"], json!(["scale web from 1 to 3"]));
    let generation = plan["generation"].as_u64().unwrap();
    let scale = |generation: u64| {
        api.request("owner", "PUT", "/v1/apps/hello/scale")
            .header("if-match", format!("\"{generation}\""))
            .json(&json!({"processes": {"web": 3}}))
            .send()
    };
    let stale = scale(generation - 1).await.unwrap();
    assert_eq!(stale.status(), 412);
    let app: Value = scale(generation).await.unwrap().json().await.unwrap();
    assert_eq!(app["scale"], json!({"web": 3, "worker": 0}));
    assert!(api.rooms.was_asked("settle"));
}

#[tokio::test]
async fn plans_of_every_kind_are_made_and_nothing_happens() {
    let api = Api::start().await;
    let before = api.store.newest_event().await.unwrap();
    for (request, first) in [
        (json!({"change": "config", "set": ["PASSWORD", "NEW"], "unset": []}), "set NEW (new)"),
        (
            json!({"change": "rollback", "release": 1}),
            "create release v3: Rollback to v1 (image 010101010101, configuration 1)",
        ),
        (
            json!({"change": "destroy"}),
            "destroy app hello with 2 releases, 1 domain, its source, configuration and logs",
        ),
    ] {
        let plan = api.must("viewer", "POST", "/v1/apps/hello/plan", Some(request)).await;
        assert_eq!(plan["changes"][0], json!(first));
    }
    assert_eq!(api.store.newest_event().await.unwrap(), before);
}

#[tokio::test]
async fn the_same_request_with_a_key_is_done_once() {
    let api = Api::start().await;
    let rollback = |key: &'static str, release: u64| {
        api.request("developer", "POST", "/v1/apps/hello/rollback")
            .header("idempotency-key", key)
            .json(&json!({"release": release}))
            .send()
    };
    let first = rollback("one", 1).await.unwrap();
    assert_eq!(first.status(), 202);
    let location = first.headers()["location"].clone();
    let first: Value = first.json().await.unwrap();
    let again = rollback("one", 1).await.unwrap();
    assert_eq!((again.status().as_u16(), &again.headers()["location"]), (202, &location));
    assert_eq!(again.json::<Value>().await.unwrap(), first);
    assert_eq!(api.store.releases(api.app.id, None, 10).await.unwrap().len(), 3);
    assert_eq!(rollback("one", 2).await.unwrap().status(), 422, "another request");
    assert_eq!(rollback("two", 99).await.unwrap().status(), 404);
    assert_eq!(
        rollback("two", 1).await.unwrap().status(),
        202,
        "a refused request gives its key back"
    );
}

#[tokio::test]
async fn a_request_that_was_cut_off_is_done_or_answered_by_the_next_try() {
    let api = Api::start().await;
    let text = serde_json::to_string(&berth_api::Rollback { release: Some(1) }).unwrap();
    let mut hash = Sha256::new();
    hash.update(format!("POST /v1/apps/hello/rollback\0{text}"));
    let hash = hex::encode(hash.finalize());
    let secret = &api.tokens["developer"];
    let who = api.store.caller_by_token(secret, None, NOW_MS).await.unwrap().unwrap();
    let rollback = |key: &'static str| {
        api.request("developer", "POST", "/v1/apps/hello/rollback")
            .header("idempotency-key", key)
            .json(&json!({"release": 1}))
            .send()
    };
    // Cut off before the change.
    let claimed = api.store.claim(who.principal, "early", &hash, NOW_MS).await.unwrap();
    assert_eq!(claimed, berth_store::Claim::New);
    let done = rollback("early").await.unwrap();
    assert_eq!(done.status(), 202, "nothing was done: it is done now");
    assert_eq!(done.json::<Value>().await.unwrap()["release"], 3);
    // Cut off after it.
    api.store.claim(who.principal, "late", &hash, NOW_MS).await.unwrap();
    let by = By { once: Some("late".to_owned()), ..By::caller(&who, NOW_MS) };
    let change = Change::Rollback { to: Some(1) };
    let made = api.store.change(Some(api.app.id), &change, None, &by).await.unwrap();
    for _ in 0..2 {
        let again = rollback("late").await.unwrap();
        assert_eq!(again.status(), 202);
        let deployment: Value = again.json().await.unwrap();
        assert_eq!(deployment["release"], 4);
        assert_eq!(deployment["id"], made.deployment.as_ref().unwrap().id.to_string());
    }
    assert_eq!(api.store.releases(api.app.id, None, 10).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_change_of_routes_is_answered_when_the_router_has_it() {
    let api = Api::start().await;
    for (method, path, body) in [
        ("POST", "/v1/apps", Some(json!({"name": "new"}))),
        ("POST", "/v1/apps/hello/domains", Some(json!({"domain": "more.example.org"}))),
        ("DELETE", "/v1/apps/hello/domains/more.example.org", None),
        ("PATCH", "/v1/apps/new", Some(json!({"name": "newer"}))),
        ("DELETE", "/v1/apps/newer", None),
    ] {
        api.rooms.asked.lock().unwrap().clear();
        api.must("owner", method, path, body).await;
        assert!(api.rooms.was_asked("publish"), "{method} {path}");
    }
}

#[tokio::test]
async fn lists_come_in_pages_without_gaps() {
    let api = Api::start().await;
    for n in 0..7 {
        api.must("owner", "POST", "/v1/apps", Some(json!({"name": format!("app-{n}")}))).await;
    }
    let (mut names, mut token) = (Vec::new(), String::new());
    for _ in 0..10 {
        let page = api.must("owner", "GET", &format!("/v1/apps?limit=3{token}"), None).await;
        for app in page["items"].as_array().unwrap() {
            names.push(app["name"].as_str().unwrap().to_owned());
        }
        match page["next_page_token"].as_str() {
            Some(next) => token = format!("&page_token={next}"),
            None => break,
        }
    }
    let expected: Vec<String> =
        (0..7).map(|n| format!("app-{n}")).chain(["hello".to_owned()]).collect();
    assert_eq!(names, expected);
    for (path, count) in [
        ("/v1/apps/hello/releases?limit=1", 2),
        ("/v1/apps/hello/builds?limit=1", 2),
        ("/v1/apps/hello/deployments?limit=1", 2),
        ("/v1/apps/hello/domains?limit=1", 2),
        ("/v1/apps/hello/instances?all=true&limit=1", 2),
        ("/v1/tokens?limit=1", 7),
        ("/v1/teams?limit=1", 1),
        ("/v1/apps/hello/builds/{build}/log?limit=1", 2),
    ] {
        let path = path.replace("{build}", &api.build.id.to_string());
        let (mut seen, mut token) = (std::collections::BTreeSet::new(), String::new());
        loop {
            let page = api.must("owner", "GET", &format!("{path}{token}"), None).await;
            seen.extend(page["items"].as_array().unwrap().iter().map(ToString::to_string));
            let Some(next) = page["next_page_token"].as_str() else { break };
            token = format!("&page_token={next}");
        }
        assert_eq!(seen.len(), count, "{path}");
    }
}

#[tokio::test]
async fn instances_are_shown_with_what_is_known_of_them_now() {
    let api = Api::start().await;
    let page = api.must("viewer", "GET", "/v1/apps/hello/instances", None).await;
    let items = page["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "one-off commands have a list of their own");
    assert_eq!(items[0]["name"], "web.1");
    assert_eq!(
        (&items[0]["attempt"], &items[0]["memory_bytes"], &items[0]["release"]),
        (&json!(2), &json!(1024), &json!(2))
    );
    let runs = api.must("viewer", "GET", "/v1/apps/hello/runs", None).await;
    assert_eq!(runs["items"][0]["name"], "run.1");
    let body = json!({"command": ["sleep", "1"], "detach": true});
    let run = api.must("developer", "POST", "/v1/apps/hello/runs", Some(body)).await;
    assert_eq!(run["role"], "detached");
    api.must(
        "developer",
        "DELETE",
        &format!("/v1/apps/hello/runs/{}", run["id"].as_str().unwrap()),
        None,
    )
    .await;
    assert!(api.rooms.was_asked(&format!("stop {}", run["id"].as_str().unwrap())));
}

#[tokio::test]
async fn a_build_whose_client_went_away_is_not_begun_again() {
    let api = Api::start().await;
    let before = api.store.builds(api.app.id, None, 10).await.unwrap().len();
    let build = || {
        api.request("developer", "POST", "/v1/apps/hello/builds")
            .header("idempotency-key", "gone")
            .send()
    };
    api.rooms.held.send_replace(true);
    let mut rebuilds = api.rooms.rebuilds.subscribe();
    tokio::select! {
        _ = build() => panic!("answered before it was begun"),
        begun = rebuilds.wait_for(|count| *count == 1) => drop(begun.unwrap()),
    }
    // The server learns of the closed connection some time within these.
    for _ in 0..20 {
        assert_eq!(build().await.unwrap().status(), 409, "it is under way");
    }
    api.rooms.held.send_replace(false);
    let answered = async {
        loop {
            let status = build().await.unwrap().status();
            if status != 409 {
                return status;
            }
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(10), answered).await.unwrap();
    assert_eq!(status, 202);
    assert_eq!(*api.rooms.rebuilds.borrow(), 1);
    assert_eq!(api.store.builds(api.app.id, None, 10).await.unwrap().len(), before + 1);
}

#[tokio::test]
async fn changes_are_answered_in_time_while_the_router_takes_no_table() {
    let api = Api::start().await;
    api.rooms.held.send_replace(true);
    let add = |name: &'static str| {
        api.request("developer", "POST", "/v1/apps/hello/domains")
            .json(&json!({"domain": name}))
            .send()
    };
    let all = async { tokio::join!(add("one.example"), add("two.example"), add("three.example")) };
    let (one, two, three) = tokio::time::timeout(Duration::from_secs(9), all).await.unwrap();
    for answer in [one, two, three] {
        assert!(answer.unwrap().status().is_success());
    }
}
