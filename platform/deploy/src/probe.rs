//! Is an instance ready? Its port accepts, or its check path answers.
//!
//! The first probe comes soon, the next ones with pauses that grow with the time that the app has
//! taken already, so that a fast app is found at once and a slow one is not hammered. A probe
//! sends nothing of an app's data and reads no more than an error needs.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_model::manifest::HttpCheck;
use berth_model::rollout::Timeouts;
use berth_model::text::printable;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Bytes of an answer that an error repeats.
const EXCERPT_BYTES_MAX: usize = 300;

/// Why the last probe failed, for people; shared with whoever explains a failure.
pub(crate) type LastProbe = Arc<Mutex<Option<String>>>;

/// Returns when the instance is ready. Never gives up: whoever set the deadline drops it.
pub(crate) async fn until_ready(
    address: SocketAddr,
    check: Option<&HttpCheck>,
    timeouts: Timeouts,
    last: LastProbe,
) {
    let began = Instant::now();
    let first = Duration::from_millis(timeouts.probe_first_ms.into());
    let most = Duration::from_millis(timeouts.probe_pause_ms_max.into()).max(first);
    loop {
        // At most an eighth of what the app took so far is lost by looking late.
        sleep((began.elapsed() / 8).clamp(first, most)).await;
        let limit = Duration::from_millis(timeouts.probe_ms_max.into());
        let outcome = match timeout(limit, probe(address, check)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("it did not answer within {} ms", limit.as_millis())),
        };
        let Err(reason) = outcome else { return };
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }
}

/// One probe. The reason of a failure continues "the last probe failed: ".
async fn probe(address: SocketAddr, check: Option<&HttpCheck>) -> Result<(), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "the connection was refused".to_owned(),
        _ => error.to_string(),
    })?;
    match check {
        None => Ok(()),
        Some(check) => request(stream, &check.path).await,
    }
}

async fn request(stream: TcpStream, path: &str) -> Result<(), String> {
    let request = http::Request::get(path)
        .header(http::header::HOST, "localhost")
        .header(http::header::USER_AGENT, "berth-check/1")
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("GET {path} is not a request: {error}"))?;
    let failed = |error: hyper::Error| format!("GET {path} got no answer: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        if status.is_success() || status.is_redirection() {
            return Ok(());
        }
        let mut body = answer.into_body();
        let mut excerpt = Vec::new();
        while excerpt.len() < EXCERPT_BYTES_MAX {
            let Some(Ok(frame)) = body.frame().await else { break };
            excerpt.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
        }
        excerpt.truncate(EXCERPT_BYTES_MAX);
        let excerpt: Vec<_> =
            String::from_utf8_lossy(&excerpt).lines().map(str::to_owned).collect();
        let excerpt = printable(&excerpt.join(" "), EXCERPT_BYTES_MAX);
        Err(format!("GET {path} answered {status}: {excerpt}"))
    };
    // How the connection ends is told to the exchange, which may have more to read by then.
    let connection = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        outcome = exchange => outcome,
        never = connection => never,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn quick() -> Timeouts {
        Timeouts {
            probe_first_ms: 1,
            probe_pause_ms_max: 5,
            probe_ms_max: 200,
            ..Timeouts::default()
        }
    }

    /// Answers each connection with the next of `answers`, the last one again and again.
    async fn server(answers: Vec<&'static str>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut answers = answers.into_iter().peekable();
            while let Ok((mut stream, _)) = listener.accept().await {
                let last = answers.len() <= 1;
                let answer = if last { *answers.peek().unwrap() } else { answers.next().unwrap() };
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    async fn ready(address: SocketAddr, path: Option<&str>) -> (bool, Option<String>) {
        let last = LastProbe::default();
        let check = path.map(|path| HttpCheck { path: path.to_owned() });
        let probing = until_ready(address, check.as_ref(), quick(), Arc::clone(&last));
        let ready = timeout(Duration::from_millis(1500), probing).await.is_ok();
        let reason = last.lock().unwrap().clone();
        (ready, reason)
    }

    #[tokio::test]
    async fn without_a_check_an_open_port_is_ready_and_a_closed_one_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(ready(address, None).await.0);
        drop(listener);
        let (is_ready, reason) = ready(address, None).await;
        assert!(!is_ready);
        assert_eq!(reason.as_deref(), Some("the connection was refused"));
    }

    #[tokio::test]
    async fn a_check_waits_for_2xx_or_3xx() {
        let error = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nsoon";
        for good in [
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 301 Moved\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n",
        ] {
            let address = server(vec![error, error, good]).await;
            let (is_ready, reason) = ready(address, Some("/up")).await;
            assert!(is_ready);
            let reason = reason.unwrap();
            assert_eq!(reason, "GET /up answered 503 Service Unavailable: soon");
        }
    }

    #[tokio::test]
    async fn a_server_error_is_repeated_in_one_short_line() {
        let address =
            server(vec!["HTTP/1.1 500 Internal Server Error\r\n\r\nboom\n\u{1b}[2Jat line 3"])
                .await;
        let (is_ready, reason) = ready(address, Some("/")).await;
        assert!(!is_ready);
        let reason = reason.unwrap();
        assert!(reason.contains("500 Internal Server Error: boom"), "{reason}");
        assert!(!reason.contains('\u{1b}') && !reason.contains('\n'), "{reason}");
    }

    #[tokio::test]
    async fn what_accepts_and_says_nothing_is_not_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (is_ready, reason) = ready(listener.local_addr().unwrap(), Some("/")).await;
        assert!(!is_ready);
        assert!(reason.unwrap().contains("did not answer"));
    }
}
