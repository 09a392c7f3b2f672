//! Server-sent events: what they carry, where they resume, when they end.

use std::time::Duration;

use berth_model::plan::Change;
use berth_model::{DeploymentState, Role};
use berth_store::{BuildEnd, NewToken};
use futures_util::StreamExt;
use reqwest::Response;

use crate::{Api, NOW_MS, by, new_token};

/// The fields of one event: id, name, data.
type Event = (String, String, String);

/// Reads a stream event by event.
struct Events {
    body: std::pin::Pin<
        Box<dyn futures_util::Stream<Item = reqwest::Result<axum::body::Bytes>> + Send>,
    >,
    text: String,
}

impl Events {
    async fn open(request: reqwest::RequestBuilder) -> Self {
        let answer: Response = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { body: Box::pin(answer.bytes_stream()), text: String::new() }
    }

    /// The next event; nothing at the end.
    async fn next(&mut self) -> Option<Event> {
        let deadline = Duration::from_secs(10);
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let lines =
                        event.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                    lines.map(|value| value.trim_start().to_owned()).collect::<String>()
                };
                let parsed = (field("id"), field("event"), field("data"));
                self.text = rest.to_owned();
                if !parsed.2.is_empty() {
                    return Some(parsed);
                }
                continue;
            }
            let chunk = tokio::time::timeout(deadline, self.body.next()).await.expect("an event");
            self.text.push_str(std::str::from_utf8(&chunk?.unwrap()).unwrap());
        }
    }
}

#[tokio::test]
async fn a_builds_output_is_followed_to_its_end() {
    let api = Api::start().await;
    let build =
        api.store.create_build(api.app.id, "abc", api.build.source, None, &by()).await.unwrap();
    let path = format!("/v1/apps/hello/builds/{}/log", build.id);
    let line = |text: &str| vec![text.to_owned()];
    api.store.append_build_log(build.id, &line("one"), 1).await.unwrap();
    let mut events =
        Events::open(api.request("viewer", "GET", &format!("{path}?follow=true"))).await;
    let (id, _, data) = events.next().await.unwrap();
    assert_eq!((id.as_str(), data.as_str()), ("1", r#"{"number":1,"line":"one"}"#));
    api.store.append_build_log(build.id, &line("two"), 2).await.unwrap();
    assert_eq!(events.next().await.unwrap().0, "2");
    api.store.finish_build(build.id, BuildEnd::Failed("no"), &by()).await.unwrap();
    // Lines come after the end of the build, until it is closed.
    api.store.append_build_log(build.id, &line("three"), 3).await.unwrap();
    assert_eq!(events.next().await.unwrap().0, "3");
    api.store.close_build(build.id).await.unwrap();
    let (_, name, data) = events.next().await.unwrap();
    assert_eq!(name, "end");
    assert!(data.contains(r#""state":"failed""#), "{data}");
    assert_eq!(events.next().await, None);

    // From where the client was, and by the header that browsers send.
    let request = api.request("viewer", "GET", &path).header("accept", "text/event-stream");
    let mut events = Events::open(request.header("last-event-id", "1")).await;
    assert_eq!(events.next().await.unwrap().0, "2");
    assert_eq!(events.next().await.unwrap().0, "3");
    assert_eq!(events.next().await.unwrap().1, "end");
    let text =
        api.request("viewer", "GET", &path).header("accept", "text/plain").send().await.unwrap();
    assert_eq!(text.text().await.unwrap(), "one\ntwo\nthree\n");
}

#[tokio::test]
async fn events_are_followed_from_any_position_without_a_gap() {
    let api = Api::start().await;
    let newest = api.store.newest_event().await.unwrap();
    let mut events = Events::open(api.request("viewer", "GET", "/v1/events?follow=true")).await;
    api.store.change(Some(api.app.id), &Change::Stop, None, &by()).await.unwrap();
    let (id, name, _) = events.next().await.unwrap();
    assert_eq!((id, name.as_str()), ((newest + 1).to_string(), "app.stopped"));
    drop(events);
    api.store.change(Some(api.app.id), &Change::Start, None, &by()).await.unwrap();
    let request = api.request("viewer", "GET", "/v1/events").header("accept", "text/event-stream");
    let mut events = Events::open(request.header("last-event-id", newest.to_string())).await;
    assert_eq!(events.next().await.unwrap().1, "app.stopped");
    assert_eq!(events.next().await.unwrap().1, "app.started");

    let mut other =
        Events::open(api.request("other", "GET", "/v1/events?follow=true&after=0")).await;
    assert_eq!(other.next().await.unwrap().1, "team.created");
}

#[tokio::test]
async fn a_deployment_is_followed_to_its_end_and_waited_for() {
    let api = Api::start().await;
    let back = Change::Rollback { to: Some(1) };
    let done = api.store.change(Some(api.app.id), &back, None, &by()).await.unwrap();
    let id = done.deployment.unwrap().id;
    let path = format!("/v1/apps/hello/deployments/{id}");
    let request = api.request("viewer", "GET", &path).header("accept", "text/event-stream");
    let mut events = Events::open(request).await;
    assert!(events.next().await.unwrap().2.contains(r#""state":"queued""#));
    let waiting = tokio::spawn(api.request("viewer", "GET", &format!("{path}?wait=true")).send());
    api.store.switch_deployment(id, &by()).await.unwrap();
    assert!(events.next().await.unwrap().2.contains(r#""state":"switching""#));
    let monitoring = DeploymentState::Monitoring;
    api.store.advance_deployment(id, monitoring, &by()).await.unwrap();
    let answer: serde_json::Value = waiting.await.unwrap().unwrap().json().await.unwrap();
    assert_eq!(answer["switched"], true);
    assert!(events.next().await.unwrap().2.contains(r#""state":"monitoring""#));
    api.store.finish_deployment(id, DeploymentState::Done, None, &by()).await.unwrap();
    assert!(events.next().await.unwrap().2.contains(r#""finished":true"#));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_log_is_given_as_lines_and_as_events_with_the_filters_that_were_asked() {
    let api = Api::start().await;
    let page = api.must("viewer", "GET", "/v1/apps/hello/log?lines=5&process=web", None).await;
    assert_eq!(page["items"][1]["line"], "line 2");
    assert_eq!(page["items"][1]["source"], "web.1");
    let seen = format!("{}:7", api.instance.id);
    let request = api.request("viewer", "GET", "/v1/apps/hello/log?follow=true");
    let mut events = Events::open(request.header("last-event-id", &seen)).await;
    let (id, _, data) = events.next().await.unwrap();
    assert_eq!(id, format!("{}:1", api.instance.id));
    assert!(data.contains("line 1"), "{data}");
    let asked = api.rooms.asked.lock().unwrap().join("\n");
    assert!(asked.contains("lines: 5, follow: false"), "{asked}");
    assert!(asked.contains(&format!("after: Some(({}, 7))", api.instance.id)), "{asked}");
}

#[tokio::test]
async fn streams_end_with_their_token_and_another_tokens_go_on() {
    let api = Api::start().await;
    let build =
        api.store.create_build(api.app.id, "abc", api.build.source, None, &by()).await.unwrap();
    let (id, secret) = new_token(&api.store, "leaver", api.app.team, Role::Viewer).await;
    let newest = api.store.newest_event().await.unwrap();
    let events = format!("/v1/events?follow=true&after={newest}");
    let log = format!("/v1/apps/hello/builds/{}/log?follow=true", build.id);
    let open = async |path: &str| {
        Events::open(api.request("nobody", "GET", path).bearer_auth(&secret)).await
    };
    let (mut revoked, mut revoked_log) = (open(&events).await, open(&log).await);
    let mut other = Events::open(api.request("viewer", "GET", &events)).await;
    let mut other_log = Events::open(api.request("viewer", "GET", &log)).await;
    api.store.change(Some(api.app.id), &Change::Stop, None, &by()).await.unwrap();
    assert_eq!(revoked.next().await.unwrap().1, "app.stopped");

    api.must("owner", "DELETE", &format!("/v1/tokens/{id}"), None).await;
    while let Some((_, name, _)) = revoked.next().await {
        assert_eq!(name, "token.revoked");
    }
    assert_eq!(revoked_log.next().await, None);
    assert_eq!(other.next().await.unwrap().1, "app.stopped");
    assert_eq!(other.next().await.unwrap().1, "token.revoked");
    api.store.append_build_log(build.id, &["one".to_owned()], 1).await.unwrap();
    assert_eq!(other_log.next().await.unwrap().0, "1");
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires_or_is_replaced() {
    let api = Api::start().await;
    let new = NewToken {
        expires_at_ms: Some(NOW_MS + 500),
        ..NewToken::of_team("short", api.app.team, Role::Viewer)
    };
    let (_, short) = api.store.create_token(&new, &by()).await.unwrap();
    let open = async |token: &str| {
        let request = api.request("nobody", "GET", "/v1/events?follow=true");
        Events::open(request.bearer_auth(token)).await
    };
    assert_eq!(open(&short).await.next().await, None);

    // As when root sets a new token of the machine's administrator.
    let mut replaced = open(&api.tokens["admin"]).await;
    api.store.adopt_admin_token(&"0".repeat(64), NOW_MS).await.unwrap();
    while let Some((_, name, _)) = replaced.next().await {
        assert_eq!(name, "token.created");
    }
}
