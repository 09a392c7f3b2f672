//! An app's log.

use axum::Json;
use axum::response::{IntoResponse, Response};
use berth_api::{LogLine, Page, Timestamp};
use berth_model::InstanceId;
use berth_model::log::LogStream as Stream;
use berth_model::principal::Verb;
use futures_util::StreamExt;
use serde::Deserialize;
use utoipa::IntoParams;

use super::actions::{LogEntry, LogFilter};
use super::call::Call;
use super::document::Problems;
use super::extract::{Path, Query, field};
use super::problem::ApiError;
use super::stream::{StreamHeaders, event, respond};

/// Lines of history when the request does not say, and most of them.
const LINES: u32 = 100;
const LINES_MAX: u32 = 10_000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogQuery {
    /// How many of the last lines; 100 when absent.
    #[param(maximum = 10_000)]
    lines: Option<u32>,
    /// Only this process type: `web`, `run`.
    process: Option<String>,
    /// Events with the last lines and then new ones as they come, as with
    /// `Accept: text/event-stream`.
    #[serde(default)]
    follow: bool,
}

/// The last lines of the app's log, oldest first; or server-sent events, whose ids are
/// `<instance>:<seq>`. After a lost connection `Last-Event-ID` leaves out what that instance wrote
/// before.
#[utoipa::path(get, path = "/v1/apps/{app}/log", tag = "logs", params(("app" = String, Path), LogQuery),
    responses(
        (status = 200, content((Page<LogLine> = "application/json"), (String = "text/event-stream"))),
        Problems,
    ))]
pub(super) async fn app_log(
    call: Call,
    Path(app): Path<String>,
    Query(query): Query<LogQuery>,
    headers: StreamHeaders,
) -> Result<Response, ApiError> {
    let app = call.app(&app, Verb::Read).await?;
    let lines = query.lines.unwrap_or(LINES);
    if lines > LINES_MAX {
        return Err(ApiError::invalid("lines", "10000 at most"));
    }
    let process = query.process.as_deref().map(|process| field("process", process)).transpose()?;
    let follow = query.follow || headers.wants_events;
    let after = headers.last_id.as_deref().and_then(position);
    let filter = LogFilter { process, lines, follow, after };
    let place = call.place()?;
    let mut entries = call.actions().log(app, filter).await?;
    if follow {
        let events = entries.map(|entry| match entry {
            Ok(entry) => {
                let id = format!("{}:{}", entry.record.instance, entry.record.seq);
                event(Some(id), None, &view(entry))
            }
            Err(error) => event(None, Some("error"), &error.to_string()),
        });
        return Ok(respond(place, events));
    }
    let mut items = Vec::new();
    while let Some(entry) = entries.next().await {
        items.push(view(entry?));
    }
    Ok(Json(Page { items, next_page_token: None }).into_response())
}

/// `<instance>:<seq>`.
fn position(id: &str) -> Option<(InstanceId, u64)> {
    let (instance, seq) = id.split_once(':')?;
    Some((instance.parse().ok()?, seq.parse().ok()?))
}

fn view(entry: LogEntry) -> LogLine {
    let LogEntry { source, record } = entry;
    LogLine {
        at: Timestamp(record.at_ns.div_euclid(1_000_000)),
        source,
        instance: record.instance.to_string(),
        seq: record.seq,
        stream: match record.stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
            Stream::System => "system",
        }
        .to_owned(),
        line: record.line,
    }
}
