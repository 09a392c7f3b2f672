//! Deployments: how a release comes to run.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use berth_api::{DeploymentView, Page, Timestamp};
use berth_model::principal::Verb;
use berth_model::{App, Deployment, DeploymentId};
use berth_store::Store;
use futures_util::stream;
use serde::Deserialize;
use utoipa::IntoParams;

use super::call::Call;
use super::document::Problems;
use super::extract::{Path, Query};
use super::page::PageQuery;
use super::problem::ApiError;
use super::stream::{StreamHeaders, event, respond};

/// `wait=true` answers after this at the latest, so that a client can show that it goes on.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The app's deployments, newest first.
#[utoipa::path(get, path = "/v1/apps/{app}/deployments", tag = "releases", params(("app" = String, Path), PageQuery),
    responses((status = 200, body = Page<DeploymentView>), Problems))]
pub(super) async fn list_deployments(
    call: Call,
    Path(app): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<DeploymentView>>, ApiError> {
    let app = call.app(&app, Verb::Read).await?;
    let wanted = query.wanted()?;
    let before = wanted.after_as()?;
    let rows = call.store().deployments(app.id, before, wanted.limit_and_one()).await?;
    let page = wanted.page(rows, |deployment| deployment.id.to_string());
    let mut items = Vec::with_capacity(page.items.len());
    for deployment in &page.items {
        items.push(view(deployment, release_number(call.store(), deployment).await?));
    }
    Ok(Json(Page { items, next_page_token: page.next_page_token }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WaitQuery {
    /// Answer when the new release answers requests or the deployment has ended, but within two
    /// seconds in any case.
    #[serde(default)]
    wait: bool,
}

/// A deployment. `Accept: text/event-stream` gives an event for each state it comes to, and ends
/// with it.
#[utoipa::path(get, path = "/v1/apps/{app}/deployments/{deployment}", tag = "releases",
    params(("app" = String, Path), ("deployment" = String, Path), WaitQuery),
    responses(
        (status = 200, content((DeploymentView = "application/json"), (String = "text/event-stream"))),
        Problems,
    ))]
pub(super) async fn show_deployment(
    call: Call,
    Path((app, deployment)): Path<(String, String)>,
    Query(query): Query<WaitQuery>,
    headers: StreamHeaders,
) -> Result<Response, ApiError> {
    let app = call.app(&app, Verb::Read).await?;
    let mut found = find(&call, &app, &deployment).await?;
    let number = release_number(call.store(), &found).await?;
    if headers.wants_events {
        return Ok(respond(call.place()?, follow(call.store().clone(), found, number)));
    }
    if query.wait {
        let store = call.store();
        let over = tokio::time::timeout(WAIT_MAX, wait(store, found.clone())).await;
        found = match over {
            Ok(found) => found?,
            Err(_) => find(&call, &app, &deployment).await?,
        };
    }
    Ok(Json(view(&found, number)).into_response())
}

/// Waits until the new release answers requests, or nothing follows.
async fn wait(store: &Store, mut found: Deployment) -> Result<Deployment, ApiError> {
    let mut events = store.watch_events();
    loop {
        events.mark_unchanged();
        found = match store.deployment(found.id).await? {
            Some(found) => found,
            // Its app was destroyed.
            None => return Err(ApiError::not_found("deployment", &found.id.to_string())),
        };
        let closed = events.has_changed().is_err();
        if found.state.is_switched() || found.state.is_terminal() || closed {
            return Ok(found);
        }
        if events.changed().await.is_err() {
            return Ok(found);
        }
    }
}

/// An event for each state, beginning with the present one.
fn follow(
    store: Store,
    first: Deployment,
    number: u64,
) -> impl futures_util::Stream<Item = axum::response::sse::Event> + Send {
    let events = store.watch_events();
    let id = first.id;
    stream::unfold(Some((store, events, None)), move |state| async move {
        let (store, mut events, shown) = state?;
        loop {
            events.mark_unchanged();
            let found = store.deployment(id).await.ok()??;
            if shown != Some(found.state) {
                let item = event(None, Some("deployment"), &view(&found, number));
                let over = found.state.is_terminal();
                return Some((item, (!over).then_some((store, events, Some(found.state)))));
            }
            events.changed().await.ok()?;
        }
    })
}

pub(super) async fn find(call: &Call, app: &App, id: &str) -> Result<Deployment, ApiError> {
    let absent = || ApiError::not_found("deployment", id);
    let parsed: DeploymentId = id.parse().map_err(|_| absent())?;
    let deployment = call.store().deployment(parsed).await?;
    deployment.filter(|deployment| deployment.app == app.id).ok_or_else(absent)
}

pub(super) async fn release_number(
    store: &Store,
    deployment: &Deployment,
) -> Result<u64, ApiError> {
    Ok(store.release(deployment.release).await?.map_or(0, |release| release.number))
}

/// A deployment as the API shows it.
pub(super) fn view(deployment: &Deployment, release: u64) -> DeploymentView {
    DeploymentView {
        id: deployment.id.to_string(),
        release,
        state: deployment.state.as_str().to_owned(),
        finished: deployment.state.is_terminal(),
        switched: deployment.state.is_switched(),
        error: deployment.error.clone(),
        created_at: Timestamp(deployment.created_at_ms),
        finished_at: deployment.finished_at_ms.map(Timestamp),
    }
}
