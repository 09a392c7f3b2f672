//! Apps that answer as a test wants.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use berth_model::Target;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::target;

pub(crate) type Body = BoxBody<Bytes, Infallible>;

pub(crate) fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(text.into()).boxed())
}

/// An app: an HTTP server, or a script per connection.
pub(crate) struct App {
    /// Connections that were accepted.
    pub(crate) connections: Arc<AtomicUsize>,
    target: Target,
    serving: JoinHandle<()>,
}

impl App {
    /// Answers each request by `answer`.
    pub(crate) async fn http<F, R>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let answer = Arc::new(answer);
        Self::script(move |stream, _| {
            let answer = Arc::clone(&answer);
            async move {
                let service = service_fn(move |request| {
                    let answered = answer(request);
                    async move { Ok::<_, Infallible>(answered.await) }
                });
                let mut http = hyper::server::conn::http1::Builder::new();
                http.max_headers(256);
                let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
            }
        })
        .await
    }

    /// Says the same to everyone.
    pub(crate) async fn saying(words: &'static str) -> Self {
        Self::http(move |_| async move { text(words) }).await
    }

    /// Answers with the request's body.
    pub(crate) async fn echo() -> Self {
        Self::http(|request| async move {
            let body = request.into_body().map_err(|_| ());
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            text(body)
        })
        .await
    }

    /// Answers with the request's head as it arrived, lower-cased names.
    pub(crate) async fn mirror() -> Self {
        Self::http(|request| async move {
            let mut lines = format!("{} {}\n", request.method(), request.uri());
            for (name, value) in request.headers() {
                lines += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
            }
            text(lines)
        })
        .await
    }

    /// Runs `script` on each connection, with the connection's number.
    pub(crate) async fn script<F, R>(script: F) -> Self
    where
        F: Fn(TcpStream, usize) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let serving = tokio::spawn(async move {
            let mut scripts = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { return };
                        stream.set_nodelay(true).unwrap();
                        let n = counter.fetch_add(1, SeqCst);
                        scripts.spawn(script(stream, n));
                    }
                    Some(_) = scripts.join_next() => {}
                }
            }
        });
        Self { connections, target: target(address), serving }
    }

    pub(crate) fn target(&self) -> Target {
        self.target.clone()
    }

    /// Ends the app with all its connections, as SIGKILL would.
    pub(crate) async fn kill(self) {
        self.serving.abort();
        let _ = self.serving.await;
    }
}

/// Reads a request's head from a connection.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// An app that answers with what the test sends on the channel.
pub(crate) async fn streaming_app(kind: &'static str) -> (App, mpsc::Sender<&'static str>) {
    let (sender, receiver) = mpsc::channel::<&'static str>(1);
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    let app = App::http(move |_| {
        let receiver = Arc::clone(&receiver);
        async move {
            let frames = futures_util::stream::unfold(receiver, |receiver| async move {
                let next = receiver.lock().await.recv().await?;
                Some((Ok(Frame::data(Bytes::from(next))), receiver))
            });
            let mut response = Response::new(StreamBody::new(frames).boxed());
            response.headers_mut().insert("content-type", kind.parse().unwrap());
            response
        }
    })
    .await;
    (app, sender)
}
