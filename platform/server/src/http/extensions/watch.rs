//! How extensions do: their logs, what hooks did not take, what they measure.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use berth_api::{DeliveryView, ExtensionLogLine, Page};
use berth_model::extension::ExtensionId;
use berth_model::principal::Verb;
use berth_store::Store;
use futures_util::stream;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{find, view};
use crate::http::call::Call;
use crate::http::document::Problems;
use crate::http::extract::{Path, Query};
use crate::http::problem::ApiError;
use crate::http::stream::{StreamHeaders, event, respond};

/// Lines of history when the request does not say, and most of them, which is all that are kept.
const LINES: u32 = 100;
const LINES_MAX: u32 = 2_000;
/// Lines that a stream reads at once.
const LINES_AT_ONCE: u32 = 200;
/// How often a stream looks for new lines.
const LOOK: Duration = Duration::from_millis(500);
/// Events of a hook when the request does not say, and most of them.
const DELIVERIES: u32 = 50;
const DELIVERIES_MAX: u32 = 1_000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct ExtensionLogQuery {
    /// How many of the last lines; 100 when absent.
    #[param(maximum = 2_000)]
    lines: Option<u32>,
    /// Events with the last lines and then new ones as they come, as with
    /// `Accept: text/event-stream`.
    #[serde(default)]
    follow: bool,
}

/// The last lines that an extension wrote, oldest first; or server-sent events, whose ids are
/// positions. After a lost connection `Last-Event-ID` goes on behind that line.
#[utoipa::path(get, path = "/v1/extensions/{extension}/log", tag = "extensions",
    params(("extension" = String, Path), ExtensionLogQuery),
    responses(
        (status = 200, content((Page<ExtensionLogLine> = "application/json"), (String = "text/event-stream"))),
        Problems,
    ))]
pub(in crate::http) async fn extension_log(
    call: Call,
    Path(id): Path<String>,
    Query(query): Query<ExtensionLogQuery>,
    headers: StreamHeaders,
) -> Result<Response, ApiError> {
    let row = find(&call, &id).await?;
    let lines = query.lines.unwrap_or(LINES);
    if lines > LINES_MAX {
        return Err(ApiError::invalid("lines", format!("{LINES_MAX} at most")));
    }
    let seen: Option<i64> = headers.last_id.as_deref().and_then(|id| id.parse().ok());
    let items = call.store().extension_lines(&row.id, seen, lines).await?;
    if query.follow || headers.wants_events {
        let place = call.place()?;
        let events = follow(call.store().clone(), row.id, seen, items);
        return Ok(respond(place, events));
    }
    let items: Vec<ExtensionLogLine> = items.into_iter().map(view::line).collect();
    Ok(Json(Page { items, next_page_token: None }).into_response())
}

/// Lines as they come, until the extension is gone.
fn follow(
    store: Store,
    id: ExtensionId,
    seen: Option<i64>,
    first: Vec<berth_store::ExtensionLine>,
) -> impl futures_util::Stream<Item = axum::response::sse::Event> + Send {
    let state = (store, id, seen.unwrap_or(0), first.into_iter());
    stream::unfold(state, |(store, id, mut seen, mut rows)| async move {
        loop {
            if let Some(row) = rows.next() {
                seen = row.seq;
                let item = event(Some(row.seq.to_string()), None, &view::line(row));
                return Some((item, (store, id, seen, rows)));
            }
            let more = store.extension_lines(&id, Some(seen), LINES_AT_ONCE).await.ok()?;
            if more.is_empty() {
                store.extension(&id).await.ok()??;
                tokio::time::sleep(LOOK).await;
            }
            rows = more.into_iter();
        }
    })
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct DeliveriesQuery {
    /// Most entries; 50 when absent.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
}

/// Events that a hook has not taken: those that are tried no more first, then by event.
#[utoipa::path(get, path = "/v1/extensions/{extension}/deliveries", tag = "extensions",
    params(("extension" = String, Path), DeliveriesQuery),
    responses((status = 200, body = Page<DeliveryView>), Problems))]
pub(in crate::http) async fn list_deliveries(
    call: Call,
    Path(id): Path<String>,
    Query(query): Query<DeliveriesQuery>,
) -> Result<Json<Page<DeliveryView>>, ApiError> {
    let row = find(&call, &id).await?;
    let limit = query.limit.unwrap_or(DELIVERIES);
    if !(1..=DELIVERIES_MAX).contains(&limit) {
        return Err(ApiError::invalid("limit", format!("use 1 to {DELIVERIES_MAX}")));
    }
    let rows = call.store().deliveries(&row.id, limit).await?;
    let items = rows.into_iter().map(view::delivery).collect();
    Ok(Json(Page { items, next_page_token: None }))
}

/// What instances, apps and the machine take, what extensions measure, and what is measured of them, in
/// the text form of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "platform",
    responses((status = 200, body = String, content_type = "text/plain"), Problems))]
pub(in crate::http) async fn metrics(
    call: Call,
) -> Result<([(HeaderName, &'static str); 1], String), ApiError> {
    call.may_platform(Verb::ManagePlatform)?;
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let mut text = call.platform.measures.prometheus(call.store()).await?;
    text.push_str(&call.actions().extensions().prometheus());
    Ok(([(header::CONTENT_TYPE, kind)], text))
}
