//! An extension's component, for whoever takes it elsewhere.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_util::io::ReaderStream;

use super::find;
use crate::http::call::Call;
use crate::http::document::Problems;
use crate::http::extract::Path;
use crate::http::problem::ApiError;

/// The component of an extension: the version that is installed, with its digest (RFC 9530).
#[utoipa::path(get, path = "/v1/extensions/{extension}/component", tag = "extensions",
    params(("extension" = String, Path)),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/wasm",
         headers(("repr-digest" = String, description = "Its SHA-256, in base64."))),
        Problems,
    ))]
pub(in crate::http) async fn extension_component(
    call: Call,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let row = find(&call, &id).await?;
    let digest = row.version.component;
    let (file, length) = call.actions().extensions().component(digest).await?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/wasm")),
        (header::CONTENT_LENGTH, length.into()),
    ];
    let repr = format!("sha-256=:{}:", STANDARD.encode(digest.bytes()));
    let body = Body::from_stream(ReaderStream::new(tokio::fs::File::from_std(file)));
    Ok((headers, [("repr-digest", repr)], body).into_response())
}
