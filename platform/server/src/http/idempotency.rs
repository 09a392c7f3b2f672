//! `Idempotency-Key`: the same request twice is done once, and answered twice.
//!
//! A change keeps its event with the key, in its own transaction. A request that was cut off before
//! its answer was stored is done when there is no such event, and answered from the event otherwise.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_model::{Event, PrincipalId};
use berth_store::{Answer, Claim, EventFilter, Order, Visible};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::call::Call;
use super::problem::ApiError;

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const KEY_BYTES_MAX: usize = 255;

/// Requests with a key that are under way in this process; it is the only one that serves.
#[derive(Clone, Default)]
pub(crate) struct UnderWay(Arc<Mutex<HashSet<(PrincipalId, String)>>>);

/// One of them; dropping it ends it.
struct Turn {
    under_way: UnderWay,
    key: (PrincipalId, String),
}

impl UnderWay {
    fn begin(&self, principal: PrincipalId, key: &str) -> Option<Turn> {
        let key = (principal, key.to_owned());
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        begun.then(|| Turn { under_way: self.clone(), key })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.under_way.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// The key of a request, and what the request is.
pub(crate) struct Once {
    key: Option<String>,
    request: String,
}

impl<S: Sync> FromRequestParts<S> for Once {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let request = format!("{} {}", parts.method, parts.uri.path());
        let Some(value) = parts.headers.get(HEADER) else {
            return Ok(Self { key: None, request });
        };
        let key = value.to_str().ok().filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()));
        let key = key.ok_or_else(|| {
            ApiError::bad_request("Idempotency-Key takes 1 to 255 characters of ASCII")
        })?;
        Ok(Self { key: Some(key.to_owned()), request })
    }
}

/// An answer that can be given again.
pub(crate) struct Reply<T> {
    pub(crate) status: StatusCode,
    pub(crate) location: String,
    pub(crate) body: T,
}

impl Once {
    /// The call, so that its change keeps its event with the key.
    pub(crate) fn mark(&self, call: Call) -> Call {
        Call { once: self.key.clone(), ..call }
    }

    /// Does what `doing` does, unless the same request was done before. `body` is what the client
    /// sent; `again` makes the reply from the event of the change, when that is all there is of it.
    pub(crate) async fn run<B: Serialize, T: Serialize>(
        self,
        call: &Call,
        body: &B,
        doing: impl Future<Output = Result<Reply<T>, ApiError>>,
        again: impl AsyncFnOnce(Event) -> Result<Reply<T>, ApiError>,
    ) -> Result<Response, ApiError> {
        let Some(key) = &self.key else { return Ok(response(&answer(doing.await?)?)) };
        let body = serde_json::to_vec(body).map_err(|_| ApiError::bad_request("not a body"))?;
        let mut hash = Sha256::new();
        hash.update(self.request.as_bytes());
        hash.update([0]);
        hash.update(&body);
        let hash = hex::encode(hash.finalize());
        let principal = call.caller.principal;
        let Some(_turn) = call.platform.under_way.begin(principal, key) else {
            return Err(ApiError::conflict(
                "the request with this Idempotency-Key is under way; wait for it",
            ));
        };
        let done = match call.store().claim(principal, key, &hash, call.now_ms()).await? {
            Claim::New | Claim::Begun { event: None } => doing.await,
            Claim::Begun { event: Some(position) } => again(event(call, position).await?).await,
            Claim::Answered(answer) => return Ok(response(&answer)),
            Claim::Other => {
                return Err(ApiError::invalid(
                    "Idempotency-Key",
                    "this key was used for another request; use a new one",
                ));
            }
        };
        let done = done.and_then(answer);
        match &done {
            Ok(answer) => call.store().answer(principal, key, answer).await?,
            Err(error) if error.is_refusal() => call.store().disclaim(principal, key).await?,
            // Whether anything was done is known by its event.
            Err(_) => {}
        }
        done.map(|answer| response(&answer))
    }
}

async fn event(call: &Call, position: i64) -> Result<Event, ApiError> {
    let all = EventFilter::all(Visible::All);
    let found =
        call.store().events(&all, Order::OldestAfter(position - 1), 1).await?.into_iter().next();
    found.filter(|event| event.seq == position).ok_or_else(|| {
        ApiError::conflict("what this request did is so long ago that it was forgotten")
    })
}

fn answer<T: Serialize>(reply: Reply<T>) -> Result<Answer, ApiError> {
    let body = serde_json::to_string(&reply.body)
        .map_err(|error| ApiError::unavailable(format!("the answer cannot be written: {error}")))?;
    Ok(Answer { status: reply.status.as_u16(), location: Some(reply.location), body })
}

fn response(answer: &Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = (status, answer.body.clone()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let location = answer.location.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
    if let Some(location) = location {
        headers.insert(header::LOCATION, location);
    }
    response
}
