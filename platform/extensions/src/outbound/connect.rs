//! From a target to a connection whose address was judged.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::address::{self, Surroundings};
use super::request::Target;
use super::{Granted, Outbound, OutboundError};

/// One address that does not answer must not use up the time of the others.
const ADDRESS_MAX: Duration = Duration::from_secs(4);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// A connection, with or without TLS.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}
pub(super) type Stream = Box<dyn Duplex>;

impl Outbound {
    pub(super) async fn connect(
        &self,
        target: &Target,
        granted: Granted,
    ) -> Result<Stream, OutboundError> {
        let stream = self.reach(target, granted).await?;
        if !target.secure {
            return Ok(Box::new(stream));
        }
        let tls = |reason: String| OutboundError::Tls { host: target.host.clone(), reason };
        let name = ServerName::try_from(target.host.clone())
            .map_err(|_| tls("that is no name of a certificate".to_owned()))?;
        let connector = TlsConnector::from(self.tls().await.map_err(tls)?);
        let secured = connector.connect(name, stream).await;
        Ok(Box::new(secured.map_err(|error| tls(reason(&error)))?))
    }

    async fn reach(&self, target: &Target, granted: Granted) -> Result<TcpStream, OutboundError> {
        let host = || target.host.clone();
        let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
        let found: Vec<SocketAddr> = found
            .map_err(|error| OutboundError::Name { host: host(), reason: error.to_string() })?
            .take(ADDRESSES_MAX)
            .collect();
        let unreachable = |reason: String| OutboundError::Unreachable { host: host(), reason };
        let own = address::own().map_err(|error| unreachable(error.to_string()))?;
        let around =
            Surroundings { own: &own, instances: self.instances, private: granted.private };
        let mut last = unreachable("it has no address".to_owned());
        for address in found {
            // Judged and then connected to by the same value: a second answer of the name service
            // cannot come in between.
            if let Err(refusal) = address::judge(address.ip(), &around) {
                last = OutboundError::Prohibited { host: host(), refusal };
                continue;
            }
            match timeout(ADDRESS_MAX, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = unreachable(error.to_string()),
                Err(_) => last = unreachable("nothing comes back".to_owned()),
            }
        }
        Err(last)
    }

    /// The settings of TLS, with the machine's certificates; read once.
    async fn tls(&self) -> Result<Arc<rustls::ClientConfig>, String> {
        if let Some(config) = self.tls.get() {
            return Ok(Arc::clone(config));
        }
        let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
        let found = found.await.map_err(|error| error.to_string())?;
        let mut roots = rustls::RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            return Err(
                "this machine trusts no certificate (ca-certificates is missing)".to_owned()
            );
        }
        let config = config(roots).map_err(|error| error.to_string())?;
        Ok(Arc::clone(self.tls.get_or_init(|| Arc::new(config))))
    }
}

/// TLS 1.2 and 1.3 for HTTP/1.1.
pub(super) fn config(roots: rustls::RootCertStore) -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// What an error and its causes say, for people; bounded.
pub(super) fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text.chars().take(300).collect()
}

impl From<OutboundError> for io::Error {
    fn from(error: OutboundError) -> Self {
        Self::other(error)
    }
}
