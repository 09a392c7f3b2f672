//! Builds and their output.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_api::{BuildLogLine, BuildView, Page, Timestamp};
use berth_model::principal::Verb;
use berth_model::{App, Build, BuildId, Event};
use berth_store::Store;
use futures_util::stream;
use serde::Deserialize;
use utoipa::IntoParams;

use super::call::Call;
use super::deployments;
use super::document::Problems;
use super::extract::{Path, Query};
use super::idempotency::{Once, Reply};
use super::page::{self, PageQuery};
use super::problem::ApiError;
use super::stream::{StreamHeaders, event, respond};

/// Lines that are read at once.
const LINES_AT_ONCE: u32 = 200;

/// The app's builds, newest first.
#[utoipa::path(get, path = "/v1/apps/{app}/builds", tag = "builds", params(("app" = String, Path), PageQuery),
    responses((status = 200, body = Page<BuildView>), Problems))]
pub(super) async fn list_builds(
    call: Call,
    Path(app): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<BuildView>>, ApiError> {
    let app = call.app(&app, Verb::Read).await?;
    let wanted = query.wanted()?;
    let before = wanted.after_as()?;
    let rows = call.store().builds(app.id, before, wanted.limit_and_one()).await?;
    let page = wanted.page(rows, |build| build.id.to_string());
    let mut items = Vec::with_capacity(page.items.len());
    for build in &page.items {
        items.push(view(call.store(), build).await?);
    }
    Ok(Json(Page { items, next_page_token: page.next_page_token }))
}

/// Build the newest commit of the deploy branch again, and deploy it. `Idempotency-Key` makes it
/// safe to send twice.
#[utoipa::path(post, path = "/v1/apps/{app}/builds", tag = "builds",
    params(("app" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 202, body = BuildView), Problems))]
pub(super) async fn create_build(
    call: Call,
    Path(app): Path<String>,
    once: Once,
) -> Result<Response, ApiError> {
    let call = once.mark(call);
    let app = call.app(&app, Verb::Deploy).await?;
    // A task of its own, with the key's turn in it: a client that goes away must not let a second
    // try begin while the first goes on.
    let done = tokio::spawn(rebuild(call, app, once)).await;
    done.map_err(|error| ApiError::unavailable(format!("the build was not begun: {error}")))?
}

async fn rebuild(call: Call, app: App, once: Once) -> Result<Response, ApiError> {
    let reply = async |build: Build| {
        Ok(Reply {
            status: StatusCode::ACCEPTED,
            location: format!("/v1/apps/{}/builds/{}", app.name, build.id),
            body: view(call.store(), &build).await?,
        })
    };
    let doing = async { reply(call.actions().rebuild(app.clone(), call.by()).await?).await };
    let again = async |event: Event| reply(find(&call, &app, &event.subject).await?).await;
    once.run(&call, &(), doing, again).await
}

/// A build.
#[utoipa::path(get, path = "/v1/apps/{app}/builds/{build}", tag = "builds",
    params(("app" = String, Path), ("build" = String, Path)), responses((status = 200, body = BuildView), Problems))]
pub(super) async fn show_build(
    call: Call,
    Path((app, build)): Path<(String, String)>,
) -> Result<Json<BuildView>, ApiError> {
    let app = call.app(&app, Verb::Read).await?;
    Ok(Json(view(call.store(), &find(&call, &app, &build).await?).await?))
}

/// Cancel a running build. Answers when it has ended; one that ended already stays as it is.
#[utoipa::path(post, path = "/v1/apps/{app}/builds/{build}/cancel", tag = "builds",
    params(("app" = String, Path), ("build" = String, Path)), responses((status = 200, body = BuildView), Problems))]
pub(super) async fn cancel_build(
    call: Call,
    Path((app, build)): Path<(String, String)>,
) -> Result<Json<BuildView>, ApiError> {
    let app = call.app(&app, Verb::Deploy).await?;
    let found = find(&call, &app, &build).await?;
    if !found.state.is_terminal() {
        call.actions().cancel_build(found.id).await?;
    }
    Ok(Json(view(call.store(), &find(&call, &app, &build).await?).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogQuery {
    /// Most entries; 50 when absent, 200 at most.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// `next_page_token` of the page before.
    page_token: Option<String>,
    /// Events with every line until the build ends, as with `Accept: text/event-stream`.
    #[serde(default)]
    follow: bool,
}

/// A build's output with that of its deployment up to the switch: a page of lines; or server-sent
/// events, whose ids are the lines' numbers, and which end with an event `end` that has the build. `Accept: text/plain` gives it as text.
#[utoipa::path(get, path = "/v1/apps/{app}/builds/{build}/log", tag = "builds",
    params(("app" = String, Path), ("build" = String, Path), LogQuery),
    responses(
        (status = 200, content(
            (Page<BuildLogLine> = "application/json"), (String = "text/event-stream"), (String = "text/plain"),
        )),
        Problems,
    ))]
pub(super) async fn build_log(
    call: Call,
    Path((app, build)): Path<(String, String)>,
    Query(query): Query<LogQuery>,
    headers: StreamHeaders,
) -> Result<Response, ApiError> {
    let app = call.app(&app, Verb::Read).await?;
    let build = find(&call, &app, &build).await?;
    if query.follow || headers.wants_events {
        let seen = headers.last_id.and_then(|id| id.parse().ok()).unwrap_or(0);
        let follow = Follow { store: call.store().clone(), build: build.id, seen };
        return Ok(respond(call.place()?, follow.events()));
    }
    if headers.wants_text {
        let text = whole(call.store(), build.id).await?;
        return Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response());
    }
    let wanted = PageQuery::new(query.limit, query.page_token).wanted()?;
    let after = wanted.after_as()?.unwrap_or(0);
    let rows = call.store().build_log(build.id, after, wanted.limit_and_one()).await?;
    let page = wanted.page(rows, |line| line.seq.to_string());
    Ok(Json(page::map(page, line_view)).into_response())
}

fn line_view(line: berth_store::LogLine) -> BuildLogLine {
    BuildLogLine { number: line.seq, line: line.line }
}

/// All of the output; the store bounds it.
async fn whole(store: &Store, build: BuildId) -> Result<String, ApiError> {
    let (mut text, mut seen) = (String::new(), 0);
    loop {
        let lines = store.build_log(build, seen, LINES_AT_ONCE).await?;
        let Some(last) = lines.last() else { return Ok(text) };
        seen = last.seq;
        for line in &lines {
            text.push_str(&line.line);
            text.push('\n');
        }
    }
}

/// Reads lines as they are written.
struct Follow {
    store: Store,
    build: BuildId,
    seen: u64,
}

impl Follow {
    fn events(self) -> impl futures_util::Stream<Item = axum::response::sse::Event> + Send {
        let changed = self.store.watch_build_logs();
        let state = Some((self, changed, Vec::new().into_iter()));
        stream::unfold(state, |state| async move {
            let (mut follow, mut changed, mut lines) = state?;
            loop {
                if let Some(line) = lines.next() {
                    let line: berth_store::LogLine = line;
                    follow.seen = line.seq;
                    let event = event(Some(line.seq.to_string()), None, &line_view(line));
                    return Some((event, Some((follow, changed, lines))));
                }
                changed.mark_unchanged();
                // The build is read before the lines: one that is closed gets no more of them.
                let build = follow.store.build(follow.build).await.ok()??;
                let more = follow.store.build_log(follow.build, follow.seen, LINES_AT_ONCE);
                let more = more.await.ok()?;
                if more.is_empty() {
                    if build.state.is_terminal() && !build.open {
                        let last = view(&follow.store, &build).await.ok()?;
                        return Some((event(None, Some("end"), &last), None));
                    }
                    changed.changed().await.ok()?;
                }
                lines = more.into_iter();
            }
        })
    }
}

async fn find(call: &Call, app: &App, id: &str) -> Result<Build, ApiError> {
    let absent = || ApiError::not_found("build", id);
    let parsed: BuildId = id.parse().map_err(|_| absent())?;
    let build = call.store().build(parsed).await?;
    build.filter(|build| build.app == app.id).ok_or_else(absent)
}

async fn view(store: &Store, build: &Build) -> Result<BuildView, ApiError> {
    let deployment = match build.deployment {
        Some(id) => store.deployment(id).await?,
        None => None,
    };
    let deployment = match &deployment {
        Some(found) => {
            Some(deployments::view(found, deployments::release_number(store, found).await?))
        }
        None => None,
    };
    Ok(BuildView {
        id: build.id.to_string(),
        commit: build.commit.clone(),
        state: build.state.as_str().to_owned(),
        image: build.image.map(|digest| digest.to_string()),
        error: build.error.clone(),
        deployment,
        created_at: Timestamp(build.created_at_ms),
        finished_at: build.finished_at_ms.map(Timestamp),
    })
}
