//! Addresses of sinks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// Longest address, bytes.
const BYTES_MAX: usize = 2000;

/// How a sink is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SinkKind {
    /// RFC 5426: one message a datagram.
    #[serde(rename = "syslog+udp")]
    SyslogUdp,
    /// RFC 6587 with octet counting.
    #[serde(rename = "syslog+tcp")]
    SyslogTcp,
    /// RFC 5425.
    #[serde(rename = "syslog+tls")]
    SyslogTls,
    /// GELF 1.1 in datagrams, in chunks where a message is long.
    #[serde(rename = "gelf+udp")]
    GelfUdp,
    /// GELF 1.1 in a stream, each message ended by a null byte.
    #[serde(rename = "gelf+tcp")]
    GelfTcp,
    /// JSON lines, posted in batches.
    #[serde(rename = "https")]
    Https,
}

impl SinkKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::SyslogUdp,
        Self::SyslogTcp,
        Self::SyslogTls,
        Self::GelfUdp,
        Self::GelfTcp,
        Self::Https,
    ];

    /// The scheme of its addresses.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::SyslogUdp => "syslog+udp",
            Self::SyslogTcp => "syslog+tcp",
            Self::SyslogTls => "syslog+tls",
            Self::GelfUdp => "gelf+udp",
            Self::GelfTcp => "gelf+tcp",
            Self::Https => "https",
        }
    }

    /// The registered port; for GELF the one that its servers use.
    const fn port(self) -> u16 {
        match self {
            Self::SyslogUdp => 514,
            // RFC 6587 3.3 knows no port of its own; 601 is registered by RFC 3195 for syslog on TCP.
            Self::SyslogTcp => 601,
            Self::SyslogTls => 6514,
            Self::GelfUdp | Self::GelfTcp => 12201,
            Self::Https => 443,
        }
    }

    /// Whether certificates are checked.
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Self::SyslogTls | Self::Https)
    }
}

/// A text that is no address of a sink. It never repeats the text, which may hold a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkUrlError {
    /// It is no URL.
    #[error(
        "that is not an address of a drain: {0}; write it as in syslog+tls://logs.example.com:6514"
    )]
    Form(String),
    /// Nobody speaks that.
    #[error(
        "a drain's address begins with syslog+udp://, syslog+tcp://, syslog+tls://, gelf+udp://, \
         gelf+tcp:// or https://"
    )]
    Scheme,
    /// A part that the protocol has no use for.
    #[error("{0} has no place for {1}; give the host and the port alone")]
    Part(&'static str, &'static str),
}

/// The address of a sink, which was checked. `Display` and `Debug` leave out what may be a
/// credential: user, password, path and query.
#[derive(Clone, PartialEq, Eq)]
pub struct SinkUrl {
    kind: SinkKind,
    url: Url,
    host: String,
    port: u16,
}

impl SinkUrl {
    /// How it is spoken to.
    pub fn kind(&self) -> SinkKind {
        self.kind
    }

    /// A name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The whole address, credentials included: for the connection and for the sealed column.
    pub fn reveal(&self) -> &str {
        self.url.as_str()
    }
}

impl FromStr for SinkUrl {
    type Err = SinkUrlError;

    fn from_str(text: &str) -> Result<Self, SinkUrlError> {
        if text.len() > BYTES_MAX {
            return Err(SinkUrlError::Form(format!("it is longer than {BYTES_MAX} bytes")));
        }
        let url = Url::parse(text.trim()).map_err(|error| SinkUrlError::Form(error.to_string()))?;
        let kind = SinkKind::ALL
            .into_iter()
            .find(|kind| kind.scheme() == url.scheme())
            .ok_or(SinkUrlError::Scheme)?;
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_ascii_lowercase(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err(SinkUrlError::Form("it has no host".to_owned())),
        };
        // Schemes that the URL standard does not know have hosts that it does not check.
        let is_name = host.parse::<crate::Domain>().is_ok() && !host.starts_with('*');
        if !is_name && host.parse::<std::net::IpAddr>().is_err() {
            return Err(SinkUrlError::Form("its host is neither a name nor an address".to_owned()));
        }
        if kind != SinkKind::Https {
            let part = |what| Err(SinkUrlError::Part(kind.scheme(), what));
            if !url.username().is_empty() || url.password().is_some() {
                return part("a user or a password");
            }
            if !matches!(url.path(), "" | "/") {
                return part("a path");
            }
            if url.query().is_some() {
                return part("a query");
            }
        }
        if url.fragment().is_some() {
            return Err(SinkUrlError::Part(kind.scheme(), "a fragment"));
        }
        let port = url.port().unwrap_or(kind.port());
        if port == 0 {
            return Err(SinkUrlError::Form("its port is 0".to_owned()));
        }
        Ok(Self { kind, host, port, url })
    }
}

impl fmt::Display for SinkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.kind.scheme();
        let hidden = self.url.password().is_some() || !self.url.username().is_empty();
        let user = if hidden { "***@" } else { "" };
        if self.host.contains(':') {
            write!(f, "{scheme}://{user}[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "{scheme}://{user}{}:{}", self.host, self.port)?;
        }
        if !matches!(self.url.path(), "" | "/") || self.url.query().is_some() {
            f.write_str("/***")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SinkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_its_scheme_host_and_port() {
        for (text, host, port, shown) in [
            (
                "syslog+udp://logs.example.com",
                "logs.example.com",
                514,
                "syslog+udp://logs.example.com:514",
            ),
            ("syslog+tcp://10.0.0.7:1514", "10.0.0.7", 1514, "syslog+tcp://10.0.0.7:1514"),
            ("syslog+tls://[::1]:6514/", "::1", 6514, "syslog+tls://[::1]:6514"),
            (
                "gelf+udp://Graylog.Example.com",
                "graylog.example.com",
                12201,
                "gelf+udp://graylog.example.com:12201",
            ),
            ("gelf+tcp://g:9", "g", 9, "gelf+tcp://g:9"),
            ("https://logs.example.com", "logs.example.com", 443, "https://logs.example.com:443"),
        ] {
            let url: SinkUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.port(), url.to_string().as_str()), (host, port, shown));
        }
    }

    #[test]
    fn what_may_be_a_credential_is_never_shown() {
        let url: SinkUrl =
            "https://user:swordfish@logs.example.com/inputs/swordfish/tag?token=swordfish"
                .parse()
                .unwrap();
        assert_eq!(url.to_string(), "https://***@logs.example.com:443/***");
        assert!(!format!("{url:?}").contains("swordfish"));
        assert!(url.reveal().contains("swordfish"));
        for bad in
            ["syslog+tcp://swordfish@x", "ftp://swordfish@x", "https://x:swordfish", "swordfish"]
        {
            let error = bad.parse::<SinkUrl>().unwrap_err().to_string();
            assert!(!error.contains("swordfish"), "{error}");
        }
    }

    #[test]
    fn what_is_no_address_of_a_sink_is_refused() {
        for bad in [
            "",
            "logs.example.com:514",
            "http://logs.example.com/",
            "syslog://x",
            "syslog+tcp://",
            "syslog+tcp:///x",
            "syslog+tcp://a b",
            "syslog+tcp://a%20b",
            "syslog+tcp://*.x",
            "syslog+tcp://x/path",
            "syslog+tcp://x?y",
            "syslog+tcp://x#y",
            "syslog+tcp://x:0",
            "syslog+tcp://x:70000",
            "https://x/#y",
        ] {
            assert!(bad.parse::<SinkUrl>().is_err(), "{bad}");
        }
        assert!(format!("https://x/{}", "a".repeat(2000)).parse::<SinkUrl>().is_err());
    }
}
