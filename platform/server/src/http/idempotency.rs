//! `Idempotency-Key`: the same request twice is done once, and answered twice.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_store::{Answer, Claim};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::call::Call;
use super::problem::ApiError;

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const KEY_BYTES_MAX: usize = 255;

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
    /// Does what `doing` does, unless the same request was done before. `body` is what the client
    /// sent.
    pub(crate) async fn run<B: Serialize, T: Serialize>(
        self,
        call: &Call,
        body: &B,
        doing: impl Future<Output = Result<Reply<T>, ApiError>>,
    ) -> Result<Response, ApiError> {
        let Some(key) = &self.key else { return Ok(response(&answer(doing.await?)?)) };
        let body = serde_json::to_vec(body).map_err(|_| ApiError::bad_request("not a body"))?;
        let mut hash = Sha256::new();
        hash.update(self.request.as_bytes());
        hash.update([0]);
        hash.update(&body);
        let hash = hex::encode(hash.finalize());
        let principal = call.caller.principal;
        match call.store().claim(principal, key, &hash, call.now_ms()).await? {
            Claim::New => {}
            Claim::Answered(answer) => return Ok(response(&answer)),
            Claim::Open => {
                return Err(ApiError::conflict(
                    "the request with this Idempotency-Key is under way, or the platform stopped during it; look whether it was done",
                ));
            }
            Claim::Other => {
                return Err(ApiError::invalid(
                    "Idempotency-Key",
                    "this key was used for another request; use a new one",
                ));
            }
        }
        let done = doing.await.and_then(answer);
        match &done {
            Ok(answer) => call.store().answer(principal, key, answer).await?,
            Err(error) if error.is_refusal() => call.store().disclaim(principal, key).await?,
            // Nobody knows what was done: the key stays taken.
            Err(_) => {}
        }
        done.map(|answer| response(&answer))
    }
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
