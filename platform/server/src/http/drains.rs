//! Log drains.

use axum::Json;
use axum::http::{HeaderName, StatusCode, header};
use berth_api::{CreateDrain, DrainView, Page, Timestamp};
use berth_model::drain::{DRAINS_MAX, PROCESSORS_MAX, Reach, SinkUrl};
use berth_model::extension::{ExtensionId, Kind};
use berth_model::principal::{Resource, Verb};
use berth_model::{App, DrainId, Role};
use berth_store::{Drain, NewDrain};

use super::call::Call;
use super::document::Problems;
use super::extract::{Json as Body, Path, Query, field};
use super::page::AppPageQuery;
use super::problem::ApiError;
use crate::drains::{Judge, authorities};

/// The drains of the team's apps, newest first; an administrator's list has those of every team and
/// of every app.
#[utoipa::path(get, path = "/v1/drains", tag = "drains", params(AppPageQuery),
    responses((status = 200, body = Page<DrainView>), Problems))]
pub(super) async fn list_drains(
    call: Call,
    Query(query): Query<AppPageQuery>,
) -> Result<Json<Page<DrainView>>, ApiError> {
    let app = query.app(&call).await?;
    let visible = call.listed(Verb::Read)?;
    let wanted = query.wanted()?;
    let rows = call
        .store()
        .drains(visible, app.map(|app| app.id), wanted.after_as()?, wanted.limit_and_one())
        .await?;
    let page = wanted.page(rows, |drain| drain.id.to_string());
    let mut items = Vec::with_capacity(page.items.len());
    for drain in page.items {
        let app = app_of(&call, &drain).await?;
        items.push(view(&call, drain, app.as_ref()));
    }
    Ok(Json(Page { items, next_page_token: page.next_page_token }))
}

/// Make a drain. It sends lines from now on. Only an administrator makes one for every app, or one
/// that may reach addresses of private networks, unless the platform's configuration allows those.
#[utoipa::path(post, path = "/v1/drains", tag = "drains", request_body = CreateDrain,
    responses((status = 201, body = DrainView), Problems))]
pub(super) async fn create_drain(
    call: Call,
    Body(body): Body<CreateDrain>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<DrainView>), ApiError> {
    let app = match &body.app {
        Some(name) => Some(call.app(name, Verb::ManageDrains).await?),
        None => {
            let absent = || ApiError::not_found("platform", "");
            call.may(Verb::ManagePlatform, &Resource::Platform, absent)?;
            None
        }
    };
    let url: SinkUrl = field("/url", &body.url)?;
    let reach = match (call.caller.highest_role(), call.platform.private_drains) {
        (Some(Role::Admin), _) => Reach::Any,
        (_, true) => Reach::Private,
        (_, false) => Reach::Public,
    };
    if let Ok(address) = url.host().parse() {
        // What a name leads to is judged whenever a connection is made.
        let judged = Judge { reach, instances: None }.judge(address);
        judged.map_err(|reason| ApiError::invalid("/url", reason))?;
    }
    if let Some(pem) = &body.ca {
        if !url.kind().is_encrypted() {
            return Err(ApiError::invalid(
                "/ca",
                "only syslog+tls:// and https:// check certificates",
            ));
        }
        authorities(pem).map_err(|error| ApiError::invalid("/ca", error.to_string()))?;
    }
    let processors = processors(&call, &body.processors, app.as_ref()).await?;
    let app_id = app.as_ref().map(|app| app.id);
    let new = NewDrain { app: app_id, url, ca: body.ca, reach, processors };
    let drain = call.store().create_drain(&new, &call.by()).await?.ok_or_else(|| {
        ApiError::conflict(format!("there are {DRAINS_MAX} drains already; remove one"))
    })?;
    let location = format!("/v1/drains/{}", drain.id);
    let body = Json(view(&call, drain, app.as_ref()));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], body))
}

/// A drain, and how it does.
#[utoipa::path(get, path = "/v1/drains/{drain}", tag = "drains", params(("drain" = String, Path)),
    responses((status = 200, body = DrainView), Problems))]
pub(super) async fn show_drain(
    call: Call,
    Path(id): Path<String>,
) -> Result<Json<DrainView>, ApiError> {
    let (drain, app) = find(&call, &id, Verb::Read).await?;
    Ok(Json(view(&call, drain, app.as_ref())))
}

/// Remove a drain. Lines that it has not sent are not sent.
#[utoipa::path(delete, path = "/v1/drains/{drain}", tag = "drains", params(("drain" = String, Path)),
    responses((status = 204, description = "It sends nothing any more."), Problems))]
pub(super) async fn remove_drain(
    call: Call,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let (drain, _) = find(&call, &id, Verb::ManageDrains).await?;
    call.store().remove_drain(drain.id, &call.by()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Extensions that can be used for an app, or for every one.
async fn processors(
    call: &Call,
    names: &[String],
    app: Option<&App>,
) -> Result<Vec<ExtensionId>, ApiError> {
    if names.len() > PROCESSORS_MAX {
        let detail = format!("a drain has {PROCESSORS_MAX} processors at most");
        return Err(ApiError::invalid("/processors", detail));
    }
    let mut found = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let pointer = format!("/processors/{index}");
        let id: ExtensionId = field(&pointer, name)?;
        let wrong = |detail: String| Err(ApiError::invalid(pointer.clone(), detail));
        let Some(extension) = call.store().extension(&id).await? else {
            return wrong(format!("there is no extension {id}; `berth ext list` lists them"));
        };
        if extension.version.manifest.kind != Kind::LogProcessor {
            let kind = extension.version.manifest.kind;
            return wrong(format!("{id} is of the kind {kind}, and no log-processor"));
        }
        if !app.map_or(extension.apps.is_none(), |app| extension.is_for(app.id)) {
            return wrong(format!("{id} was not granted for the apps of this drain"));
        }
        found.push(id);
    }
    Ok(found)
}

async fn find(call: &Call, id: &str, verb: Verb) -> Result<(Drain, Option<App>), ApiError> {
    let absent = || ApiError::not_found("drain", id);
    let parsed: DrainId = id.parse().map_err(|_| absent())?;
    let drain = call.store().drain(parsed).await?.ok_or_else(absent)?;
    let app = app_of(call, &drain).await?;
    match &app {
        Some(app) => call.may_app(verb, app, absent)?,
        // What concerns every app is no team's.
        None if !call.caller.sees_all() => return Err(absent()),
        None if verb == Verb::Read => {}
        None => call.may_platform(Verb::ManagePlatform)?,
    }
    Ok((drain, app))
}

async fn app_of(call: &Call, drain: &Drain) -> Result<Option<App>, ApiError> {
    match drain.app {
        Some(id) => Ok(call.store().app(id).await?),
        None => Ok(None),
    }
}

fn view(call: &Call, drain: Drain, app: Option<&App>) -> DrainView {
    let state = call.actions().drain_state(drain.id).unwrap_or_default();
    let now_ns = u64::try_from(call.now_ms()).unwrap_or(0).saturating_mul(1_000_000);
    let oldest_ns = state.oldest_ns.filter(|_| state.waiting > 0);
    DrainView {
        id: drain.id.to_string(),
        app: app.map(|app| app.name.to_string()),
        url: drain.shown,
        processors: drain.processors.iter().map(ToString::to_string).collect(),
        private: drain.reach > Reach::Public,
        created_at: Timestamp(drain.created_at_ms),
        sent: drain.counts.sent,
        dropped: drain.counts.dropped,
        unprocessed: drain.counts.unprocessed,
        waiting: state.waiting,
        lag_ms: oldest_ns.map_or(0, |at| now_ns.saturating_sub(at) / 1_000_000),
        error: state.error,
        error_at: state.error_at_ms.map(Timestamp),
    }
}
