//! Parts of requests; what is wrong with them is said in a problem document.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::problem::ApiError;

/// How long a client may take to send a body.
const BODY_WAIT: Duration = Duration::from_secs(30);

/// Names in the path.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub(crate) struct Path<T>(pub(crate) T);

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", rejection.body_text())
    }
}

/// Parameters after the question mark.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub(crate) struct Query<T>(pub(crate) T);

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

/// A body of JSON.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        // A page of another site cannot send this type without asking first.
        let is_json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"));
        if !is_json {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "Not JSON",
                "send a body of the type application/json",
            ));
        }
        let bytes = tokio::time::timeout(BODY_WAIT, Bytes::from_request(request, state))
            .await
            .map_err(|_| {
                let detail = "the body did not arrive in 30 seconds";
                ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", "Too slow", detail)
            })?
            .map_err(body_error)?;
        parse(&bytes).map(Self)
    }
}

fn body_error(rejection: BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let detail = "a body may have 1 MiB";
        return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large", detail);
    }
    let _ = rejection.into_response();
    ApiError::bad_request("the body did not arrive whole")
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let pointer = pointer(error.path());
        if error.inner().is_data() {
            ApiError::invalid(pointer, error.into_inner().to_string())
        } else {
            ApiError::bad_request(format!("the body is not JSON: {}", error.into_inner()))
        }
    })?;
    reader
        .end()
        .map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))?;
    Ok(value)
}

/// RFC 6901.
fn pointer(path: &serde_path_to_error::Path) -> String {
    path.iter().fold(String::new(), |pointer, segment| match segment {
        Segment::Seq { index } => format!("{pointer}/{index}"),
        Segment::Map { key } => format!("{pointer}/{}", escaped(key)),
        Segment::Enum { .. } | Segment::Unknown => pointer,
    })
}

/// A name as part of a JSON pointer.
pub(crate) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A part of a body that has a form of its own: a name, a role.
pub(crate) fn field<T: FromStr<Err: Display>>(pointer: &str, text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|error: T::Err| ApiError::invalid(pointer, error.to_string()))
}

/// The `If-Match` header: the generation that an app must have.
pub(crate) struct Expected(pub(crate) Option<u64>);

impl<S: Sync> FromRequestParts<S> for Expected {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else { return Ok(Self(None)) };
        value
            .to_str()
            .ok()
            .and_then(|value| value.trim_matches('"').parse().ok())
            .map(|generation| Self(Some(generation)))
            .ok_or_else(|| ApiError::bad_request("If-Match takes an app's generation: \"7\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_in_a_body_is_pointed_at() {
        let error = parse::<berth_api::Scale>(br#"{"processes":{"a/b":"x"}}"#).err();
        let text = format!("{error:?}");
        assert!(text.contains("/processes/a~1b"), "{text}");
    }

    #[test]
    fn what_follows_the_json_is_refused() {
        assert!(parse::<u8>(b"1 2").is_err());
        assert!(parse::<u8>(b" 1 ").is_ok());
    }
}
