//! The stream of what happened.

use axum::Json;
use axum::response::{IntoResponse, Response};
use berth_api::{EventView, Page, Timestamp};
use berth_model::Event;
use berth_model::principal::Verb;
use berth_store::{EventFilter, Store, Visible};
use futures_util::stream;
use serde::Deserialize;
use utoipa::IntoParams;

use super::call::Call;
use super::document::Problems;
use super::extract::Query;
use super::page::{self, PageQuery};
use super::problem::ApiError;
use super::stream::{StreamHeaders, event, respond};

/// Events that are read at once.
const EVENTS_AT_ONCE: u32 = 100;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Most entries of a page; 50 when absent, 200 at most.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// `next_page_token` of the page before.
    page_token: Option<String>,
    /// Only events after this position. Without it a page begins with the oldest event, and a
    /// stream with the next one to come.
    after: Option<i64>,
    /// Only events of this app.
    app: Option<String>,
    /// A stream, as with `Accept: text/event-stream`; `Last-Event-ID` continues it.
    #[serde(default)]
    follow: bool,
}

/// What happened to what the caller may see, oldest first: a page, or server-sent events whose ids
/// are positions.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(EventsQuery),
    responses(
        (status = 200, content((Page<EventView> = "application/json"), (String = "text/event-stream"))),
        Problems,
    ))]
pub(super) async fn list_events(
    call: Call,
    Query(query): Query<EventsQuery>,
    headers: StreamHeaders,
) -> Result<Response, ApiError> {
    call.team(None, Verb::Read).await?;
    let app = match query.app {
        Some(name) => Some(call.app(&name, Verb::Read).await?.id),
        None => None,
    };
    let visible = call.sees_only().map_or(Visible::All, Visible::Team);
    let filter = EventFilter { visible, app };
    if query.follow || headers.wants_events {
        let seen = headers.last_id.and_then(|id| id.parse().ok()).or(query.after);
        let seen = match seen {
            Some(seen) => seen,
            None => call.store().newest_event().await?,
        };
        return Ok(respond(call.place()?, follow(call.store().clone(), filter, seen)));
    }
    let wanted = PageQuery::new(query.limit, query.page_token).wanted()?;
    let after = wanted.after_as()?.or(query.after).unwrap_or(0);
    let rows = call.store().events(filter, after, wanted.limit_and_one()).await?;
    let page = wanted.page(rows, |event| event.seq.to_string());
    Ok(Json(page::map(page, view)).into_response())
}

fn follow(
    store: Store,
    filter: EventFilter,
    seen: i64,
) -> impl futures_util::Stream<Item = axum::response::sse::Event> + Send {
    let newest = store.watch_events();
    let state = (store, newest, seen, Vec::new().into_iter());
    stream::unfold(state, move |(store, mut newest, mut seen, mut rows)| async move {
        loop {
            if let Some(row) = rows.next() {
                let row: Event = row;
                seen = row.seq;
                let (id, kind) = (row.seq.to_string(), row.kind.clone());
                let item = event(Some(id), Some(&kind), &view(row));
                return Some((item, (store, newest, seen, rows)));
            }
            newest.mark_unchanged();
            let more = store.events(filter, seen, EVENTS_AT_ONCE).await.ok()?;
            if more.is_empty() {
                newest.changed().await.ok()?;
            }
            rows = more.into_iter();
        }
    })
}

fn view(event: Event) -> EventView {
    EventView {
        seq: event.seq,
        kind: event.kind,
        schema: event.schema,
        subject: event.subject,
        actor: event.actor,
        source_ip: event.source_ip,
        at: Timestamp(event.at_ms),
        before: event.before,
        after: event.after,
    }
}
