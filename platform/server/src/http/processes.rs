//! Instances of an app's processes, and how many of them run.

use std::collections::BTreeMap;

use axum::Json;
use berth_api::{AppView, InstanceView, Page, Scale, Timestamp};
use berth_model::plan::Change;
use berth_model::principal::Verb;
use berth_model::{App, InstanceId, InstanceRecord, InstanceRole, ReleaseId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::actions::Live;
use super::apps;
use super::call::Call;
use super::document::Problems;
use super::extract::{Expected, Json as Body, Path, Query, escaped, field};
use super::page::PageQuery;
use super::problem::ApiError;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct InstancesQuery {
    /// Most entries; 50 when absent, 200 at most.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// `next_page_token` of the page before.
    page_token: Option<String>,
    /// Also those that are over, newest first.
    #[serde(default)]
    all: bool,
}

/// The app's instances: those that run, by name; with `all` every one, newest first. One-off
/// commands are a list of their own.
#[utoipa::path(get, path = "/v1/apps/{app}/instances", tag = "processes",
    params(("app" = String, Path), InstancesQuery), responses((status = 200, body = Page<InstanceView>), Problems))]
pub(super) async fn list_instances(
    call: Call,
    Path(app): Path<String>,
    Query(query): Query<InstancesQuery>,
) -> Result<Json<Page<InstanceView>>, ApiError> {
    let app = call.app(&app, Verb::Read).await?;
    let wanted = PageQuery::new(query.limit, query.page_token).wanted()?;
    let rows = if query.all {
        let before = wanted.after_as()?;
        call.store().instances(app.id, false, before, wanted.limit_and_one()).await?
    } else {
        let mut rows = call.store().live_instances(app.id).await?;
        rows.retain(|row| row.role == InstanceRole::Instance && !row.state.is_terminal());
        // As many as run at once: the list is cut here, by name.
        if let Some(after) = wanted.after() {
            rows.retain(|row| *key(row) > *after);
        }
        rows.sort_by_key(key);
        rows
    };
    let page = wanted.page(rows, |row| if query.all { row.id.to_string() } else { key(row) });
    Ok(Json(views(&call, &app, page).await?))
}

/// Sorts by process, then by slot, then by age.
fn key(row: &InstanceRecord) -> String {
    format!("{} {:05} {}", row.process, row.slot, row.id)
}

/// Instances as the API shows them.
pub(super) async fn views(
    call: &Call,
    app: &App,
    page: Page<InstanceRecord>,
) -> Result<Page<InstanceView>, ApiError> {
    let live = if page.items.iter().any(|row| !row.state.is_terminal()) {
        call.actions().live(app.id).await?
    } else {
        BTreeMap::new()
    };
    let mut releases = BTreeMap::new();
    let mut items = Vec::with_capacity(page.items.len());
    for row in &page.items {
        let release = match releases.get(&row.release) {
            Some(number) => *number,
            None => release_number(call, row.release, &mut releases).await?,
        };
        items.push(view(row, release, live.get(&row.id)));
    }
    Ok(Page { items, next_page_token: page.next_page_token })
}

async fn release_number(
    call: &Call,
    id: ReleaseId,
    known: &mut BTreeMap<ReleaseId, u64>,
) -> Result<u64, ApiError> {
    let number = call.store().release(id).await?.map_or(0, |release| release.number);
    known.insert(id, number);
    Ok(number)
}

fn view(row: &InstanceRecord, release: u64, live: Option<&Live>) -> InstanceView {
    InstanceView {
        id: row.id.to_string(),
        name: row.label(),
        process: row.process.to_string(),
        role: row.role.as_str().to_owned(),
        state: row.state.as_str().to_owned(),
        release,
        attempt: live.map_or(row.answering.unwrap_or(0), |live| live.attempt),
        exit_code: row.exit_code,
        error: row.error.clone(),
        memory_bytes: live.and_then(|live| live.memory_bytes),
        created_at: Timestamp(row.created_at_ms),
    }
}

/// An instance of an app by its id, if it is of that app.
pub(super) async fn instance_of(
    call: &Call,
    app: &App,
    id: &str,
) -> Result<InstanceRecord, ApiError> {
    let absent = || ApiError::not_found("instance", id);
    let parsed: InstanceId = id.parse().map_err(|_| absent())?;
    let row = call.store().instance(parsed).await?;
    row.filter(|row| row.app == app.id).ok_or_else(absent)
}

/// Change how many instances run. Answers when they do, or when it failed.
#[utoipa::path(put, path = "/v1/apps/{app}/scale", tag = "processes", params(("app" = String, Path)),
    request_body = Scale, responses((status = 200, body = AppView), Problems))]
pub(super) async fn scale(
    call: Call,
    Path(app): Path<String>,
    Expected(expected): Expected,
    Body(body): Body<Scale>,
) -> Result<Json<AppView>, ApiError> {
    let app = call.app(&app, Verb::Change).await?;
    change_and_settle(&call, &app, &Change::Scale(counts(&body.processes)?), expected).await
}

/// Processes by name.
pub(super) fn counts(
    processes: &BTreeMap<String, u16>,
) -> Result<BTreeMap<berth_model::ProcessName, u16>, ApiError> {
    processes
        .iter()
        .map(|(name, count)| {
            let pointer = format!("/processes/{}", escaped(name));
            Ok((field(&pointer, name)?, *count))
        })
        .collect()
}

/// Replace every instance by a new one, without downtime. Answers when they run, or when it failed.
#[utoipa::path(post, path = "/v1/apps/{app}/restart", tag = "processes", params(("app" = String, Path)),
    responses((status = 200, body = AppView), Problems))]
pub(super) async fn restart(
    call: Call,
    Path(app): Path<String>,
    Expected(expected): Expected,
) -> Result<Json<AppView>, ApiError> {
    let app = call.app(&app, Verb::Change).await?;
    change_and_settle(&call, &app, &Change::Restart, expected).await
}

/// Stop every instance until the app is started. Answers when they are gone.
#[utoipa::path(post, path = "/v1/apps/{app}/stop", tag = "processes", params(("app" = String, Path)),
    responses((status = 200, body = AppView), Problems))]
pub(super) async fn stop(
    call: Call,
    Path(app): Path<String>,
    Expected(expected): Expected,
) -> Result<Json<AppView>, ApiError> {
    let app = call.app(&app, Verb::Change).await?;
    change_and_settle(&call, &app, &Change::Stop, expected).await
}

/// Start a stopped app. Answers when its instances run, or when it failed.
#[utoipa::path(post, path = "/v1/apps/{app}/start", tag = "processes", params(("app" = String, Path)),
    responses((status = 200, body = AppView), Problems))]
pub(super) async fn start(
    call: Call,
    Path(app): Path<String>,
    Expected(expected): Expected,
) -> Result<Json<AppView>, ApiError> {
    let app = call.app(&app, Verb::Change).await?;
    change_and_settle(&call, &app, &Change::Start, expected).await
}

async fn change_and_settle(
    call: &Call,
    app: &App,
    change: &Change,
    expected: Option<u64>,
) -> Result<Json<AppView>, ApiError> {
    let done = call.change(app, change, expected).await?;
    call.actions().settle(app.id).await?;
    // What happened while it was waited for is shown too.
    let app = call.store().app(app.id).await?.unwrap_or(done.app);
    Ok(Json(apps::view(call, &app).await?))
}
