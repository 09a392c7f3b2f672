//! Tokens that may do less than their role: for some apps, or for some uses.

use berth_model::plan::Change;
use berth_model::principal::{Scope, Verb};
use berth_model::{Role, TeamId};
use berth_store::{NewToken, Owner};
use serde_json::{Value, json};

use crate::{Api, by};

impl Api {
    /// Puts a token of the team among the callers that is limited.
    async fn limited(
        &mut self,
        name: &'static str,
        role: Role,
        scope: Scope,
        apps: Option<&[&str]>,
    ) {
        let mut ids = std::collections::BTreeSet::new();
        for app in apps.unwrap_or_default() {
            let app = self.store.app_by_name(&app.parse().unwrap()).await.unwrap().unwrap();
            ids.insert(app.id);
        }
        let team: TeamId = self.app.team;
        let apps = apps.map(|_| ids);
        let new = NewToken { scope, apps, ..NewToken::of_team(name, team, role) };
        let (_, secret) = self.store.create_token(&new, &by()).await.unwrap();
        self.tokens.insert(name, secret);
    }
}

#[tokio::test]
async fn a_token_of_one_app_finds_nothing_of_another() {
    let mut api = Api::start().await;
    let create = Change::Create { name: "second".parse().unwrap(), team: api.app.team };
    api.store.change(None, &create, None, &by()).await.unwrap();
    for role in [Role::Operator, Role::Admin] {
        let name = if role == Role::Admin { "second-admin" } else { "second-operator" };
        api.limited(name, role, Scope::All, Some(&["second"])).await;
        for path in [
            "/v1/apps/hello",
            "/v1/apps/hello/log",
            "/v1/apps/hello/config",
            "/v1/apps/hello/config/versions",
            "/v1/apps/hello/releases",
            "/v1/apps/hello/releases/1",
            "/v1/apps/hello/builds",
            "/v1/apps/hello/instances",
            "/v1/apps/hello/domains",
            "/v1/events?app=hello",
            "/v1/drains?app=hello",
            "/v1/extensions/none/pages/owner?app=hello",
        ] {
            let (status, problem) = api.call(name, "GET", path, None).await;
            assert_eq!(status, 404, "{name} {path}: {problem}");
        }
        let drain = format!("/v1/drains/{}", api.drain);
        assert_eq!(api.call(name, "GET", &drain, None).await.0, 404);
        let (status, _) = api.call(name, "POST", "/v1/apps/hello/builds", None).await;
        assert_eq!(status, 404);
        assert_eq!(api.call(name, "GET", "/v1/apps/second/config", None).await.0, 200);

        // Lists have its own things only, and nothing beside them is managed.
        for (path, key, expected) in [
            ("/v1/apps", "name", json!(["second"])),
            ("/v1/drains", "app", json!([])),
            ("/v1/events?limit=200&kind=app.*", "app", json!(["second"])),
        ] {
            let page = api.must(name, "GET", path, None).await;
            let items = page["items"].as_array().unwrap().iter().map(|item| item[key].clone());
            assert_eq!(Value::from_iter(items), expected, "{name} {path}");
        }
        for (method, path, body) in [
            ("GET", "/v1/tokens", None),
            ("POST", "/v1/tokens", Some(json!({"name": "x", "role": "viewer"}))),
            ("GET", "/v1/keys", None),
            ("POST", "/v1/apps", Some(json!({"name": "third"}))),
            ("POST", "/v1/users", Some(json!({"name": "x"}))),
            ("POST", "/v1/teams", Some(json!({"name": "x"}))),
            ("GET", "/v1/users", None),
            ("GET", "/metrics", None),
        ] {
            let (status, problem) = api.call(name, method, path, body).await;
            assert_eq!(status, 403, "{name} {method} {path}: {problem}");
        }
    }
}

#[tokio::test]
async fn a_scope_allows_its_verbs_and_no_other() {
    let mut api = Api::start().await;
    let drain = format!("/v1/drains/{}", api.drain);
    let build = format!("/v1/apps/hello/builds/{}/cancel", api.build.id);
    let calls = [
        (Verb::Read, "GET", "/v1/apps/hello/log", None),
        (Verb::ReadConfig, "GET", "/v1/apps/hello/config", None),
        (Verb::Deploy, "POST", &build, None),
        (Verb::Change, "POST", "/v1/apps/hello/restart", None),
        (Verb::Run, "POST", "/v1/apps/hello/runs", Some(json!({"command": ["ls"]}))),
        (Verb::CreateApp, "POST", "/v1/apps", Some(json!({"name": "x"}))),
        (Verb::DestroyApp, "DELETE", "/v1/apps/hello", None),
        (Verb::ManageAccess, "GET", "/v1/tokens", None),
        (Verb::ManageDrains, "DELETE", &drain, None),
        (Verb::ManagePlatform, "GET", "/metrics", None),
    ];
    for (name, scope) in [("read-only", Scope::Read), ("deployer", Scope::Deploy)] {
        api.limited(name, Role::Admin, scope, None).await;
        for (verb, method, path, body) in &calls {
            let (status, problem) = api.call(name, method, path, body.clone()).await;
            if scope.has(*verb) {
                assert!(status.is_success(), "{name} {verb:?}: {problem}");
            } else {
                assert_eq!(status, 403, "{name} {verb:?}: {problem}");
            }
        }
    }
}

#[tokio::test]
async fn a_limited_token_is_made_for_apps_that_are_there_and_the_teams() {
    let api = Api::start().await;
    let other = api.store.team_by_name(&"other".parse().unwrap()).await.unwrap().unwrap();
    let create = Change::Create { name: "theirs".parse().unwrap(), team: other.id };
    api.store.change(None, &create, None, &by()).await.unwrap();
    let ask = |apps: Value, scope: &str| json!({"name": "ci-2", "role": "developer", "apps": apps, "scope": scope});
    for (caller, body, expected) in [
        ("owner", ask(json!(["absent"]), "all"), 404),
        ("owner", ask(json!(["theirs"]), "all"), 404),
        ("admin", ask(json!(["theirs"]), "all"), 422),
        ("owner", ask(json!([]), "all"), 422),
        ("owner", ask(json!(["hello"]), "everything"), 422),
        ("owner", ask(json!(["hello"]), "deploy"), 201),
    ] {
        let (status, answer) = api.call(caller, "POST", "/v1/tokens", Some(body)).await;
        assert_eq!(status, expected, "{caller}: {answer}");
        if expected == 201 {
            assert_eq!(
                (&answer["token"]["apps"], &answer["token"]["scope"]),
                (&json!(["hello"]), &json!("deploy"))
            );
        }
    }
}

#[tokio::test]
async fn what_is_a_users_does_no_more_than_the_user_and_its_role() {
    let api = Api::start().await;
    let anna = api.store.user_by_name(&"anna".parse().unwrap()).await.unwrap().unwrap();
    let new = NewToken {
        owner: Owner::User(anna.id),
        ..NewToken::of_team("small", api.app.team, Role::Viewer)
    };
    let (token, secret) = api.store.create_token(&new, &by()).await.unwrap();
    let as_it = |method: &str, path: &str| api.request("nobody", method, path).bearer_auth(&secret);
    let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status();
    assert_eq!(status(as_it("GET", "/v1/apps/hello")).await, 200);
    assert_eq!(status(as_it("POST", "/v1/apps/hello/restart")).await, 403);
    // It makes none that may do more than it may.
    let more = json!({"name": "more", "mine": true, "role": "operator"});
    assert_eq!(status(as_it("POST", "/v1/tokens").json(&more)).await, 403);
    let same = json!({"name": "same", "mine": true});
    let made = as_it("POST", "/v1/tokens").json(&same).send().await.unwrap();
    assert_eq!(made.json::<Value>().await.unwrap()["token"]["role"], "viewer");
    // The user's are the user's: no operator of the team sees or ends them.
    let path = format!("/v1/tokens/{}", token.id);
    assert_eq!(api.call("owner", "DELETE", &path, None).await.0, 404);
    let listed = api.must("owner", "GET", "/v1/tokens", None).await;
    assert!(!listed.to_string().contains("small"), "{listed}");
    assert_eq!(api.call("owner", "GET", "/v1/tokens?mine=true", None).await.0, 403);
    assert_eq!(api.call("session", "DELETE", &path, None).await.0, 204);
    assert_eq!(status(as_it("GET", "/v1/apps/hello")).await, 401);
}

#[tokio::test]
async fn to_see_values_is_recorded_with_their_names_alone() {
    let api = Api::start().await;
    let (status, _) = api.call("viewer", "GET", "/v1/apps/hello/config", None).await;
    assert_eq!(status, 403);
    let seen = api.must("developer", "GET", "/v1/apps/hello/config?name=PASSWORD", None).await;
    assert_eq!(seen["variables"], json!({"PASSWORD": "swordfish"}));
    let path = "/v1/events?kind=config.revealed";
    let events = api.must("viewer", "GET", path, None).await;
    let items = events["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "the viewer saw nothing");
    assert_eq!(
        (&items[0]["actor"], &items[0]["what"]),
        (&json!("developer"), &json!("read the values of PASSWORD"))
    );
    assert!(!events.to_string().contains("swordfish"));
}
