//! Releases, and going back to one.

use axum::Json;
use axum::http::StatusCode;
use axum::response::Response;
use berth_api::{Difference, Page, ReleaseDiff, ReleaseView, Rollback, Timestamp};
use berth_model::plan::Change;
use berth_model::principal::Verb;
use berth_model::{App, Deployment, Event, Process, Release};

use super::call::Call;
use super::deployments;
use super::document::Problems;
use super::extract::{Expected, Json as Body, Path, Query};
use super::idempotency::{Once, Reply};
use super::page::PageQuery;
use super::problem::ApiError;

/// The app's releases, newest first.
#[utoipa::path(get, path = "/v1/apps/{app}/releases", tag = "releases", params(("app" = String, Path), PageQuery),
    responses((status = 200, body = Page<ReleaseView>), Problems))]
pub(super) async fn list_releases(
    call: Call,
    Path(app): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<ReleaseView>>, ApiError> {
    let app = call.app(&app, Verb::Read).await?;
    let wanted = query.wanted()?;
    let before = wanted.after_as()?;
    let rows = call.store().releases(app.id, before, wanted.limit_and_one()).await?;
    let page = wanted.page(rows, |release| release.number.to_string());
    let mut items = Vec::with_capacity(page.items.len());
    for release in page.items {
        items.push(view(&call, &app, release).await?);
    }
    Ok(Json(Page { items, next_page_token: page.next_page_token }))
}

/// A release by its number.
#[utoipa::path(get, path = "/v1/apps/{app}/releases/{number}", tag = "releases",
    params(("app" = String, Path), ("number" = u64, Path)), responses((status = 200, body = ReleaseView), Problems))]
pub(super) async fn show_release(
    call: Call,
    Path((app, number)): Path<(String, String)>,
) -> Result<Json<ReleaseView>, ApiError> {
    let app = call.app(&app, Verb::Read).await?;
    let release = find(&call, &app, &number).await?;
    Ok(Json(view(&call, &app, release).await?))
}

/// What differs between two releases. Values of the configuration are not shown.
#[utoipa::path(get, path = "/v1/apps/{app}/releases/{number}/diff/{other}", tag = "releases",
    params(("app" = String, Path), ("number" = u64, Path), ("other" = u64, Path)),
    responses((status = 200, body = ReleaseDiff), Problems))]
pub(super) async fn diff_releases(
    call: Call,
    Path((app, number, other)): Path<(String, String, String)>,
) -> Result<Json<ReleaseDiff>, ApiError> {
    let app = call.app(&app, Verb::Read).await?;
    let from = find(&call, &app, &number).await?;
    let to = find(&call, &app, &other).await?;
    let mut changes = Vec::new();
    let mut differ = |what: String, from: Option<String>, to: Option<String>| {
        if from != to {
            changes.push(Difference { what, from, to });
        }
    };
    differ("commit".into(), Some(from.commit.clone()), Some(to.commit.clone()));
    differ("image".into(), Some(from.image.to_string()), Some(to.image.to_string()));
    let command = |process: &Process| process.command.join(" ");
    let (before, after) = (&from.manifest, &to.manifest);
    for name in union(before.processes.keys(), after.processes.keys()) {
        let (before, after) = (before.processes.get(name), after.processes.get(name));
        differ(format!("process {name}"), before.map(command), after.map(command));
    }
    differ(
        "release phase".into(),
        before.release.as_ref().map(command),
        after.release.as_ref().map(command),
    );
    let before = call.store().config_of(app.id, from.config_version).await?;
    let after = call.store().config_of(app.id, to.config_version).await?;
    for name in union(before.keys(), after.keys()) {
        let (old, new) = (before.get(name), after.get(name));
        let another = old.is_some() && new.is_some() && old != new;
        let new_text = if another { "(another value)" } else { "(set)" };
        differ(
            format!("config {name}"),
            old.map(|_| "(set)".to_owned()),
            new.map(|_| new_text.to_owned()),
        );
    }
    Ok(Json(ReleaseDiff { from: from.number, to: to.number, changes }))
}

fn union<'a, T: Ord>(
    one: impl Iterator<Item = &'a T>,
    other: impl Iterator<Item = &'a T>,
) -> std::collections::BTreeSet<&'a T> {
    one.chain(other).collect()
}

/// Deploy an earlier release again, with its image and its configuration. `Idempotency-Key` makes
/// it safe to send twice.
#[utoipa::path(post, path = "/v1/apps/{app}/rollback", tag = "releases",
    params(("app" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = Rollback, responses((status = 202, body = berth_api::DeploymentView), Problems))]
pub(super) async fn rollback(
    call: Call,
    Path(app): Path<String>,
    once: Once,
    Expected(expected): Expected,
    Body(body): Body<Rollback>,
) -> Result<Response, ApiError> {
    let call = once.mark(call);
    let app = call.app(&app, Verb::Deploy).await?;
    let reply = |deployment: &Deployment, number: u64| Reply {
        status: StatusCode::ACCEPTED,
        location: format!("/v1/apps/{}/deployments/{}", app.name, deployment.id),
        body: deployments::view(deployment, number),
    };
    let doing = async {
        let change = Change::Rollback { to: body.release };
        let done = call.change(&app, &change, expected).await?;
        let (Some(release), Some(deployment)) = (done.release, done.deployment) else {
            return Err(ApiError::conflict("there is nothing to go back to"));
        };
        Ok(reply(&deployment, release.number))
    };
    let again = async |event: Event| {
        let id = event.after["deployment"].as_str().unwrap_or_default().to_owned();
        let deployment = deployments::find(&call, &app, &id).await?;
        // It was cut off, perhaps before anybody was woken.
        call.actions().wake(app.id);
        let number = deployments::release_number(call.store(), &deployment).await?;
        Ok(reply(&deployment, number))
    };
    once.run(&call, &body, doing, again).await
}

async fn find(call: &Call, app: &App, number: &str) -> Result<Release, ApiError> {
    let absent = || ApiError::not_found("release", number);
    let parsed = number.parse().map_err(|_| absent())?;
    call.store().release_by_number(app.id, parsed).await?.ok_or_else(absent)
}

async fn view(call: &Call, app: &App, release: Release) -> Result<ReleaseView, ApiError> {
    let actor = call.store().principal_name(release.actor).await?;
    Ok(ReleaseView {
        id: release.id.to_string(),
        number: release.number,
        current: app.current_release == Some(release.id),
        image: release.image.to_string(),
        config_version: release.config_version,
        commit: release.commit,
        reason: release.reason,
        actor: actor.unwrap_or_default(),
        manifest: release.manifest,
        created_at: Timestamp(release.created_at_ms),
    })
}
