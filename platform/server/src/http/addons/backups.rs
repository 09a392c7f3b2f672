//! Backups of add-ons.

use axum::Json;
use axum::body::Body as Bytes;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_api::{BackupView, Page, RestoreAddon, Timestamp};
use berth_model::App;
use berth_model::principal::Verb;
use berth_store::Backup;
use tokio_util::io::ReaderStream;

use super::find;
use crate::http::call::Call;
use crate::http::document::Problems;
use crate::http::extract::{Json as Body, Path, Query, field};
use crate::http::page::PageQuery;
use crate::http::problem::ApiError;

/// The backups of an add-on, newest first.
#[utoipa::path(get, path = "/v1/addons/{addon}/backups", tag = "addons",
    params(("addon" = String, Path), PageQuery), responses((status = 200, body = Page<BackupView>), Problems))]
pub(crate) async fn list_backups(
    call: Call,
    Path(addon): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<BackupView>>, ApiError> {
    let app = find(&call, &addon, Verb::Read).await?;
    let wanted = query.wanted()?;
    let rows = call.store().backups(app.id).await?;
    // At most a few: the list is cut here.
    let rows = rows
        .into_iter()
        .filter(|row| wanted.after().is_none_or(|before| row.id.to_string().as_str() < before));
    let count = usize::try_from(wanted.limit_and_one()).unwrap_or(usize::MAX);
    Ok(Json(wanted.page(rows.take(count).map(|row| view(&row)).collect(), |row| row.id.clone())))
}

/// Back an add-on up. Answers when the backup is kept.
#[utoipa::path(post, path = "/v1/addons/{addon}/backups", tag = "addons",
    params(("addon" = String, Path)), responses((status = 201, body = BackupView), Problems))]
pub(crate) async fn create_backup(
    call: Call,
    Path(addon): Path<String>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<BackupView>), ApiError> {
    let app = find(&call, &addon, Verb::Run).await?;
    let name = app.name.clone();
    let made = call.actions().addons().backup(app, call.by()).await?;
    let location = [(header::LOCATION, format!("/v1/addons/{name}/backups/{}", made.id))];
    Ok((StatusCode::CREATED, location, Json(view(&made))))
}

/// What a backup holds.
#[utoipa::path(get, path = "/v1/addons/{addon}/backups/{backup}/content", tag = "addons",
    params(("addon" = String, Path), ("backup" = String, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), Problems))]
pub(crate) async fn download_backup(
    call: Call,
    Path((addon, backup)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    // It holds what the add-on holds.
    let app = find(&call, &addon, Verb::ReadConfig).await?;
    let backup = own(&call, &app, &backup).await?;
    let length = backup.bytes.to_string();
    let file = call.actions().addons().open(backup).await?;
    let body = Bytes::from_stream(ReaderStream::new(tokio::fs::File::from_std(file)));
    let kind = "application/octet-stream".to_owned();
    Ok(([(header::CONTENT_TYPE, kind), (header::CONTENT_LENGTH, length)], body).into_response())
}

/// Remove a backup.
#[utoipa::path(delete, path = "/v1/addons/{addon}/backups/{backup}", tag = "addons",
    params(("addon" = String, Path), ("backup" = String, Path)),
    responses((status = 204, description = "It is gone."), Problems))]
pub(crate) async fn remove_backup(
    call: Call,
    Path((addon, backup)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let app = find(&call, &addon, Verb::DestroyApp).await?;
    let backup = own(&call, &app, &backup).await?;
    call.store().remove_backup(&backup, &call.by()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Put what a backup holds in place of what the add-on holds.
#[utoipa::path(post, path = "/v1/addons/{addon}/restore", tag = "addons",
    params(("addon" = String, Path)), request_body = RestoreAddon,
    responses((status = 204, description = "The add-on holds what the backup held."), Problems))]
pub(crate) async fn restore_addon(
    call: Call,
    Path(addon): Path<String>,
    Body(body): Body<RestoreAddon>,
) -> Result<StatusCode, ApiError> {
    // What it holds now is lost.
    let app = find(&call, &addon, Verb::DestroyApp).await?;
    let absent = || ApiError::not_found("backup", &body.backup);
    let id = field("/backup", &body.backup)?;
    let backup = call.store().backup(id).await?.ok_or_else(absent)?;
    // That of another add-on is read by who may read that one.
    let source = call.store().app(backup.app).await?.ok_or_else(absent)?;
    find(&call, source.name.as_str(), Verb::ReadConfig).await.map_err(|_| absent())?;
    call.actions().addons().restore(app, backup, call.by()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn own(call: &Call, app: &App, id: &str) -> Result<Backup, ApiError> {
    let absent = || ApiError::not_found("backup", id);
    let parsed = id.parse().map_err(|_| absent())?;
    let found = call.store().backup(parsed).await?;
    found.filter(|backup| backup.app == app.id).ok_or_else(absent)
}

fn view(row: &Backup) -> BackupView {
    BackupView {
        id: row.id.to_string(),
        kind: row.extension.to_string(),
        digest: row.digest.to_string(),
        bytes: row.bytes,
        created_at: Timestamp(row.created_at_ms),
    }
}
