//! What happened: the list that an auditor asks, and the stream that others follow.

use axum::Json;
use axum::response::{IntoResponse, Response};
use berth_api::{EventView, Page, Timestamp};
use berth_model::principal::Verb;
use berth_model::{AppName, Event};
use berth_store::{By, EventFilter, KindFilter, Order, Store, Visible};
use futures_util::stream;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::call::Call;
use super::document::Problems;
use super::extract::Query;
use super::moment::moment;
use super::page::{self, PageQuery};
use super::problem::ApiError;
use super::stream::{StreamHeaders, event, respond};

/// Events that are read at once.
const EVENTS_AT_ONCE: u32 = 100;
/// Longest name of an actor, a kind or a subject, bytes.
const NAME_BYTES_MAX: usize = 256;

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
    /// stream with the next one to come. Not with `order=newest`.
    after: Option<i64>,
    /// Which come first: `oldest`, the default, or `newest`. A stream has the order in which they
    /// happen.
    #[serde(default)]
    #[param(inline)]
    order: First,
    /// Only events of apps that have this name or had it once.
    app: Option<String>,
    /// Only events of this team.
    team: Option<String>,
    /// Only what was done under this name: that of a token or a key, or `system`.
    actor: Option<String>,
    /// Only events of this kind, `app.scaled`, or of those that begin so, `app.*`.
    kind: Option<String>,
    /// Only events about the thing with this id.
    subject: Option<String>,
    /// Only what happened from then on: RFC 3339, a day, or how long ago (`2h`).
    since: Option<String>,
    /// Only what happened before.
    until: Option<String>,
    /// Only what somebody did, and not what the platform did by itself.
    #[serde(default)]
    callers_only: bool,
    /// A stream, as with `Accept: text/event-stream`; `Last-Event-ID` continues it.
    #[serde(default)]
    follow: bool,
}

/// Which events come first.
#[derive(Deserialize, ToSchema, Clone, Copy, Default, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum First {
    #[default]
    Oldest,
    Newest,
}

/// What happened to what the caller may see, and who did it from where: a page, or server-sent
/// events whose ids are positions.
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
    let filter = filter(&call, &query).await?;
    if query.follow || headers.wants_events {
        let seen = headers.last_id.and_then(|id| id.parse().ok()).or(query.after);
        let seen = match seen {
            Some(seen) => seen,
            None => call.store().newest_event().await?,
        };
        return Ok(respond(call.place()?, follow(call.store().clone(), filter, seen)));
    }
    let wanted = PageQuery::new(query.limit, query.page_token).wanted()?;
    let order = match (query.order, query.after) {
        (First::Oldest, after) => Order::OldestAfter(wanted.after_as()?.or(after).unwrap_or(0)),
        (First::Newest, None) => Order::NewestBefore(wanted.after_as()?),
        (First::Newest, Some(_)) => {
            let detail = "`after` is for order=oldest; `since` limits either order";
            return Err(ApiError::invalid("after", detail));
        }
    };
    let rows = call.store().events(&filter, order, wanted.limit_and_one()).await?;
    let page = wanted.page(rows, |event| event.seq.to_string());
    Ok(Json(page::map(page, view)).into_response())
}

/// What was asked for, of what the caller may see.
async fn filter(call: &Call, query: &EventsQuery) -> Result<EventFilter, ApiError> {
    let visible = call.listed(Verb::Read)?;
    let app = match &query.app {
        Some(name) => Some(app(call, &visible, name).await?),
        None => None,
    };
    let team = match &query.team {
        Some(name) => Some(call.team(Some(name), Verb::Read).await?.id),
        None => None,
    };
    let name = |pointer: &str, text: &Option<String>| match text {
        Some(text) if text.is_empty() || text.len() > NAME_BYTES_MAX => {
            Err(ApiError::invalid(pointer, format!("use 1 to {NAME_BYTES_MAX} bytes")))
        }
        text => Ok(text.clone()),
    };
    let at = |pointer: &str, text: &Option<String>| {
        let parsed = text.as_deref().map(|text| moment(text, call.now_ms())).transpose();
        parsed.map_err(|detail| ApiError::invalid(pointer, detail))
    };
    Ok(EventFilter {
        visible,
        team,
        app,
        actor: name("actor", &query.actor)?,
        kind: name("kind", &query.kind)?.map(kind).transpose()?,
        subject: name("subject", &query.subject)?,
        since_ms: at("since", &query.since)?,
        until_ms: at("until", &query.until)?,
        callers_only: query.callers_only,
    })
}

/// The name of an app that is there, or was: who destroyed it is asked when it is gone.
async fn app(call: &Call, visible: &Visible, name: &str) -> Result<AppName, ApiError> {
    if let Ok(name) = name.parse()
        && call.store().app_was(visible, &name).await?
    {
        return Ok(name);
    }
    Ok(call.app(name, Verb::Read).await?.name)
}

/// `app.scaled`, or `app.*`.
fn kind(text: String) -> Result<KindFilter, ApiError> {
    match text.strip_suffix('*') {
        Some(begins) if !begins.contains('*') => Ok(KindFilter::Begins(begins.to_owned())),
        None if !text.contains('*') => Ok(KindFilter::Is(text)),
        _ => Err(ApiError::invalid("kind", "use a kind like app.scaled, or app.* for all of its")),
    }
}

fn follow(
    store: Store,
    filter: EventFilter,
    seen: i64,
) -> impl futures_util::Stream<Item = axum::response::sse::Event> + Send {
    let newest = store.watch_events();
    let state = (store, filter, newest, seen, Vec::new().into_iter());
    stream::unfold(state, move |(store, filter, mut newest, mut seen, mut rows)| async move {
        loop {
            if let Some(row) = rows.next() {
                let row: Event = row;
                seen = row.seq;
                let (id, kind) = (row.seq.to_string(), row.kind.clone());
                let item = event(Some(id), Some(&kind), &view(row));
                return Some((item, (store, filter, newest, seen, rows)));
            }
            let looked_to = *newest.borrow_and_update();
            let order = Order::OldestAfter(seen);
            let more = store.events(&filter, order, EVENTS_AT_ONCE).await.ok()?;
            if more.is_empty() {
                // What is not wanted is looked at once.
                seen = seen.max(looked_to);
                newest.changed().await.ok()?;
            }
            rows = more.into_iter();
        }
    })
}

fn view(event: Event) -> EventView {
    let platform = By::system(0).principal;
    EventView {
        seq: event.seq,
        what: event.words(),
        kind: event.kind,
        schema: event.schema,
        subject: event.subject,
        app: event.app_name,
        actor: event.actor,
        principal: event.principal.filter(|id| *id != platform).map(|id| id.to_string()),
        source_ip: event.source_ip,
        at: Timestamp(event.at_ms),
        before: event.before,
        after: event.after,
    }
}
