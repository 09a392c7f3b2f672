//! Extensions: which are installed, and installing and removing them.
//!
//! Who runs the platform decides of them. Everybody else sees the names of those that are for their
//! apps, because drains and routes name them, and nothing of what they are configured with, were
//! granted or wrote.

mod actions;
mod component;
mod decide;
mod pages;
mod view;
mod watch;

use std::time::Duration;

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderName, StatusCode, header};
use berth_api::{
    ExtensionDetails, ExtensionInstalled, ExtensionReview, ExtensionView, NeedsApproval, Page,
};
use berth_model::AppId;
use berth_model::extension::{Capabilities, ExtensionId};
use berth_model::principal::Verb;
use berth_store::Extension;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::SemaphorePermit;
use utoipa::IntoParams;

use super::call::Call;
use super::document::Problems;
use super::extract::{Path, Query};
use super::page::PageQuery;
use super::problem::ApiError;
use crate::extensions::Choice;

pub(super) use actions::whole;
pub use actions::{Deciding, ExtensionActions};
pub(super) use component::*;
pub(super) use decide::*;
pub(super) use pages::*;
pub(super) use view::review as shown_review;
pub(super) use watch::*;

/// Largest component, bytes.
const COMPONENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a client may take to send a component.
const COMPONENT_WAIT: Duration = Duration::from_secs(300);
/// Components that are taken at once.
pub(super) const UPLOADS_MAX: usize = 2;
/// Most apps that an extension names.
const APPS_MAX: usize = 1_000;

/// The installed extensions by name. To everybody but administrators: those that are for all apps
/// or for one of the team's.
#[utoipa::path(get, path = "/v1/extensions", tag = "extensions", params(PageQuery),
    responses((status = 200, body = Page<ExtensionView>), Problems))]
pub(super) async fn list_extensions(
    call: Call,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<ExtensionView>>, ApiError> {
    call.may_platform(Verb::Read)?;
    let wanted = query.wanted()?;
    let after = wanted.after_as::<ExtensionId>()?;
    let mut seen = Vec::new();
    for row in call.store().extensions().await? {
        if after.as_ref().is_some_and(|after| row.id <= *after) {
            continue;
        }
        let apps = view::apps(&call, &row).await?;
        if is_listed(&call, apps.as_deref()) {
            seen.push(view::extension(&row, apps));
        }
        if seen.len() >= usize::try_from(wanted.limit_and_one()).unwrap_or(usize::MAX) {
            break;
        }
    }
    Ok(Json(wanted.page(seen, |extension| extension.id.clone())))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct InstallQuery {
    /// Install nothing: answer what the component is and asks for.
    #[serde(default)]
    review: bool,
    /// The `hash` of the review that was said yes to.
    accept: Option<String>,
    /// Capabilities as in a manifest, in JSON, when less than it asks for is granted.
    granted: Option<String>,
    /// Names of the apps that it is for, with commas between them; without it, what holds already,
    /// and all apps at first.
    apps: Option<String>,
    /// Its configuration in JSON; without it, what holds already, and an empty one at first.
    config: Option<String>,
}

/// What an installation may answer.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(super) enum Answer {
    Review(Box<ExtensionReview>),
    Installed(Box<ExtensionInstalled>),
}

/// Install a component, or another version of an extension that is there. A component that asks for
/// more than was reviewed is refused with what it asks for (`needs-approval`) until `accept` or
/// `granted` says yes; where another version of it runs, that goes on and this one waits.
#[utoipa::path(post, path = "/v1/extensions", tag = "extensions", params(InstallQuery),
    request_body(content = Vec<u8>, content_type = "application/wasm"),
    responses(
        (status = 200, description = "The review that was asked for, or another version of what was there.", body = Answer),
        (status = 201, description = "It is new.", body = ExtensionInstalled),
        (status = 409, description = "Nobody said yes to what it asks for.",
         content_type = "application/problem+json", body = NeedsApproval),
        Problems,
    ))]
pub(super) async fn install_extension(
    call: Call,
    Query(query): Query<InstallQuery>,
    request: Request,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Answer>), ApiError> {
    call.may_platform(Verb::ManagePlatform)?;
    let choice = Choice {
        accept: query.accept,
        granted: query.granted.as_deref().map(|text| capabilities("granted", text)).transpose()?,
        apps: match &query.apps {
            Some(names) => Some(apps(&call, "apps", names.split(',')).await?),
            None => None,
        },
        config: query.config.as_deref().map(configuration).transpose()?,
    };
    let (component, _place) = uploaded(&call, request).await?;
    let extensions = call.actions().extensions();
    if query.review {
        let review = view::review(&extensions.review(component).await?);
        let location = format!("/v1/extensions/{}", review.id);
        let body = Json(Answer::Review(Box::new(review)));
        return Ok((StatusCode::OK, [(header::LOCATION, location)], body));
    }
    let (row, live) = extensions.install(component, choice, call.by()).await?;
    let status = if row.installed_at_ms == row.changed_at_ms && live {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let location = format!("/v1/extensions/{}", row.id);
    let apps = view::apps(&call, &row).await?;
    let installed = ExtensionInstalled {
        extension: view::extension(&row, apps),
        live,
        review: view::waiting(&row),
    };
    Ok((status, [(header::LOCATION, location)], Json(Answer::Installed(Box::new(installed)))))
}

/// An extension: what it was granted and by whom, its configuration, and how it does.
#[utoipa::path(get, path = "/v1/extensions/{extension}", tag = "extensions",
    params(("extension" = String, Path)),
    responses((status = 200, body = ExtensionDetails), Problems))]
pub(super) async fn show_extension(
    call: Call,
    Path(id): Path<String>,
) -> Result<Json<ExtensionDetails>, ApiError> {
    let row = find(&call, &id).await?;
    Ok(Json(view::details(&call, row).await?))
}

/// Remove an extension with everything that it keeps.
#[utoipa::path(delete, path = "/v1/extensions/{extension}", tag = "extensions",
    params(("extension" = String, Path)),
    responses((status = 204, description = "It is gone."), Problems))]
pub(super) async fn remove_extension(
    call: Call,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let row = find(&call, &id).await?;
    call.actions().extensions().remove(row.id, call.by()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The extension of this name, to who runs the platform.
async fn find(call: &Call, id: &str) -> Result<Extension, ApiError> {
    call.may_platform(Verb::ManagePlatform)?;
    let absent = || ApiError::not_found("extension", id);
    let parsed: ExtensionId = id.parse().map_err(|_| absent())?;
    call.store().extension(&parsed).await?.ok_or_else(absent)
}

/// Whether the caller sees an extension in the list; `apps` are those of its apps that they see.
fn is_listed(call: &Call, apps: Option<&[String]>) -> bool {
    apps.is_none_or(|apps| !apps.is_empty() || call.caller.sees_all())
}

/// The extension of this name, to who sees it in the list.
async fn seen(call: &Call, id: &str) -> Result<Extension, ApiError> {
    call.may_platform(Verb::Read)?;
    let absent = || ApiError::not_found("extension", id);
    let parsed: ExtensionId = id.parse().map_err(|_| absent())?;
    let row = call.store().extension(&parsed).await?.ok_or_else(absent)?;
    let apps = view::apps(call, &row).await?;
    if is_listed(call, apps.as_deref()) { Ok(row) } else { Err(absent()) }
}

/// The component that is sent, and the place that it takes until it is installed.
pub(super) async fn uploaded(
    call: &Call,
    request: Request,
) -> Result<(Vec<u8>, SemaphorePermit<'_>), ApiError> {
    let place = call.platform.uploads.try_acquire().map_err(|_| {
        ApiError::unavailable("other components are being installed; try again in a moment")
    })?;
    Ok((component(request).await?, place))
}

/// The body of an installation, as a whole.
async fn component(request: Request) -> Result<Vec<u8>, ApiError> {
    // A page of another site cannot send this type without asking first.
    let is_wasm = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/wasm"));
    if !is_wasm {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "Not WebAssembly",
            "send a component as a body of the type application/wasm",
        ));
    }
    let body = axum::body::to_bytes(request.into_body(), COMPONENT_BYTES_MAX);
    let bytes = tokio::time::timeout(COMPONENT_WAIT, body).await.map_err(|_| {
        let detail = format!("the component did not arrive in {} s", COMPONENT_WAIT.as_secs());
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", "Too slow", detail)
    })?;
    bytes.map(Into::into).map_err(|error| {
        let is_limit = std::error::Error::source(&error)
            .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>);
        if is_limit {
            let detail = format!("a component may have {} MiB", COMPONENT_BYTES_MAX / 1_048_576);
            return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large", detail);
        }
        ApiError::bad_request("the component did not arrive whole")
    })
}

fn capabilities(pointer: &str, text: &str) -> Result<Capabilities, ApiError> {
    serde_json::from_str(text).map_err(|error| ApiError::invalid(pointer, error.to_string()))
}

fn configuration(text: &str) -> Result<Value, ApiError> {
    serde_json::from_str(text).map_err(|error| ApiError::invalid("config", error.to_string()))
}

async fn apps(
    call: &Call,
    pointer: &str,
    names: impl Iterator<Item = &str> + Send,
) -> Result<Vec<AppId>, ApiError> {
    let mut ids = Vec::new();
    for name in names {
        if ids.len() >= APPS_MAX {
            return Err(ApiError::invalid(pointer, format!("{APPS_MAX} apps at most")));
        }
        let id = call.app(name, Verb::Read).await?.id;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if ids.is_empty() {
        return Err(ApiError::invalid(pointer, "name an app, or say nothing for all of them"));
    }
    Ok(ids)
}
