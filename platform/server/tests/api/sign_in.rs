//! Signing in to the console, and what its cookie is good for.

use std::time::Duration;

use berth_model::Role;
use berth_store::{EventFilter, Order, UserState, Visible};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::{Api, NOW_MS, by, signed_in};

const PASSWORD: &str = "correct horse battery";

impl Api {
    fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A request from a page of the console, with a cookie.
    fn by_cookie(&self, cookie: &str, method: &str, path: &str) -> RequestBuilder {
        self.request("nobody", method, path)
            .header("cookie", format!("berth-session={cookie}"))
            .header("origin", self.origin())
    }

    async fn sign_in(&self, body: Value) -> Response {
        let request = self.request("nobody", "POST", "/v1/session").header("origin", self.origin());
        request.json(&body).send().await.unwrap()
    }

    /// Lets the user of a session choose a password.
    async fn choose(&self, cookie: &str, body: Value) -> StatusCode {
        let request = self.by_cookie(cookie, "POST", "/v1/session/password").json(&body);
        request.send().await.unwrap().status()
    }
}

/// The cookie that an answer sets, which must be safe.
fn cookie_of(answer: &Response) -> String {
    let set = answer.headers()["set-cookie"].to_str().unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(set.contains(part), "{set}");
    }
    let (cookie, _) = set.strip_prefix("berth-session=").unwrap().split_once(';').unwrap();
    assert_eq!(cookie.len(), 64);
    cookie.to_owned()
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn who_follows_a_link_chooses_a_password_once_and_signs_in_with_it() {
    let api = Api::start().await;
    let made = api.must("admin", "POST", "/v1/users", Some(json!({"name": "bert"}))).await;
    let (url, secret) = made["link"]["url"].as_str().unwrap().split_once('#').unwrap();
    assert_eq!(url, format!("{}/sign-in", api.origin()));

    let answer = api.sign_in(json!({"link": secret})).await;
    assert_eq!(answer.status(), 200);
    let cookie = cookie_of(&answer);
    let session: Value = answer.json().await.unwrap();
    assert_eq!((&session["user"], &session["may_set_password"]), (&json!("bert"), &json!(true)));
    assert_eq!(api.sign_in(json!({"link": secret})).await.status(), 401, "a link is good once");

    for (body, expected) in [
        (json!({"new": "short"}), 422),
        (json!({"new": PASSWORD}), 204),
        // The next one needs the one before.
        (json!({"new": "another one entirely"}), 422),
        (json!({"new": "another one entirely", "current": "wrong"}), 422),
        (json!({"new": "another one entirely", "current": PASSWORD}), 204),
    ] {
        assert_eq!(api.choose(&cookie, body.clone()).await.as_u16(), expected, "{body}");
    }
    for (password, expected) in [(PASSWORD, 401), ("another one entirely", 200)] {
        let answer = api.sign_in(json!({"user": "bert", "password": password})).await;
        assert_eq!(answer.status().as_u16(), expected);
    }
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions_and_links() {
    let api = Api::start().await;
    assert_eq!(api.choose(&api.cookie, json!({"new": PASSWORD})).await, 204);
    let link = api.must("admin", "POST", "/v1/users/anna/link", None).await;
    let other = api.sign_in(json!({"user": "anna", "password": PASSWORD})).await;
    let other = cookie_of(&other);
    assert_eq!(status(api.by_cookie(&api.cookie, "GET", "/v1/session")).await, 200);
    let change = json!({"new": "another one entirely", "current": PASSWORD});
    assert_eq!(api.choose(&other, change).await, 204);
    assert_eq!(status(api.by_cookie(&api.cookie, "GET", "/v1/session")).await, 401);
    assert_eq!(status(api.by_cookie(&other, "GET", "/v1/session")).await, 200);
    let (_, secret) = link["url"].as_str().unwrap().split_once('#').unwrap();
    assert_eq!(api.sign_in(json!({"link": secret})).await.status(), 401);
}

#[tokio::test]
async fn a_session_tells_what_may_be_done_and_ends_when_one_signs_out() {
    let api = Api::start().await;
    let answer = api.by_cookie(&api.cookie, "GET", "/v1/session").send().await.unwrap();
    let session: Value = answer.json().await.unwrap();
    let rights = &session["teams"][0];
    assert_eq!((&rights["team"], &rights["role"]), (&json!("default"), &json!("operator")));
    let may: Vec<&str> =
        rights["may"].as_array().unwrap().iter().map(|verb| verb.as_str().unwrap()).collect();
    assert!(may.contains(&"manage_access") && !may.contains(&"manage_platform"), "{may:?}");
    assert_eq!((&session["admin"], &session["platform"]), (&json!(false), &json!(["read"])));

    let admin = api.must("admin", "GET", "/v1/session", None).await;
    assert_eq!((&admin["user"], &admin["admin"]), (&Value::Null, &json!(true)));
    assert_eq!(admin["teams"].as_array().unwrap().len(), 2, "an admin acts in every team");

    let out = api.by_cookie(&api.cookie, "DELETE", "/v1/session").send().await.unwrap();
    assert_eq!(out.status(), 204);
    assert!(out.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(status(api.by_cookie(&api.cookie, "GET", "/v1/session")).await, 401);
}

#[tokio::test]
async fn a_cookie_changes_nothing_for_a_page_of_another_origin() {
    let api = Api::start().await;
    let cookie = format!("berth-session={}", api.cookie);
    let post = |path: &str| {
        let request = api.request("nobody", "POST", path).header("cookie", &cookie);
        request.json(&json!({"name": "evil"}))
    };
    let port = api.address.port();
    for origin in [
        None,
        Some("null".to_owned()),
        Some("http://evil.example".to_owned()),
        Some("http://127.0.0.1:8080".to_owned()),
        Some(format!("http://hello.localhost:{port}")),
        Some(format!("https://127.0.0.1:{port}")),
    ] {
        let request = match &origin {
            Some(origin) => post("/v1/apps").header("origin", origin),
            None => post("/v1/apps"),
        };
        assert_eq!(status(request).await, 403, "{origin:?}");
        // Nobody is signed in as somebody else, either.
        let mut login = api.request("nobody", "POST", "/v1/session").json(&json!({"link": "x"}));
        if let Some(origin) = &origin {
            login = login.header("origin", origin);
        }
        assert_eq!(status(login).await, 403, "{origin:?}");
    }
    let form = api.by_cookie(&api.cookie, "POST", "/v1/apps");
    let form = form.header("content-type", "text/plain").body(r#"{"name": "evil"}"#);
    assert_eq!(status(form).await, 415);
    assert_eq!(
        api.must("admin", "GET", "/v1/apps", None).await["items"].as_array().unwrap().len(),
        1
    );

    let good = post("/v1/apps").header("sec-fetch-site", "same-origin");
    assert_eq!(status(good).await, 201);
    let read = api.request("nobody", "GET", "/v1/apps").header("cookie", &cookie);
    let read = read.header("origin", "http://evil.example").send().await.unwrap();
    assert!(!read.headers().contains_key("access-control-allow-origin"), "there is no CORS");
}

#[tokio::test]
async fn a_websocket_needs_the_exact_origin_with_a_cookie() {
    let api = Api::start().await;
    let path = format!("/v1/apps/hello/instances/{}/exec?command=true", api.instance.id);
    let open = |origin: Option<&str>| {
        let request = api
            .request("nobody", "GET", &path)
            .header("cookie", format!("berth-session={}", api.cookie))
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        match origin {
            Some(origin) => request.header("origin", origin),
            None => request.header("sec-fetch-site", "same-origin"),
        }
    };
    assert_eq!(status(open(None)).await, 403);
    assert_eq!(status(open(Some("http://evil.example"))).await, 403);
    assert_eq!(status(open(Some(&api.origin()))).await, 101);
}

#[tokio::test]
async fn under_tls_the_cookie_has_the_name_that_no_other_host_can_set() {
    let api = Api::start().await;
    let user = api.must("admin", "POST", "/v1/users", Some(json!({"name": "bert"}))).await;
    let (_, secret) = user["link"]["url"].as_str().unwrap().split_once('#').unwrap();
    let proxied = |method: &str, path: &str| {
        let request = api.request("nobody", method, path).header("host", "api.example.org");
        request.header("origin", "https://api.example.org")
    };
    let answer = proxied("POST", "/v1/session").json(&json!({"link": secret})).send().await;
    let answer = answer.unwrap();
    let set = answer.headers()["set-cookie"].to_str().unwrap();
    assert!(set.starts_with("__Host-berth-session=") && set.ends_with("; Secure"), "{set}");
    let cookie = set.split(['=', ';']).nth(1).unwrap();
    for (name, expected) in [("__Host-berth-session", 200), ("berth-session", 401)] {
        let request = proxied("GET", "/v1/me").header("cookie", format!("{name}={cookie}"));
        assert_eq!(status(request).await, expected, "{name}");
    }
}

#[tokio::test]
async fn guessing_is_slowed_whether_the_name_is_there_or_not() {
    let api = Api::start().await;
    assert_eq!(api.choose(&api.cookie, json!({"new": PASSWORD})).await, 204);
    for user in ["anna", "nobody-of-this-name"] {
        for n in 0..5 {
            let answer = api.sign_in(json!({"user": user, "password": "not the password"})).await;
            assert_eq!(answer.status(), 401, "{user} {n}");
        }
        // Now also the right one waits.
        let answer = api.sign_in(json!({"user": user, "password": PASSWORD})).await;
        assert_eq!(answer.status(), 429, "{user}");
        assert_eq!(answer.headers()["retry-after"], "1");
    }
    // Who is signed in, and who has a token or a link, is not locked out by that.
    assert_eq!(status(api.by_cookie(&api.cookie, "GET", "/v1/session")).await, 200);
    let link = api.must("admin", "POST", "/v1/users/anna/link", None).await;
    let (_, secret) = link["url"].as_str().unwrap().split_once('#').unwrap();
    assert_eq!(api.sign_in(json!({"link": secret})).await.status(), 200);

    let events = loop {
        let filter = EventFilter {
            kind: Some(berth_store::KindFilter::Is("access.failed".to_owned())),
            ..EventFilter::all(Visible::All)
        };
        let mut newest = api.store.watch_events();
        newest.mark_unchanged();
        let events = api.store.events(&filter, Order::OldestAfter(0), 200).await.unwrap();
        if events.len() >= 3 {
            break events;
        }
        newest.changed().await.unwrap();
    };
    let words: Vec<String> = events.iter().map(|event| event.words()).collect();
    let text = words.join("\n");
    assert!(text.contains("a wrong password of anna, which has to wait now"), "{text}");
    // What was typed is kept only where it is a user's name.
    assert!(!format!("{events:?}").contains("nobody-of-this-name"), "{text}");
    assert!(!format!("{events:?}").contains("not the password"), "{text}");
}

#[tokio::test]
async fn a_disabled_user_does_nothing_with_anything() {
    let api = Api::start().await;
    assert_eq!(api.choose(&api.cookie, json!({"new": PASSWORD})).await, 204);
    let body = json!({"name": "mine", "mine": true});
    let made = api.by_cookie(&api.cookie, "POST", "/v1/tokens").json(&body).send().await.unwrap();
    assert_eq!(made.status(), 201);
    let made: Value = made.json().await.unwrap();
    let token = made["secret"].as_str().unwrap();
    assert_eq!(
        (&made["token"]["user"], &made["token"]["role"]),
        (&json!("anna"), &json!("operator"))
    );
    let me = || api.request("nobody", "GET", "/v1/me").bearer_auth(token);
    assert_eq!(status(me()).await, 200);
    let mut stream = api.request("nobody", "GET", "/v1/events?follow=true").bearer_auth(token);
    stream = stream.header("accept", "text/event-stream");
    let mut open = stream.send().await.unwrap();

    let disable = json!({"state": "disabled"});
    api.must("admin", "PATCH", "/v1/users/anna", Some(disable)).await;
    assert_eq!(status(me()).await, 401);
    assert_eq!(status(api.by_cookie(&api.cookie, "GET", "/v1/session")).await, 401);
    let answer = api.sign_in(json!({"user": "anna", "password": PASSWORD})).await;
    assert_eq!(answer.status(), 401);
    let (status_of_link, _) = api.call("admin", "POST", "/v1/users/anna/link", None).await;
    assert_eq!(status_of_link, 409);
    // What goes on for long ends.
    let ended = tokio::time::timeout(Duration::from_secs(10), async {
        while let Ok(Some(_)) = open.chunk().await {}
    });
    ended.await.expect("the stream ends");

    api.must("admin", "PATCH", "/v1/users/anna", Some(json!({"state": "active"}))).await;
    assert_eq!(status(me()).await, 200, "the token was only asleep");
    assert_eq!(status(api.by_cookie(&api.cookie, "GET", "/v1/session")).await, 401);
    api.must("admin", "DELETE", "/v1/users/anna", None).await;
    assert_eq!(status(me()).await, 401);
}

#[tokio::test]
async fn an_administrator_stays() {
    let api = Api::start().await;
    let body = json!({"name": "root", "role": "admin"});
    api.must("admin", "POST", "/v1/users", Some(body)).await;
    for (method, path, body) in [
        ("DELETE", "/v1/users/root", None),
        ("PATCH", "/v1/users/root", Some(json!({"state": "disabled"}))),
        ("PUT", "/v1/users/root/teams/default", Some(json!({"role": "operator"}))),
        ("DELETE", "/v1/users/root/teams/default", None),
    ] {
        let (status, problem) = api.call("admin", method, path, body).await;
        assert_eq!(status, 409, "{method} {path}: {problem}");
    }
    let grant = json!({"role": "admin"});
    api.must("admin", "PUT", "/v1/users/anna/teams/other", Some(grant)).await;
    api.must("admin", "DELETE", "/v1/users/root", None).await;
    let (status, _) = api.call("admin", "DELETE", "/v1/users/anna/teams/other", None).await;
    assert_eq!(status, 409);
}

#[tokio::test]
async fn a_session_ends_when_it_is_not_used_and_at_last_in_any_case() {
    let api = Api::start().await;
    let (hour, day) = (3_600_000, 86_400_000);
    let (limits, cookie) =
        (berth_store::SessionLimits { idle_ms: 12 * hour, absolute_ms: 7 * day }, &api.cookie);
    let session = api.session.parse().unwrap();
    let valid = async |at: i64| {
        api.store.caller_by_cookie(cookie, None, limits, NOW_MS + at).await.unwrap().is_some()
    };
    assert!(valid(12 * hour - 1).await);
    assert!(!valid(12 * hour).await);
    for used in 1..=28 {
        api.store.session_seen(session, NOW_MS + used * 6 * hour).await.unwrap();
    }
    assert!(valid(7 * day - 1).await);
    assert!(!valid(7 * day).await);
}

#[tokio::test]
async fn each_sees_and_ends_the_own_sessions_and_nobody_elses() {
    let api = Api::start().await;
    let (bert, session) = signed_in(&api.store, "bert", None).await;
    let own = api.by_cookie(&bert, "GET", "/v1/users/bert/sessions").send().await.unwrap();
    let own: Value = own.json().await.unwrap();
    assert_eq!(
        (&own["items"][0]["current"], &own["items"][0]["agent"]),
        (&json!(true), &json!("a browser"))
    );
    assert_eq!(status(api.by_cookie(&bert, "GET", "/v1/users/anna/sessions")).await, 403);
    let path = format!("/v1/users/bert/sessions/{}", api.session);
    assert_eq!(status(api.by_cookie(&bert, "DELETE", &path)).await, 404, "anna's is not bert's");
    let path = format!("/v1/users/bert/sessions/{session}");
    assert_eq!(status(api.by_cookie(&bert, "DELETE", &path)).await, 204);
    assert_eq!(status(api.by_cookie(&bert, "GET", "/v1/session")).await, 401);
}

#[tokio::test]
async fn a_role_that_is_taken_is_gone_at_once() {
    let api = Api::start().await;
    assert_eq!(status(api.by_cookie(&api.cookie, "GET", "/v1/apps/hello")).await, 200);
    api.must("admin", "DELETE", "/v1/users/anna/teams/default", None).await;
    assert_eq!(status(api.by_cookie(&api.cookie, "GET", "/v1/apps/hello")).await, 404);
    let list = api.by_cookie(&api.cookie, "GET", "/v1/apps").send().await.unwrap();
    assert_eq!(list.json::<Value>().await.unwrap()["items"], json!([]));
}

#[tokio::test]
async fn no_secret_of_a_user_is_on_the_disk() {
    let api = Api::start().await;
    assert_eq!(api.choose(&api.cookie, json!({"new": PASSWORD})).await, 204);
    let user = api.store.user_by_name(&"anna".parse().unwrap()).await.unwrap().unwrap();
    let link = api.store.make_link(user.id, NOW_MS + 1000, &by()).await.unwrap();
    let mut bytes = Vec::new();
    for file in std::fs::read_dir(api.folder.path()).unwrap() {
        bytes.extend(std::fs::read(file.unwrap().path()).unwrap());
    }
    let found = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(found("$argon2id$"));
    for secret in [PASSWORD, &link, &api.cookie] {
        assert!(!found(secret));
    }
    assert!(!format!("{user:?}").contains("argon2"), "nor in a log line");
    assert_eq!((user.state, Role::Admin.as_str()), (UserState::Active, "admin"));
}
