//! HTTPS: JSON lines, posted in batches. Every success is a receipt.

use std::sync::Arc;
use std::time::Duration;

use berth_model::text::printable;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, redirect};

use super::{CONNECT_MAX, SinkError, Target, WRITE_MAX};
use crate::drains::resolve::{Resolver, addresses};
use crate::drains::tls;

/// Most bytes of one request.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Longest wait that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);
/// Bytes of an answer that are shown.
const SAID_BYTES_MAX: usize = 200;

pub(in crate::drains) struct Https {
    target: Target,
    client: Option<Client>,
}

impl Https {
    pub(super) fn new(target: Target) -> Self {
        Self { target, client: None }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) async fn write(&mut self, frames: &[Vec<u8>]) -> Result<(), SinkError> {
        let host = self.target.url.host();
        if host.parse::<std::net::IpAddr>().is_ok() {
            // The client asks the resolver for names only.
            addresses(host, self.target.url.port(), self.target.judge).await?;
        }
        if self.client.is_none() {
            self.client = Some(client(&self.target)?);
        }
        let Some(client) = &self.client else { return Ok(()) };
        let mut rest = frames;
        while !rest.is_empty() {
            let (body, count) = body(rest);
            self.post(client, body).await?;
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    async fn post(&self, client: &Client, body: Vec<u8>) -> Result<(), SinkError> {
        let request = client
            .post(self.target.url.reveal())
            .header(CONTENT_TYPE, "application/x-ndjson")
            .timeout(WRITE_MAX)
            .body(body);
        let mut answer = request.send().await.map_err(|error| self.no_answer(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let retry_after = retry_after(&answer);
        // The beginning tells enough, and a server may answer for ever.
        let said = answer.chunk().await.ok().flatten();
        let said = said.map(|bytes| printable(&String::from_utf8_lossy(&bytes), SAID_BYTES_MAX));
        Err(SinkError::Answer {
            to: self.target.to(),
            status: status.as_u16(),
            said: said.filter(|said| !said.is_empty()),
            retry_after,
            never: is_never(status.as_u16()),
        })
    }

    fn no_answer(&self, error: &reqwest::Error) -> SinkError {
        // The error itself shows the address; what caused it does not.
        let mut reason =
            if error.is_timeout() { "it took too long" } else { "no connection" }.to_owned();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            reason = error.to_string();
            cause = error.source();
        }
        SinkError::Request { to: self.target.to(), reason }
    }
}

/// Answers about what was sent, which will be the same the next time. All others may change: a
/// server is mended, a path or a token comes to be.
fn is_never(status: u16) -> bool {
    matches!(status, 400 | 406 | 411 | 413 | 415 | 422 | 431)
}

/// Seconds only: dates are rare, and a clock may be wrong.
fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds: u64 = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// As many messages as one request takes, at least one.
fn body(frames: &[Vec<u8>]) -> (Vec<u8>, usize) {
    let mut body = Vec::new();
    let mut count = 0;
    for frame in frames {
        if count > 0 && body.len() + frame.len() > BODY_BYTES_MAX {
            break;
        }
        body.extend_from_slice(frame);
        count += 1;
    }
    (body, count)
}

fn client(target: &Target) -> Result<Client, SinkError> {
    let config = tls::client(target.ca.as_deref())?;
    Client::builder()
        .use_preconfigured_tls((*config).clone())
        .https_only(true)
        // A proxy would resolve the name by itself; another place was not named by anybody.
        .no_proxy()
        .redirect(redirect::Policy::none())
        .dns_resolver(Arc::new(Resolver { judge: target.judge }))
        .connect_timeout(CONNECT_MAX)
        .pool_max_idle_per_host(1)
        .user_agent(concat!("berth/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| SinkError::Request {
            to: target.to(),
            reason: error.without_url().to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_holds_a_megabyte_at_most_but_at_least_one_message() {
        let frames = vec![vec![b'x'; BODY_BYTES_MAX + 1], vec![b'y'; 10], vec![b'z'; 10]];
        let (first, count) = body(&frames);
        assert_eq!((first.len(), count), (BODY_BYTES_MAX + 1, 1));
        let (second, count) = body(&frames[1..]);
        assert_eq!((second.len(), count), (20, 2));
    }
}
