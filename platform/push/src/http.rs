//! git over smart HTTP (gitprotocol-http): three addresses below `/git/NAME.git/`.
//!
//! The token is the password of basic authentication, with any user name. Bodies are streamed both
//! ways; a client that leaves is noticed when its response is dropped. The dumb protocol is refused.

mod body;
mod credentials;

use std::io::Cursor;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use berth_model::Caller;
use berth_model::text::printable;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

use crate::output::LINE_BYTES_MAX;
use crate::service::{self, Call, InputError, ServiceError};
use crate::ssh::version;
use crate::{Push, PushHost, Repository, Service, pkt};

/// Bytes between a tool and a slow client.
const BUFFER_BYTES: usize = 64 << 10;

/// The routes. The server adds its own checks of the Host header and needs
/// `into_make_service_with_connect_info::<SocketAddr>` for the source address of a call.
pub fn http_router<H: PushHost>(push: Push<H>) -> Router {
    Router::new()
        .route("/git/{name}/info/refs", get(info_refs::<H>))
        .route("/git/{name}/git-receive-pack", post(receive_pack::<H>))
        .route("/git/{name}/git-upload-pack", post(upload_pack::<H>))
        .with_state(push)
}

/// The exit code of git's `die`.
const GIT_DIED: i32 = 128;

#[derive(serde::Deserialize)]
struct Wanted {
    service: Option<String>,
}

async fn info_refs<H: PushHost>(
    State(push): State<Push<H>>,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
    request: Request,
) -> Response {
    let service = match wanted.service.as_deref() {
        Some("git-receive-pack") => Service::Receive,
        Some("git-upload-pack") => Service::Upload,
        Some(_) => return refuse(StatusCode::FORBIDDEN, "There is no such git service here."),
        None => {
            let text = "Berth speaks git's smart protocol only: use git 1.6.6 or later.";
            return refuse(StatusCode::FORBIDDEN, text);
        }
    };
    answer(push, &name, service, true, request).await
}

async fn receive_pack<H: PushHost>(
    State(push): State<Push<H>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    answer(push, &name, Service::Receive, false, request).await
}

async fn upload_pack<H: PushHost>(
    State(push): State<Push<H>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    answer(push, &name, Service::Upload, false, request).await
}

async fn answer<H: PushHost>(
    push: Push<H>,
    name: &str,
    service: Service,
    advertise: bool,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let (caller, repository) = match admit(&push, name, service, &parts).await {
        Ok(admitted) => admitted,
        Err(refused) => return *refused,
    };
    let asked = parts.headers.get("git-protocol").and_then(|value| value.to_str().ok());
    let version = asked.and_then(version).unwrap_or(0);
    let input = match body::input(&parts.headers, body, push.inner.limits.pack_mib_max) {
        Ok(input) => input,
        Err(error) => return failed(&ServiceError::Input(error)),
    };
    serve(push, Call { caller, repository, service, stateless: true, advertise, version }, input)
        .await
}

/// Who calls, and the repository that they may use.
async fn admit<H: PushHost>(
    push: &Push<H>,
    name: &str,
    service: Service,
    parts: &Parts,
) -> Result<(Caller, Repository), Box<Response>> {
    let no = |status, text: &str| Box::new(refuse(status, text));
    let Some(token) = credentials::token(&parts.headers) else {
        let text = "Berth needs a token: any user name, the token as password.";
        return Err(no(StatusCode::UNAUTHORIZED, text));
    };
    let from = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let host = &push.inner.host;
    let Some(caller) = host.caller_of_token(&token, from).await else {
        return Err(no(StatusCode::UNAUTHORIZED, "This token is not known, or has expired."));
    };
    let name = name.strip_suffix(".git").unwrap_or(name);
    match host.open(&caller, service, name).await {
        Ok(repository) => Ok((caller, repository)),
        Err(refusal) if refusal.hidden => Err(no(StatusCode::NOT_FOUND, &refusal.message)),
        Err(refusal) => Err(no(StatusCode::FORBIDDEN, &refusal.message)),
    }
}

/// Runs the service. The status is decided by its first byte: until then a failure has a code of
/// its own, after it git's protocol carries the rest.
async fn serve<H: PushHost>(push: Push<H>, call: Call, input: body::Input) -> Response {
    let (service, advertise) = (call.service, call.advertise);
    let gone = CancellationToken::new();
    let guard = gone.clone().drop_guard();
    let (response, output) = tokio::io::duplex(BUFFER_BYTES);
    let running =
        tokio::spawn(async move { service::run(&push, call, input, output, None, gone).await });
    let mut response = BufReader::with_capacity(BUFFER_BYTES, response);
    let first = response.fill_buf().await.map(<[u8]>::len);
    if !matches!(first, Ok(1..)) {
        // Nothing was said and nothing will be: the end of the task says why.
        match running.await {
            Ok(Ok(exit)) if exit.code == 0 => {}
            Ok(Err(error)) => return failed(&error),
            // What `die` of git ends with before its first word: the body was not of its protocol.
            Ok(Ok(exit)) if exit.code == GIT_DIED && !advertise => {
                tracing::warn!(?exit, "git could not read a request");
                let text = "git could not read the request: its body is not of git's protocol.";
                return refuse(StatusCode::BAD_REQUEST, text);
            }
            other => {
                tracing::error!(?other, "git ended without an answer");
                let text = "git ended without an answer; the platform's log says why.";
                return refuse(StatusCode::INTERNAL_SERVER_ERROR, text);
            }
        }
    }
    let (head, kind) = if advertise {
        let line = pkt::line(format!("# service={}\n", service.as_str()).as_bytes());
        ([line, b"0000".to_vec()].concat(), "advertisement")
    } else {
        (Vec::new(), "result")
    };
    let whole = Guarded { response: Cursor::new(head).chain(response), _guard: guard };
    let body = Body::from_stream(ReaderStream::with_capacity(whole, 32 << 10));
    respond(StatusCode::OK, &format!("application/x-{}-{kind}", service.as_str()), body)
}

/// A response whose end, also an early one, is noticed.
struct Guarded<R> {
    response: R,
    _guard: tokio_util::sync::DropGuard,
}

impl<R: AsyncRead + Unpin> AsyncRead for Guarded<R> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.response).poll_read(context, buffer)
    }
}

fn failed(error: &ServiceError) -> Response {
    let status = match error {
        ServiceError::Busy => StatusCode::SERVICE_UNAVAILABLE,
        ServiceError::Input(InputError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
        ServiceError::Input(_) => StatusCode::BAD_REQUEST,
        ServiceError::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
        ServiceError::Idle(_) | ServiceError::Slow(_) | ServiceError::Gone => {
            StatusCode::REQUEST_TIMEOUT
        }
        ServiceError::Tool(_) | ServiceError::Repository(_) | ServiceError::Pipes(_) => {
            tracing::error!(error = error as &dyn std::error::Error, "a git request failed");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    refuse(status, &error.to_string())
}

/// git prints a plain text as `remote: …`.
fn refuse(status: StatusCode, text: &str) -> Response {
    let text =
        text.lines().map(|line| printable(line, LINE_BYTES_MAX)).collect::<Vec<_>>().join("\n");
    let mut response = respond(status, "text/plain; charset=utf-8", Body::from(text + "\n"));
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Basic realm=\"Berth\", charset=\"UTF-8\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

fn respond(status: StatusCode, content_type: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers: &mut HeaderMap = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(content_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    // The headers of git's own server (http-backend.c): nothing in between may keep an answer.
    headers.insert(header::EXPIRES, HeaderValue::from_static("Fri, 01 Jan 1980 00:00:00 GMT"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, max-age=0, must-revalidate"),
    );
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
