//! What was measured.

use axum::Json;
use berth_api::MeasuresView;
use berth_model::principal::Verb;
use serde::Deserialize;
use utoipa::IntoParams;

use super::call::Call;
use super::document::Problems;
use super::extract::{Path, Query};
use super::moment::moment;
use super::problem::ApiError;
use crate::measures::{QueryError, Wanted};

/// What is told when the request does not say since when.
const LENGTH_MS: i64 = 3_600_000;
/// Most names.
const NAMES_MAX: usize = 64;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MeasuresQuery {
    /// Names of measures, with commas between them; all of them when absent.
    #[param(example = "cpu,memory,requests,latency_p95")]
    names: Option<String>,
    /// Since when: RFC 3339, a day, or how long ago; an hour before the end when absent.
    #[param(example = "2h")]
    from: Option<String>,
    /// Until when; now when absent.
    to: Option<String>,
    /// The time from one point to the next, such as `30s` or `5m`. It is lengthened so that there
    /// are 1,000 points at most, and to what was kept: 10 s for a day, 5 min for 30 days.
    #[param(example = "30s")]
    step: Option<String>,
}

/// What the app's requests and instances took, point by point.
///
/// Of the app: `requests`, `requests_2xx`, `requests_3xx`, `requests_4xx`, `requests_5xx`,
/// `requests_aborted` (the client left), `router_errors` (answers of the router's own), `error_ratio`
/// (5xx among all), `received`, `sent`, `latency_p50`, `latency_p95`, `latency_p99`. Of each
/// instance: `cpu`, `throttled` (time kept from the processor by its limit), `memory`, `memory_peak`,
/// `memory_limit`, `network_in`, `network_out`, `processes`, `restarts`, `oom_kills`.
#[utoipa::path(get, path = "/v1/apps/{app}/measures", tag = "measures",
    params(("app" = String, Path), MeasuresQuery),
    responses((status = 200, body = MeasuresView), Problems))]
pub(super) async fn app_measures(
    call: Call,
    Path(app): Path<String>,
    Query(query): Query<MeasuresQuery>,
) -> Result<Json<MeasuresView>, ApiError> {
    let app = call.app(&app, Verb::Read).await?;
    let now_ms = call.now_ms();
    let found = call.platform.measures.of_app(app.id, wanted(query, now_ms)?, now_ms).await;
    found.map(Json).map_err(refused)
}

/// What the machine took, point by point: `cpu`, `cpu_total`, `memory`, `memory_total`, `disk`,
/// `disk_total`, `load`; and `cpu` and `memory` of the platform's own programs, which are named as
/// the process: `control`, `agent`, `router`, `wasm`.
#[utoipa::path(get, path = "/v1/host/measures", tag = "measures", params(MeasuresQuery),
    responses((status = 200, body = MeasuresView), Problems))]
pub(super) async fn host_measures(
    call: Call,
    Query(query): Query<MeasuresQuery>,
) -> Result<Json<MeasuresView>, ApiError> {
    call.may_platform(Verb::ManagePlatform)?;
    let now_ms = call.now_ms();
    let found = call.platform.measures.of_host(wanted(query, now_ms)?, now_ms).await;
    found.map(Json).map_err(refused)
}

fn wanted(query: MeasuresQuery, now_ms: i64) -> Result<Wanted, ApiError> {
    let at = |name: &'static str, text: Option<String>| {
        let read = text.map(|text| moment(&text, now_ms));
        read.transpose().map_err(|detail| ApiError::invalid(name, detail))
    };
    let to_ms = at("to", query.to)?.unwrap_or(now_ms);
    let from_ms = at("from", query.from)?.unwrap_or(to_ms.min(now_ms) - LENGTH_MS);
    let step_ms = query.step.map(|text| step(&text)).transpose()?;
    let names = query.names.unwrap_or_default();
    let names: Vec<String> = names
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    if names.len() > NAMES_MAX {
        return Err(ApiError::invalid("names", format!("{NAMES_MAX} names at most")));
    }
    Ok(Wanted { names, from_ms, to_ms, step_ms })
}

fn step(text: &str) -> Result<u64, ApiError> {
    let read = humantime::parse_duration(text).ok().filter(|step| !step.is_zero());
    let step_ms = read.and_then(|step| u64::try_from(step.as_millis()).ok());
    step_ms.ok_or_else(|| ApiError::invalid("step", "use a time like 30s, 5m or 1h"))
}

fn refused(error: QueryError) -> ApiError {
    match error {
        QueryError::Name { .. } => ApiError::invalid("names", error.to_string()),
        QueryError::Span => ApiError::invalid("from", "it must be before the end"),
        QueryError::Read(error) => {
            tracing::error!("what was measured cannot be read: {error}");
            ApiError::unavailable("what was measured cannot be read now")
        }
    }
}
