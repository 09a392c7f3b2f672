//! Names of sinks to addresses, each judged as those are that guests connect to; the connection goes
//! to an address that was judged.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;

use berth_extensions::outbound::address::{self, AddressRefusal, Surroundings};
use berth_model::drain::Reach;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::sink::SinkError;

/// What a drain may reach, and where this platform's own instances are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judge {
    pub(crate) reach: Reach,
    /// First address of the instances' /16.
    pub(crate) instances: Option<Ipv4Addr>,
}

impl Judge {
    /// Judges one address.
    ///
    /// # Errors
    /// Why it is not connected to.
    pub(crate) fn judge(&self, address: IpAddr) -> Result<(), String> {
        if self.reach == Reach::Any {
            return Ok(());
        }
        let own = address::own().map_err(|error| error.to_string())?;
        let private = self.reach == Reach::Private;
        let around = Surroundings { own: &own, instances: self.instances, private };
        address::judge(address, &around).map_err(|refusal| match refusal {
            AddressRefusal::Private => {
                "only an administrator's drain may reach an address of a private network, or any \
                 drain where the configuration says `[drains] private_addresses = true`"
                    .to_owned()
            }
            AddressRefusal::Never(what) => {
                format!("only an administrator's drain may reach {what} addresses")
            }
        })
    }
}

/// Addresses of a host that may be connected to, at least one.
///
/// # Errors
/// The name is not known; none of its addresses may be connected to.
pub(super) async fn addresses(
    host: &str,
    port: u16,
    judge: Judge,
) -> Result<Vec<SocketAddr>, SinkError> {
    let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => tokio::net::lookup_host((host, port))
            .await
            .map_err(|source| SinkError::Name { host: host.to_owned(), source })?
            .collect(),
    };
    let mut may = Vec::new();
    let mut refused = None;
    for address in found {
        match judge.judge(address.ip()) {
            Ok(()) => may.push(address),
            Err(reason) => refused = Some(reason),
        }
    }
    match refused {
        _ if !may.is_empty() => Ok(may),
        Some(reason) => Err(SinkError::Prohibited { host: host.to_owned(), reason }),
        None => {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            Err(SinkError::Name { host: host.to_owned(), source })
        }
    }
}

/// The same for the HTTP client.
pub(super) struct Resolver {
    pub(super) judge: Judge,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let judge = self.judge;
        let found: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async move {
            let found = addresses(name.as_str(), 0, judge).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn reached(host: &str, reach: Reach) -> bool {
        let judge = Judge { reach, instances: Some(Ipv4Addr::new(10, 200, 0, 0)) };
        match addresses(host, 1, judge).await {
            Ok(found) => !found.is_empty(),
            Err(SinkError::Prohibited { .. }) => false,
            Err(error) => panic!("{host}: {error}"),
        }
    }

    #[tokio::test]
    async fn a_drain_connects_to_what_its_maker_may_reach() {
        for (host, public, private) in [
            ("203.0.113.9", true, true),
            ("10.1.2.3", false, true),
            ("fd12::1", false, true),
            ("10.200.3.4", false, false),
            ("127.0.0.1", false, false),
            ("localhost", false, false),
            ("::1", false, false),
            ("::ffff:127.0.0.1", false, false),
            ("169.254.169.254", false, false),
        ] {
            assert_eq!(reached(host, Reach::Public).await, public, "{host}");
            assert_eq!(reached(host, Reach::Private).await, private, "{host}");
            assert!(reached(host, Reach::Any).await, "{host}");
        }
    }

    #[tokio::test]
    async fn no_drain_of_a_team_connects_to_this_machine_by_any_of_its_addresses() {
        for own in address::own().unwrap() {
            assert!(!reached(&own.to_string(), Reach::Private).await, "{own}");
        }
    }
}
