//! Volumes of an app.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{HeaderName, StatusCode, header};
use berth_api::{CreateVolume, Page, Timestamp, VolumeView};
use berth_model::plan::{Change, Effect, NewVolume};
use berth_model::principal::Verb;
use berth_model::volume::SIZE_MIB_DEFAULT;
use berth_model::{App, Volume};

use super::VolumeUse;
use super::call::Call;
use super::document::Problems;
use super::extract::{Expected, Json as Body, Path, Query, field};
use super::page::PageQuery;
use super::problem::ApiError;

/// The app's volumes by name, with what they hold.
#[utoipa::path(get, path = "/v1/apps/{app}/volumes", tag = "volumes",
    params(("app" = String, Path), PageQuery), responses((status = 200, body = Page<VolumeView>), Problems))]
pub(super) async fn list_volumes(
    call: Call,
    Path(app): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<VolumeView>>, ApiError> {
    let app = call.app(&app, Verb::Read).await?;
    let wanted = query.wanted()?;
    let volumes = call.store().volumes(app.id).await?;
    let uses = if volumes.iter().any(|volume| volume.made) {
        call.actions().volumes().await?
    } else {
        BTreeMap::new()
    };
    // At most a few: the list is cut here.
    let volumes = volumes
        .iter()
        .filter(|volume| wanted.after().is_none_or(|after| volume.name.as_str() > after))
        .map(|volume| view(&app, volume, uses.get(&volume.id)));
    let count = usize::try_from(wanted.limit_and_one()).unwrap_or(usize::MAX);
    Ok(Json(wanted.page(volumes.take(count).collect(), |volume| volume.name.clone())))
}

/// Make a volume. What runs of its process is stopped and begins anew with it, unless `no_restart`
/// is set: answers when it does, or when it failed.
#[utoipa::path(post, path = "/v1/apps/{app}/volumes", tag = "volumes", params(("app" = String, Path)),
    request_body = CreateVolume, responses((status = 201, body = VolumeView), Problems))]
pub(super) async fn create_volume(
    call: Call,
    Path(app): Path<String>,
    Expected(expected): Expected,
    Body(body): Body<CreateVolume>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<VolumeView>), ApiError> {
    let app = call.app(&app, Verb::Change).await?;
    let volume = NewVolume {
        name: field("/name", &body.name)?,
        process: field("/process", body.process.as_deref().unwrap_or("web"))?,
        path: field("/path", &body.path)?,
        size_mib: body.size_mib.unwrap_or(SIZE_MIB_DEFAULT),
    };
    let name = volume.name.clone();
    let change = Change::CreateVolume { volume, restart: !body.no_restart };
    let done = call.change(&app, &change, expected).await?;
    if done.plan.changes.contains(&Effect::Restart) {
        call.actions().settle(app.id).await?;
    }
    let volume = find(&call, &app, name.as_str()).await?;
    let location = format!("/v1/apps/{}/volumes/{name}", app.name);
    let body = Json(view(&app, &volume, None));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], body))
}

/// Remove a volume and what it holds. Refused while its process may run.
#[utoipa::path(delete, path = "/v1/apps/{app}/volumes/{volume}", tag = "volumes",
    params(("app" = String, Path), ("volume" = String, Path)),
    responses((status = 204, description = "It is gone, and what it held."), Problems))]
pub(super) async fn remove_volume(
    call: Call,
    Path((app, volume)): Path<(String, String)>,
    Expected(expected): Expected,
) -> Result<StatusCode, ApiError> {
    // What it holds is lost as what an app is.
    let app = call.app(&app, Verb::DestroyApp).await?;
    let volume = find(&call, &app, &volume).await?;
    call.change(&app, &Change::RemoveVolume(volume.name), expected).await?;
    call.actions().drop_volumes(app.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn find(call: &Call, app: &App, name: &str) -> Result<Volume, ApiError> {
    let volumes = call.store().volumes(app.id).await?;
    let found = volumes.into_iter().find(|volume| volume.name.as_str() == name);
    found.ok_or_else(|| ApiError::not_found("volume", name))
}

fn view(app: &App, volume: &Volume, found: Option<&VolumeUse>) -> VolumeView {
    VolumeView {
        id: volume.id.to_string(),
        name: volume.name.to_string(),
        app: app.name.to_string(),
        process: volume.process.to_string(),
        path: volume.path.to_string(),
        size_mib: volume.size_mib,
        used_bytes: found.map(|found| found.used_bytes),
        instance: found.and_then(|found| found.instance).map(|id| id.to_string()),
        created_at: Timestamp(volume.created_at_ms),
    }
}
