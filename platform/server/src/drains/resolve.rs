//! Names of sinks to addresses. Those of private networks are left out unless the drain may reach
//! them; the connection goes to the address that was checked.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use berth_model::drain::is_private;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::sink::SinkError;

/// Addresses of a host, at least one.
///
/// # Errors
/// The name is not known; all its addresses are private.
pub(super) async fn addresses(
    host: &str,
    port: u16,
    private: bool,
) -> Result<Vec<SocketAddr>, SinkError> {
    let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => tokio::net::lookup_host((host, port))
            .await
            .map_err(|source| SinkError::Name { host: host.to_owned(), source })?
            .collect(),
    };
    if found.is_empty() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(SinkError::Name { host: host.to_owned(), source });
    }
    let may: Vec<SocketAddr> =
        found.into_iter().filter(|address| private || !is_private(address.ip())).collect();
    if may.is_empty() {
        return Err(SinkError::Private { host: host.to_owned() });
    }
    Ok(may)
}

/// The same for the HTTP client.
pub(super) struct Resolver {
    pub(super) private: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let private = self.private;
        let found: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async move {
            let found = addresses(name.as_str(), 0, private).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn private_addresses_are_found_only_where_a_drain_may_reach_them() {
        for host in ["127.0.0.1", "localhost", "::1", "169.254.169.254"] {
            let refused = addresses(host, 1, false).await;
            assert!(matches!(refused, Err(SinkError::Private { .. })), "{host}");
            assert!(!addresses(host, 1, true).await.unwrap().is_empty(), "{host}");
        }
        let public = addresses("203.0.113.9", 7, false).await.unwrap();
        assert_eq!(public, ["203.0.113.9:7".parse().unwrap()]);
    }
}
