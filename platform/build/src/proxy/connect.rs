//! From a host name to a connection whose address was judged.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use berth_extensions::outbound::address::{self, Surroundings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Refusal, Shared, matches};

/// Longest answer of the operator's proxy to a CONNECT.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// The operator's proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Upstream {
    host: String,
    port: u16,
    /// Value of `Proxy-Authorization`.
    authorization: Option<String>,
    /// Hosts that are reached without it.
    direct: Vec<String>,
}

impl fmt::Debug for Upstream {
    /// Without its credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({}:{})", self.host, self.port)
    }
}

/// A proxy URL that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the proxy of this machine cannot be used: it must look like http://host:port, with no path (TLS to the proxy itself is not supported)"
)]
pub struct UpstreamError;

impl Upstream {
    /// From the values of `HTTPS_PROXY` and `NO_PROXY`.
    ///
    /// # Errors
    /// The URL is not of the form `http://[user:password@]host[:port]`.
    pub fn parse(url: &str, no_proxy: &str) -> Result<Self, UpstreamError> {
        let rest = url.strip_prefix("http://").ok_or(UpstreamError)?.trim_end_matches('/');
        let (credentials, rest) = match rest.rsplit_once('@') {
            Some((credentials, rest)) => (Some(percent_decoded(credentials)), rest),
            None => (None, rest),
        };
        let (host, port) = match split(rest) {
            Some(found) => found,
            None if !rest.is_empty() && !rest.contains(['/', ':']) => (rest.to_owned(), 80),
            None => return Err(UpstreamError),
        };
        let authorization = credentials.map(|text| {
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
        });
        let direct = no_proxy
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .flat_map(|name| {
                let bare = name.trim_start_matches("*.").trim_start_matches('.');
                [bare.to_owned(), format!("*.{bare}")]
            })
            .collect();
        Ok(Self { host, port, authorization, direct })
    }
}

/// A connection failed; the message is for the build log.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the name does not resolve: {0}")]
    Name(io::Error),
    #[error("it does not answer: {0}")]
    Unreachable(io::Error),
    #[error("it does not answer in time")]
    Late,
    #[error("the operator's proxy refused it ({0})")]
    Upstream(String),
}

/// `host:port`, `[v6]:port`.
pub(super) fn split(authority: &str) -> Option<(String, u16)> {
    let (host, port) = authority.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']').filter(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok())?,
        None => host,
    };
    let named = !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
    named.then(|| (host.to_owned(), port))
}

impl Shared {
    /// Connects to a host after every check. Gives the stream and the address it leads to.
    pub(super) async fn connect(
        &self,
        host: &str,
        port: u16,
    ) -> Result<(TcpStream, Option<IpAddr>), ConnectError> {
        self.admits(host, port)?;
        let limit = Duration::from_secs(self.bounds.connect_s_max);
        timeout(limit, async {
            match &self.policy.upstream {
                Some(upstream) if !matches(&upstream.direct, host) => {
                    // The name is the upstream's to resolve; an address is judged here.
                    if let Ok(address) = host.parse() {
                        self.judge(host, port, address)?;
                    }
                    Ok((through(upstream, host, port).await?, None))
                }
                _ => self.direct(host, port).await,
            }
        })
        .await
        .map_err(|_| ConnectError::Late)?
    }

    async fn direct(
        &self,
        host: &str,
        port: u16,
    ) -> Result<(TcpStream, Option<IpAddr>), ConnectError> {
        let resolved: Vec<SocketAddr> =
            tokio::net::lookup_host((host, port)).await.map_err(ConnectError::Name)?.collect();
        let mut last = ConnectError::Unreachable(io::ErrorKind::AddrNotAvailable.into());
        for address in resolved {
            // Judged and then connected to by the same value: a second answer of the name service
            // cannot come in between.
            if let Err(refusal) = self.judge(host, port, address.ip()) {
                last = refusal;
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok((stream, Some(address.ip()))),
                Err(error) => last = ConnectError::Unreachable(error),
            }
        }
        Err(last)
    }

    fn judge(&self, host: &str, port: u16, address: IpAddr) -> Result<(), ConnectError> {
        let own = address::own().map_err(ConnectError::Unreachable)?;
        let private = matches(&self.policy.private_hosts, host) || self.pinned(host, port);
        let around = Surroundings { own: &own, instances: self.policy.instances, private };
        Ok(address::judge(address, &around).map_err(Refusal::from)?)
    }
}

/// A tunnel through the operator's proxy.
async fn through(upstream: &Upstream, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let mut stream = TcpStream::connect((upstream.host.as_str(), upstream.port))
        .await
        .map_err(ConnectError::Unreachable)?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some(value) = &upstream.authorization {
        request.push_str(&format!("Proxy-Authorization: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(ConnectError::Unreachable)?;
    // Byte by byte, so that nothing of the tunnel's own bytes is taken.
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == ANSWER_BYTES_MAX {
            return Err(ConnectError::Upstream("its answer is too long".to_owned()));
        }
        answer.push(stream.read_u8().await.map_err(ConnectError::Unreachable)?);
    }
    let line = String::from_utf8_lossy(&answer);
    let status = line.split_whitespace().nth(1).unwrap_or("no status");
    if status == "200" {
        Ok(stream)
    } else {
        Err(ConnectError::Upstream(status.chars().take(20).collect()))
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_a_port() {
        assert_eq!(split("example.org:443"), Some(("example.org".to_owned(), 443)));
        assert_eq!(split("[::1]:80"), Some(("::1".to_owned(), 80)));
        for bad in [
            "example.org",
            "example.org:0",
            "example.org:70000",
            ":80",
            "[::1:80",
            "a b:80",
            "a/b:80",
            "user@host:80",
        ] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_proxy_url_gives_host_port_and_credentials_that_are_never_shown() {
        let upstream = Upstream::parse(
            "http://me:p%40ss@proxy.example.org:3128/",
            "localhost, .internal,*.corp",
        )
        .unwrap();
        assert_eq!((upstream.host.as_str(), upstream.port), ("proxy.example.org", 3128));
        assert_eq!(upstream.authorization.as_deref(), Some("Basic bWU6cEBzcw=="));
        assert!(
            matches(&upstream.direct, "a.internal")
                && matches(&upstream.direct, "internal")
                && matches(&upstream.direct, "x.corp")
        );
        assert!(!matches(&upstream.direct, "notinternal"));
        assert_eq!(format!("{upstream:?}"), "Upstream(proxy.example.org:3128)");
        assert!(Upstream::parse("https://proxy:1", "").is_err());
        assert!(Upstream::parse("http://proxy/path", "").is_err());
        assert_eq!(Upstream::parse("http://proxy", "").unwrap().port, 80);
    }
}
