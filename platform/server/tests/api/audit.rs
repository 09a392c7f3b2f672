//! Who did what, when and from where: what an auditor finds, and what nobody does.

use std::time::Duration;

use berth_model::plan::Change;
use berth_store::{By, EventFilter, Order, Visible};
use serde_json::{Value, json};

use crate::{Api, NOW_MS, by};

impl Api {
    /// Waits until there are that many events that begin so.
    pub(crate) async fn events_of(&self, kind: &str, count: usize) -> Vec<berth_model::Event> {
        let mut changes = self.store.watch_events();
        let wait = async {
            loop {
                changes.mark_unchanged();
                let all = EventFilter::all(Visible::All);
                let rows = self.store.events(&all, Order::OldestAfter(0), 1000).await.unwrap();
                let found: Vec<_> =
                    rows.into_iter().filter(|row| row.kind.starts_with(kind)).collect();
                if found.len() >= count {
                    return found;
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.expect("the events")
    }

    async fn list(&self, caller: &str, parameters: &str) -> Vec<Value> {
        let path = format!("/v1/events?limit=200&{parameters}");
        let page = self.must(caller, "GET", &path, None).await;
        assert_eq!(page["next_page_token"], Value::Null, "all on one page");
        page["items"].as_array().unwrap().clone()
    }
}

fn kinds(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["kind"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn nobody_and_other_teams_learn_nothing() {
    let api = Api::start().await;
    assert_eq!(api.call("nobody", "GET", "/v1/events?order=newest", None).await.0, 401);
    for hidden in ["app=hello", "team=default"] {
        let path = format!("/v1/events?{hidden}");
        assert_eq!(api.call("other", "GET", &path, None).await.0, 404, "{hidden}");
    }
    // The same answer as for what never was.
    let (_, hidden) = api.call("other", "GET", "/v1/events?app=hello", None).await;
    let (_, absent) = api.call("other", "GET", "/v1/events?app=holle", None).await;
    assert_eq!(
        hidden["detail"].to_string().replace("hello", "holle"),
        absent["detail"].to_string()
    );
    let scope = format!("subject={}", api.app.id);
    assert!(api.list("other", &scope).await.is_empty());
    assert!(!api.list("viewer", &scope).await.is_empty());
    let seen = api.list("other", "order=newest").await;
    assert_eq!(kinds(&seen), ["token.created", "team.created"]);
    // What concerns the platform alone is an administrator's.
    api.store.set_buildpack_order(&[], &by()).await.unwrap();
    assert_eq!(api.list("admin", "kind=buildpack.*").await.len(), 1);
    for caller in ["viewer", "owner", "other"] {
        assert!(api.list(caller, "kind=buildpack.*").await.is_empty(), "{caller}");
    }
}

#[tokio::test]
async fn what_was_done_is_told_in_words_with_who_and_from_where() {
    let api = Api::start().await;
    let scale = json!({"processes": {"web": 2}});
    api.must("owner", "PUT", "/v1/apps/hello/scale", Some(scale)).await;
    let found = api.list("viewer", "order=newest&app=hello").await;
    let newest = &found[0];
    assert_eq!(newest["what"], "scale web from 1 to 2");
    assert_eq!((&newest["actor"], &newest["app"]), (&json!("owner"), &json!("hello")));
    assert_eq!(newest["source_ip"], "127.0.0.1");
    assert!(newest["principal"].as_str().unwrap().starts_with("pri_"), "{newest}");
    let by_platform = found.iter().find(|event| event["kind"] == "deployment.changed").unwrap();
    assert_eq!(by_platform["principal"], Value::Null);
}

#[tokio::test]
async fn filters_find_what_they_say_and_nothing_else() {
    let api = Api::start().await;
    let later = By { at_ms: NOW_MS + 3_600_000, name: "ci".to_owned(), ..by() };
    api.store.change(Some(api.app.id), &Change::Stop, None, &later).await.unwrap();
    let list = async |parameters: &str| api.list("admin", parameters).await;
    let all = list("").await;
    assert_eq!(kinds(&list("actor=ci").await), ["app.stopped"]);
    assert_eq!(kinds(&list("kind=app.stopped").await), ["app.stopped"]);
    assert_eq!(
        kinds(&list("kind=app.*&order=newest").await),
        ["app.stopped", "app.configured", "app.created"]
    );
    assert!(list("kind=app.").await.is_empty(), "no prefix without an asterisk");
    assert!(list("kind=%25").await.is_empty() && list("kind=app_created").await.is_empty());
    assert_eq!(list("kind=*").await.len(), all.len());
    let build = api.build.id.to_string();
    assert_eq!(
        kinds(&list(&format!("subject={build}")).await),
        ["build.created", "build.finished"]
    );
    assert_eq!(kinds(&list("team=other").await), ["team.created", "token.created"]);
    assert_eq!(list("since=1s").await.len(), all.len());
    assert!(list("until=1s").await.is_empty());
    assert_eq!(kinds(&list("since=2023-11-14T23:13:20Z").await), ["app.stopped"]);
    assert!(list("since=2023-11-14T23:13:20.001Z").await.is_empty());
    assert_eq!(list("until=2023-11-14T23:13:20Z").await.len(), all.len() - 1);
    assert!(list("until=2023-11-14").await.is_empty());
    let people = list("callers_only=true").await;
    assert!(people.iter().all(|event| event["actor"] != "system"), "{people:?}");
    assert_eq!(kinds(&people), ["session.started", "app.stopped"]);
    for wrong in [
        "since=yesterday",
        "until=2",
        "kind=a*b",
        "kind=**",
        "kind=",
        "actor=",
        "order=newest&after=1",
    ] {
        let (status, problem) =
            api.call("admin", "GET", &format!("/v1/events?{wrong}"), None).await;
        assert_eq!(status, 422, "{wrong}: {problem}");
    }
    for wrong in ["order=up", "who=me", "limit=x"] {
        let (status, _) = api.call("admin", "GET", &format!("/v1/events?{wrong}"), None).await;
        assert_eq!(status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn pages_newest_first_have_no_gap_and_nothing_twice_while_more_is_written() {
    let api = Api::start().await;
    let before: Vec<i64> = api
        .list("admin", "order=newest")
        .await
        .iter()
        .map(|e| e["seq"].as_i64().unwrap())
        .collect();
    let mut seen = Vec::new();
    let mut next = String::new();
    loop {
        let path = format!("/v1/events?order=newest&limit=3{next}");
        let page = api.must("admin", "GET", &path, None).await;
        let items = page["items"].as_array().unwrap();
        seen.extend(items.iter().map(|event| event["seq"].as_i64().unwrap()));
        let change = if seen.len() % 2 == 0 { Change::Stop } else { Change::Restart };
        api.store.change(Some(api.app.id), &change, None, &by()).await.unwrap();
        api.store.change(Some(api.app.id), &Change::Start, None, &by()).await.unwrap();
        match page["next_page_token"].as_str() {
            Some(token) => next = format!("&page_token={token}"),
            None => break,
        }
    }
    assert_eq!(seen, before);
}

#[tokio::test]
async fn an_app_that_is_gone_is_found_by_every_name_it_had_and_by_its_own_team_alone() {
    let api = Api::start().await;
    api.must("owner", "PATCH", "/v1/apps/hello", Some(json!({"name": "renamed"}))).await;
    api.must("owner", "DELETE", "/v1/apps/renamed", None).await;
    api.store.erase_app(api.app.id, &by()).await.unwrap();
    for name in ["hello", "renamed"] {
        let found = api.list("viewer", &format!("order=newest&app={name}")).await;
        assert_eq!(kinds(&found)[..3], ["app.erased", "app.destroyed", "app.renamed"]);
        assert_eq!((&found[1]["actor"], &found[1]["app"]), (&json!("owner"), &json!("renamed")));
        let (status, _) = api.call("other", "GET", &format!("/v1/events?app={name}"), None).await;
        assert_eq!(status, 404);
    }
    // Another team takes the name: each sees its own.
    api.must("other", "POST", "/v1/apps", Some(json!({"name": "hello"}))).await;
    assert_eq!(kinds(&api.list("other", "app=hello").await), ["app.created"]);
    let found = api.list("viewer", "app=hello&kind=app.created").await;
    assert_eq!((found.len(), &found[0]["actor"]), (1, &json!("system")));
    assert_eq!(api.list("admin", "app=hello&kind=app.created").await.len(), 2);
}

#[tokio::test]
async fn what_a_role_does_not_allow_is_recorded_once_with_who_what_and_from_where() {
    let api = Api::start().await;
    for _ in 0..20 {
        let body = json!({"variables": {"A": "swordfish-2"}});
        let (status, _) = api.call("viewer", "PATCH", "/v1/apps/hello/config", Some(body)).await;
        assert_eq!(status, 403);
    }
    let body = json!({"name": "x", "role": "admin"});
    assert_eq!(api.call("owner", "POST", "/v1/tokens", Some(body)).await.0, 403);
    api.events_of("access.", 2).await;
    let found = api.list("viewer", "kind=access.*").await;
    assert_eq!(kinds(&found), ["access.denied"; 2], "what repeats is counted");
    assert_eq!(
        found[0]["what"],
        "may not change the app (PATCH /v1/apps/{app}/config): the role is viewer, it takes developer"
    );
    assert_eq!((&found[0]["actor"], &found[0]["app"]), (&json!("viewer"), &json!("hello")));
    assert_eq!(found[0]["source_ip"], "127.0.0.1");
    assert_eq!(
        found[1]["what"],
        "may not manage tokens and keys (POST /v1/tokens): the role is operator, admin would be given"
    );
    assert!(api.list("other", "kind=access.*").await.is_empty());
    assert_eq!(api.list("viewer", "kind=access.*&app=hello").await.len(), 1);
    assert!(!json!(found).to_string().contains("swordfish"));
}

#[tokio::test]
async fn what_was_hidden_from_a_caller_is_told_to_administrators_alone() {
    let api = Api::start().await;
    assert_eq!(api.call("other", "GET", "/v1/apps/hello", None).await.0, 404);
    assert_eq!(api.call("other", "GET", "/v1/apps/absent", None).await.0, 404);
    api.events_of("access.", 1).await;
    let found = api.list("admin", "kind=access.*").await;
    assert_eq!(found.len(), 1, "what is not there is no attempt: {found:?}");
    assert_eq!(found[0]["what"], "may not see this (GET /v1/apps/{app}): it is another team's");
    assert_eq!((&found[0]["actor"], &found[0]["app"]), (&json!("other"), &json!("hello")));
    for caller in ["other", "viewer", "owner"] {
        assert!(api.list(caller, "kind=access.*").await.is_empty(), "{caller}");
    }
}

#[tokio::test]
async fn a_wrong_token_is_recorded_for_administrators_and_never_itself() {
    let api = Api::start().await;
    let url = format!("http://{}/v1/me", api.address);
    assert_eq!(api.client.get(&url).send().await.unwrap().status(), 401, "no token is no attempt");
    for token in ["berth_swordfish-3", "swordfish-4"] {
        let answer = api.client.get(&url).bearer_auth(token).send().await.unwrap();
        assert_eq!(answer.status(), 401);
    }
    let basic = api.client.get(&url).basic_auth("swordfish-5", Some("swordfish-6"));
    assert_eq!(basic.send().await.unwrap().status(), 401);
    api.events_of("access.failed", 1).await;
    let found = api.list("admin", "kind=access.*").await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["what"], "could not log in: a token that is not valid, over the API");
    assert_eq!(
        (&found[0]["actor"], &found[0]["source_ip"]),
        (&json!("nobody"), &json!("127.0.0.1"))
    );
    assert!(!json!(found).to_string().contains("swordfish"));
    for caller in ["other", "viewer", "owner"] {
        assert!(api.list(caller, "kind=access.*").await.is_empty(), "{caller}");
    }
}
