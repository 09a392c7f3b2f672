//! What is decided of an extension that is installed.

use axum::Json;
use axum::http::StatusCode;
use berth_api::{
    ExtensionApps, ExtensionView, GrantExtension, ReplayEvents, Replayed, SetExtensionSecret,
};
use berth_model::extension::Capabilities;
use berth_model::principal::Verb;
use berth_store::Extension;
use serde_json::{Value, json};

use super::{apps, find, view};
use crate::extensions::Choice;
use crate::http::call::Call;
use crate::http::document::Problems;
use crate::http::extract::{Json as Body, Path};
use crate::http::problem::ApiError;

/// Longest value of a secret, bytes.
const SECRET_BYTES_MAX: usize = 64 * 1024;
/// Longest name of one.
const NAME_BYTES_MAX: usize = 63;

async fn shown(call: &Call, row: &Extension) -> Result<Json<ExtensionView>, ApiError> {
    Ok(Json(view::extension(row, view::apps(call, row).await?)))
}

/// Grant the version that waits what it asks for, and it runs; or, where none waits, take the place
/// of the grant with another one.
#[utoipa::path(post, path = "/v1/extensions/{extension}/grant", tag = "extensions",
    params(("extension" = String, Path)), request_body = GrantExtension,
    responses(
        (status = 200, body = ExtensionView),
        (status = 409, description = "Nobody said yes to what it asks for.",
         content_type = "application/problem+json", body = berth_api::NeedsApproval),
        Problems,
    ))]
pub(in crate::http) async fn grant_extension(
    call: Call,
    Path(id): Path<String>,
    Body(body): Body<GrantExtension>,
) -> Result<Json<ExtensionView>, ApiError> {
    let row = find(&call, &id).await?;
    let granted: Option<Capabilities> = body
        .granted
        .map(serde_json::from_value)
        .transpose()
        .map_err(|error| ApiError::invalid("/granted", error.to_string()))?;
    let choice = Choice { accept: body.accept, granted, ..Choice::default() };
    let row = call.actions().extensions().grant(row.id, choice, call.by()).await?;
    shown(&call, &row).await
}

/// Give an extension another configuration, which its schema must allow. The body is the
/// configuration as a whole.
#[utoipa::path(put, path = "/v1/extensions/{extension}/config", tag = "extensions",
    params(("extension" = String, Path)), request_body = Value,
    responses((status = 200, body = ExtensionView), Problems))]
pub(in crate::http) async fn configure_extension(
    call: Call,
    Path(id): Path<String>,
    Body(body): Body<Value>,
) -> Result<Json<ExtensionView>, ApiError> {
    let row = find(&call, &id).await?;
    let row = call.actions().extensions().configure(row.id, body, call.by()).await?;
    shown(&call, &row).await
}

/// Say which apps an extension is for.
#[utoipa::path(put, path = "/v1/extensions/{extension}/apps", tag = "extensions",
    params(("extension" = String, Path)), request_body = ExtensionApps,
    responses((status = 200, body = ExtensionView), Problems))]
pub(in crate::http) async fn set_extension_apps(
    call: Call,
    Path(id): Path<String>,
    Body(body): Body<ExtensionApps>,
) -> Result<Json<ExtensionView>, ApiError> {
    let row = find(&call, &id).await?;
    let ids = match &body.apps {
        Some(names) => Some(apps(&call, "/apps", names.iter().map(String::as_str)).await?),
        None => None,
    };
    let row = call.actions().extensions().set_apps(row.id, ids, call.by()).await?;
    shown(&call, &row).await
}

/// Set a secret that the extension's manifest names. Its value is never given back.
#[utoipa::path(put, path = "/v1/extensions/{extension}/secrets/{secret}", tag = "extensions",
    params(("extension" = String, Path), ("secret" = String, Path)),
    request_body = SetExtensionSecret,
    responses((status = 204, description = "It is set."), Problems))]
pub(in crate::http) async fn set_extension_secret(
    call: Call,
    Path((id, name)): Path<(String, String)>,
    Body(body): Body<SetExtensionSecret>,
) -> Result<StatusCode, ApiError> {
    let row = find(&call, &id).await?;
    if body.value.is_empty() || body.value.len() > SECRET_BYTES_MAX {
        let detail = format!("a secret has 1 to {SECRET_BYTES_MAX} bytes");
        return Err(ApiError::invalid("/value", detail));
    }
    let extensions = call.actions().extensions();
    extensions.set_secret(row.id, name, Some(body.value), call.by()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove a secret.
#[utoipa::path(delete, path = "/v1/extensions/{extension}/secrets/{secret}", tag = "extensions",
    params(("extension" = String, Path), ("secret" = String, Path)),
    responses((status = 204, description = "It has no value any more."), Problems))]
pub(in crate::http) async fn remove_extension_secret(
    call: Call,
    Path((id, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let row = find(&call, &id).await?;
    let set = call.store().extension_secret_names(&row.id).await?;
    if name.len() > NAME_BYTES_MAX || !set.contains(&name) {
        return Err(ApiError::not_found("secret", &name));
    }
    call.actions().extensions().set_secret(row.id, name, None, call.by()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Call an extension no more, until it is resumed.
#[utoipa::path(post, path = "/v1/extensions/{extension}/disable", tag = "extensions",
    params(("extension" = String, Path)),
    responses((status = 200, body = ExtensionView), Problems))]
pub(in crate::http) async fn disable_extension(
    call: Call,
    Path(id): Path<String>,
) -> Result<Json<ExtensionView>, ApiError> {
    let row = find(&call, &id).await?;
    let row = call.actions().extensions().disable(row.id, call.by()).await?;
    shown(&call, &row).await
}

/// Call no extension any more, for recovery: no extension is asked about it. Gives the names of
/// those that were called until now.
#[utoipa::path(post, path = "/v1/extensions/disable", tag = "extensions",
    responses((status = 200, body = Vec<String>), Problems))]
pub(in crate::http) async fn disable_extensions(call: Call) -> Result<Json<Vec<String>>, ApiError> {
    call.may_platform(Verb::ManagePlatform)?;
    let disabled = call.actions().extensions().disable_all(call.by()).await?;
    Ok(Json(disabled.iter().map(ToString::to_string).collect()))
}

/// Call an extension again, whatever it did before.
#[utoipa::path(post, path = "/v1/extensions/{extension}/resume", tag = "extensions",
    params(("extension" = String, Path)),
    responses((status = 200, body = ExtensionView), Problems))]
pub(in crate::http) async fn resume_extension(
    call: Call,
    Path(id): Path<String>,
) -> Result<Json<ExtensionView>, ApiError> {
    let row = find(&call, &id).await?;
    let row = call.actions().extensions().resume(row.id, call.by()).await?;
    shown(&call, &row).await
}

/// Offer events again that a hook did not take and that are tried no more.
#[utoipa::path(post, path = "/v1/extensions/{extension}/replay", tag = "extensions",
    params(("extension" = String, Path)), request_body = ReplayEvents,
    responses((status = 200, body = Replayed), Problems))]
pub(in crate::http) async fn replay_events(
    call: Call,
    Path(id): Path<String>,
    Body(body): Body<ReplayEvents>,
) -> Result<Json<Replayed>, ApiError> {
    let row = find(&call, &id).await?;
    let events = call.actions().extensions().replay(row.id.clone(), body.event).await?;
    if events > 0 {
        let after = json!({ "event": body.event, "events": events });
        call.store().extension_event("extension.replayed", &row.id, after, &call.by()).await?;
    }
    Ok(Json(Replayed { events }))
}
