//! The client's side: accepting connections, and serving HTTP/1.1 on each.
//!
//! Every connection is bounded from its first byte: how many there may be in all and per address,
//! how long a head, a body and an answer may take, and how large they may be. A connection that
//! is told to drain finishes what it does, answers with `Connection: close`, and is given a
//! moment for a request that is already on its way.

mod head;
mod socket;
mod watch;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;

pub(crate) use watch::ClientWatch;

use crate::config::{Config, Limits};
use crate::exchange;
use crate::router::Router;
use socket::ClientIo;

/// A client connection, as its requests see it.
pub(crate) struct Client {
    pub(crate) router: Arc<Router>,
    pub(crate) ip: IpAddr,
    pub(crate) watch: Arc<ClientWatch>,
    /// The address, ready for `X-Forwarded-For`.
    pub(crate) ip_value: HeaderValue,
    pub(crate) port_value: HeaderValue,
    _place: OwnedSemaphorePermit,
    _share: Option<Share>,
}

/// Accepts until the router ends. When the router is full, new connections wait in the kernel's
/// backlog and the ones it has are served.
pub(crate) async fn accept(router: Arc<Router>, listener: TcpListener) {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let shares = Arc::new(Shares::default());
    loop {
        let next = async {
            let place = Arc::clone(&router.places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = router.draining.cancelled() => return,
            next = next => next,
        };
        match (place, accepted) {
            (Ok(place), Ok((stream, peer))) => {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                let share = match shares.take(peer.ip(), &router.config.limits) {
                    Ok(share) => share,
                    // Closed without a word: an answer would cost more than it tells.
                    Err(TooMany) => continue,
                };
                let client = Client {
                    router: Arc::clone(&router),
                    ip: peer.ip(),
                    watch: Arc::default(),
                    ip_value: HeaderValue::try_from(peer.ip().to_string())
                        .unwrap_or(HeaderValue::from_static("unknown")),
                    port_value: HeaderValue::from(port),
                    _place: place,
                    _share: share,
                };
                tokio::spawn(serve(Arc::new(client), stream));
            }
            (Err(_), _) => return,
            (_, Err(error)) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// How connections are served.
pub(crate) fn builder(config: &Config) -> Builder {
    let mut http = Builder::new();
    // The socket keeps the deadlines: this one would count idle time as part of a head.
    http.header_read_timeout(None)
        .max_headers(config.limits.request_headers_max)
        .max_header_size(config.limits.request_head_bytes_max)
        .max_buf_size(config.limits.request_head_bytes_max.max(16 * 1024));
    http
}

async fn serve(client: Arc<Client>, stream: TcpStream) {
    let router = Arc::clone(&client.router);
    let io = TokioIo::new(ClientIo::new(stream, Arc::clone(&client)));
    let service = service_fn(move |request| exchange::answer(Arc::clone(&client), request));
    let mut connection = pin!(router.server.serve_connection(io, service).with_upgrades());
    tokio::select! {
        // What goes wrong on a connection was answered and logged where it happened.
        _ = &mut connection => return,
        () = router.draining.cancelled() => {}
    }
    tokio::select! {
        _ = &mut connection => return,
        () = tokio::time::sleep(router.config.deadlines.drain_idle) => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = &mut connection => {}
        () = router.cut.cancelled() => {}
    }
}

/// Connections per client address.
#[derive(Default)]
struct Shares(Mutex<HashMap<IpAddr, usize>>);

/// One connection of an address; given back when dropped.
struct Share {
    shares: Arc<Shares>,
    key: IpAddr,
}

struct TooMany;

impl Shares {
    /// Loopback is exempt: proxies and load generators on this machine speak for many.
    fn take(self: &Arc<Self>, ip: IpAddr, limits: &Limits) -> Result<Option<Share>, TooMany> {
        if ip.is_loopback() {
            return Ok(None);
        }
        let key = match ip {
            IpAddr::V4(_) => ip,
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_insert(0);
        if *count >= limits.connections_per_ip_max {
            return Err(TooMany);
        }
        *count += 1;
        Ok(Some(Share { shares: Arc::clone(self), key }))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.shares.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_of_connections_and_loopback_is_exempt() {
        let shares = Arc::new(Shares::default());
        let limits = Limits { connections_per_ip_max: 2, ..Limits::default() };
        let take = |ip: &str| shares.take(ip.parse().unwrap(), &limits);
        let first = take("192.0.2.1").ok().flatten();
        let _second = take("192.0.2.1").ok().flatten();
        assert!(take("192.0.2.1").is_err());
        assert!(take("192.0.2.2").is_ok());
        drop(first);
        let _third = take("192.0.2.1").ok().flatten().unwrap();
        let _one = take("2001:db8::1").ok().flatten();
        let _other = take("2001:db8::2").ok().flatten();
        assert!(take("2001:db8::3").is_err(), "a /64 is one client");
        for _ in 0..10 {
            assert!(matches!(take("127.0.0.1"), Ok(None)));
        }
    }
}
