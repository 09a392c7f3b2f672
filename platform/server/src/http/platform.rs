//! The platform itself: is it well, what is it, who is the caller.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use berth_api::{Check, Info, Me};
use berth_model::Role;
use berth_model::principal::Verb;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Platform;
use super::call::Call;
use super::document::Problems;
use super::extract::Query;
use super::problem::ApiError;

/// Longest time that instances get to end, milliseconds: ten minutes.
const GRACE_MS_MAX: u32 = 600_000;
const GRACE_MS: u32 = 10_000;

/// Whether the control process and its database answer.
#[utoipa::path(get, path = "/healthz", tag = "platform", security(()), responses(
    (status = 200, description = "`ok`", body = String, content_type = "text/plain"),
    (status = 503, description = "The database does not answer.", content_type = "application/problem+json", body = berth_api::Problem),
))]
pub(super) async fn health(
    State(platform): State<Arc<Platform>>,
) -> Result<&'static str, ApiError> {
    platform.store.newest_event().await?;
    Ok("ok\n")
}

/// What the platform is.
#[utoipa::path(get, path = "/v1/info", tag = "platform", responses((status = 200, body = Info), Problems))]
pub(super) async fn info(call: Call) -> Result<Json<Info>, ApiError> {
    call.may_platform(Verb::Read)?;
    Ok(Json(Info {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        domain: call.store().domain().to_owned(),
        http_port: call.platform.http.port(),
        ssh: call.platform.ssh.to_string(),
    }))
}

/// Who the caller is.
#[utoipa::path(get, path = "/v1/me", tag = "platform", responses((status = 200, body = Me), Problems))]
pub(super) async fn me(call: Call) -> Result<Json<Me>, ApiError> {
    call.may_platform(Verb::Read)?;
    let team = call.team_of(call.caller.team).await?;
    Ok(Json(Me {
        name: call.caller.name.clone(),
        team: team.name.to_string(),
        role: call.caller.highest_role().map_or("none", Role::as_str).to_owned(),
    }))
}

/// Whether the parts of the platform are well.
#[utoipa::path(get, path = "/v1/checks", tag = "platform", responses((status = 200, body = Vec<Check>), Problems))]
pub(super) async fn checks(call: Call) -> Result<Json<Vec<Check>>, ApiError> {
    call.may_platform(Verb::Read)?;
    Ok(Json(call.actions().checks().await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DownQuery {
    /// How long each instance may take to end, milliseconds; ten minutes at most.
    #[param(maximum = 600_000)]
    grace_ms: Option<u32>,
}

/// Stop everything: apps, router and agent; data stays.
#[utoipa::path(post, path = "/v1/down", tag = "platform", params(DownQuery), responses(
    (status = 202, description = "It begins to stop."), Problems,
))]
pub(super) async fn down(
    call: Call,
    Query(query): Query<DownQuery>,
) -> Result<StatusCode, ApiError> {
    call.may_platform(Verb::ManagePlatform)?;
    let grace_ms = query.grace_ms.unwrap_or(GRACE_MS);
    if grace_ms > GRACE_MS_MAX {
        return Err(ApiError::invalid("grace_ms", "600000 at most"));
    }
    call.actions().down(grace_ms).await?;
    Ok(StatusCode::ACCEPTED)
}
