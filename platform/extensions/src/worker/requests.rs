//! Requests from the router: HTTP/1.1 over a unix socket.

use std::convert::Infallible;
use std::sync::Arc;

use berth_model::InstanceId;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::app::{AppBody, AppError, AppHost, ERROR_HEADER};

/// Names the instance; the router removes it from what clients send.
const INSTANCE_HEADER: &str = "berth-instance";

/// Answers the requests of one connection, until it ends or, after `closing`, between two of them.
pub(super) async fn connection(
    stream: UnixStream,
    host: Arc<AppHost>,
    mut closing: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| {
        let host = Arc::clone(&host);
        async move { Ok::<_, Infallible>(answer(&host, request).await) }
    });
    let served = http1::Builder::new()
        .max_buf_size(128 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    let closing = async {
        // An error means that the worker is gone, which closes as well.
        let _ = closing.wait_for(|closing| *closing).await;
    };
    let ended = tokio::select! {
        ended = served.as_mut() => Some(ended),
        () = closing => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the router ended early");
    }
}

async fn answer(
    host: &AppHost,
    mut request: Request<Incoming>,
) -> Response<Either<AppBody, Full<Bytes>>> {
    let instance = request
        .headers_mut()
        .remove(INSTANCE_HEADER)
        .and_then(|id| id.to_str().ok()?.parse::<InstanceId>().ok());
    let answered = match instance {
        Some(instance) => host.serve(instance, request).await,
        None => Err(AppError::NotLoaded),
    };
    match answered {
        Ok(response) => response.map(Either::Left),
        Err(error) => refusal(&error),
    }
}

/// What went wrong inside the app stands in its log, not here.
fn refusal(error: &AppError) -> Response<Either<AppBody, Full<Bytes>>> {
    let code = error.code();
    let mut response = Response::new(Either::Right(Full::from(format!("{code}\n"))));
    *response.status_mut() = error.status();
    let headers = response.headers_mut();
    headers.insert(ERROR_HEADER, HeaderValue::from_static(code));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if matches!(error, AppError::Overload | AppError::NotLoaded) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
