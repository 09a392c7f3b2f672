//! Alerts: rules over what is measured.

use axum::Json;
use axum::http::{HeaderName, StatusCode, header};
use berth_api::{AlertView, CreateAlert, Page, Timestamp};
use berth_model::alert::{ALERTS_MAX, ALERTS_OF_APP_MAX, Alert, Comparison, FOR_MS_MAX};
use berth_model::principal::Verb;
use berth_model::{AlertId, App};
use berth_store::NewAlert;

use super::call::Call;
use super::document::Problems;
use super::extract::{Json as Body, Path, Query, field};
use super::page::AppPageQuery;
use super::problem::ApiError;
use crate::measures::measure_names;

/// The alerts of the team's apps, newest first; an administrator's list has those of every team and
/// of the machine.
#[utoipa::path(get, path = "/v1/alerts", tag = "measures", params(AppPageQuery),
    responses((status = 200, body = Page<AlertView>), Problems))]
pub(super) async fn list_alerts(
    call: Call,
    Query(query): Query<AppPageQuery>,
) -> Result<Json<Page<AlertView>>, ApiError> {
    let app = query.app(&call).await?;
    let visible = call.listed(Verb::Read)?;
    let wanted = query.wanted()?;
    let rows = call
        .store()
        .alerts(visible, app.map(|app| app.id), wanted.after_as()?, wanted.limit_and_one())
        .await?;
    let page = wanted.page(rows, |alert| alert.id.to_string());
    let mut items = Vec::with_capacity(page.items.len());
    for alert in page.items {
        let app = app_of(&call, &alert).await?;
        items.push(view(alert, app.as_ref()));
    }
    Ok(Json(Page { items, next_page_token: page.next_page_token }))
}

/// Make an alert. Only an administrator makes one of the machine.
#[utoipa::path(post, path = "/v1/alerts", tag = "measures", request_body = CreateAlert,
    responses((status = 201, body = AlertView), Problems))]
pub(super) async fn create_alert(
    call: Call,
    Body(body): Body<CreateAlert>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<AlertView>), ApiError> {
    let app = match &body.app {
        Some(name) => Some(call.app(name, Verb::Change).await?),
        None => {
            call.may_platform(Verb::ManagePlatform)?;
            None
        }
    };
    let known: Vec<&str> = measure_names(app.is_some()).collect();
    if !known.contains(&body.measure.as_str()) {
        let of = if app.is_some() { "apps" } else { "the machine" };
        let detail = format!("there is no such measure of {of}; these are: {}", known.join(", "));
        return Err(ApiError::invalid("/measure", detail));
    }
    let comparison: Comparison = field("/comparison", &body.comparison)?;
    if !body.value.is_finite() {
        return Err(ApiError::invalid("/value", "use a number"));
    }
    let for_ms = i64::from(body.for_s.unwrap_or(0)) * 1000;
    if for_ms > FOR_MS_MAX {
        return Err(ApiError::invalid("/for_s", "86400 at most"));
    }
    let app_id = app.as_ref().map(|app| app.id);
    let new =
        NewAlert { app: app_id, measure: body.measure, comparison, value: body.value, for_ms };
    let alert = call.store().create_alert(&new, &call.by()).await?.ok_or_else(|| {
        ApiError::conflict(format!(
            "there are {ALERTS_OF_APP_MAX} alerts of this app already, or {ALERTS_MAX} in all; \
             remove one"
        ))
    })?;
    let location = format!("/v1/alerts/{}", alert.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(view(alert, app.as_ref()))))
}

/// Remove an alert. Where it is raised, nothing is told any more.
#[utoipa::path(delete, path = "/v1/alerts/{alert}", tag = "measures",
    params(("alert" = String, Path)),
    responses((status = 204, description = "It tells nothing any more."), Problems))]
pub(super) async fn remove_alert(
    call: Call,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let absent = || ApiError::not_found("alert", &id);
    let parsed: AlertId = id.parse().map_err(|_| absent())?;
    let alert = call.store().alert(parsed).await?.ok_or_else(absent)?;
    match app_of(&call, &alert).await? {
        Some(app) => call.may_app(Verb::Change, &app, absent)?,
        // What is of the machine is no team's.
        None if call.caller.sees_all() => call.may_platform(Verb::ManagePlatform)?,
        None => return Err(absent()),
    }
    call.store().remove_alert(alert.id, &call.by()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn app_of(call: &Call, alert: &Alert) -> Result<Option<App>, ApiError> {
    match alert.app {
        Some(id) => Ok(call.store().app(id).await?),
        None => Ok(None),
    }
}

fn view(alert: Alert, app: Option<&App>) -> AlertView {
    AlertView {
        id: alert.id.to_string(),
        app: app.map(|app| app.name.to_string()),
        measure: alert.measure,
        comparison: alert.comparison.as_str().to_owned(),
        value: alert.value,
        for_s: u32::try_from(alert.for_ms / 1000).unwrap_or(0),
        created_at: Timestamp(alert.created_at_ms),
        raised_at: alert.raised_at_ms.map(Timestamp),
    }
}
