//! Server-sent events: who gets them, how many at once, and rows that are followed as they come.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::call::Call;
use super::problem::ApiError;

/// A comment is sent when nothing else was for this long, so that a dead client is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What the headers say of streams.
pub(crate) struct StreamHeaders {
    /// `Accept: text/event-stream`.
    pub(crate) wants_events: bool,
    /// `Accept: text/plain`.
    pub(crate) wants_text: bool,
    /// `Last-Event-ID`: what the client has seen already.
    pub(crate) last_id: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for StreamHeaders {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let accept = text(header::ACCEPT.as_str()).unwrap_or_default();
        let accepts = |kind: &str| {
            let mut parts = accept.split(',').filter_map(|part| part.split(';').next());
            parts.any(|part| part.trim().eq_ignore_ascii_case(kind))
        };
        Ok(Self {
            wants_events: accepts("text/event-stream"),
            wants_text: accepts("text/plain"),
            last_id: text("last-event-id").map(str::to_owned),
        })
    }
}

/// A place among the open streams, for as long as the token of its call is valid.
pub(crate) struct Place {
    _held: OwnedSemaphorePermit,
    /// Completes when the token is not valid any more.
    pub(crate) revoked: BoxFuture<'static, ()>,
}

impl Call {
    /// Takes a place among the open streams.
    pub(crate) fn place(&self) -> Result<Place, ApiError> {
        let streams = std::sync::Arc::clone(&self.platform.streams);
        let held = streams.try_acquire_owned().map_err(|_| {
            ApiError::unavailable("as many streams are open as the platform allows; close some")
        })?;
        Ok(Place { _held: held, revoked: Box::pin(self.until_revoked()) })
    }
}

/// One event of a stream.
pub(crate) fn event<T: Serialize>(id: Option<String>, name: Option<&str>, data: &T) -> Event {
    let event = match serde_json::to_string(data) {
        Ok(text) => Event::default().data(text),
        Err(error) => Event::default().comment(format!("an entry cannot be written: {error}")),
    };
    let event = match id {
        Some(id) => event.id(id),
        None => event,
    };
    match name {
        Some(name) => event.event(name),
        None => event,
    }
}

/// Answers with a stream that holds its place until it ends, with its token at the latest.
pub(crate) fn respond(
    place: Place,
    events: impl Stream<Item = Event> + Send + 'static,
) -> Response {
    let Place { _held: held, revoked } = place;
    let events = events.take_until(revoked).map(move |event| {
        let _held = &held;
        Ok::<_, Infallible>(event)
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}
