//! What an app that is a component says of itself in `[wasm]` of `berth.toml`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::extension::HostPattern;
use crate::plan::ConfigName;
use crate::size::ByteSize;

/// Powers and limits that a Wasm app asks for. The operator has ceilings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WasmSettings {
    /// Servers that it sends requests to; all others are refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpTarget>,
    /// Names of its configuration that are not in its environment: it has them as handles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<ConfigName>,
    /// Linear memory of one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Processor time of one request, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u32>,
    /// Requests at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u32>,
}

impl WasmSettings {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A server: `api.example.com` (port 443), `*.example.com:8443`, `*:80`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTarget {
    host: HostPattern,
    port: u16,
}

impl HttpTarget {
    /// Whether this host (lower case) and port are meant.
    pub fn matches(&self, host: &str, port: u16) -> bool {
        self.port == port && self.host.matches(host)
    }

    /// The host.
    pub fn host(&self) -> &HostPattern {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.to_string();
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        if self.port == 443 { f.write_str(&host) } else { write!(f, "{host}:{}", self.port) }
    }
}

impl FromStr for HttpTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((v6, rest)) => (v6, rest.strip_prefix(':')),
            None => match text.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let refuse = || {
            let shown: String = text.chars().take(80).flat_map(char::escape_default).collect();
            format!(
                "'{shown}' is not a server: write HOST or HOST:PORT, as in \"api.example.com\" or \"*.example.com:8443\""
            )
        };
        let port = match port {
            None => 443,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(refuse)?,
        };
        Ok(Self { host: host.parse().map_err(|_| refuse())?, port })
    }
}

impl Serialize for HttpTarget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HttpTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port_and_is_written_as_it_was_read() {
        for (text, host, port, meant) in [
            ("api.example.com", "api.example.com", 443, true),
            ("api.example.com", "api.example.com", 80, false),
            ("api.example.com", "x.api.example.com", 443, false),
            ("*.example.com:8443", "a.example.com", 8443, true),
            ("*.example.com:8443", "example.com", 8443, false),
            ("*:80", "anything.example", 80, true),
            ("10.0.0.5:8080", "10.0.0.5", 8080, true),
            ("[2001:db8::1]:8080", "2001:db8::1", 8080, true),
        ] {
            let target: HttpTarget = text.parse().unwrap();
            assert_eq!(target.matches(host, port), meant, "{text} {host}:{port}");
            assert_eq!(target.to_string(), text);
        }
        for bad in [
            "",
            "https://api.example.com",
            "api.example.com:",
            "a:0",
            "a:70000",
            "a b",
            "x/y",
            "API.example.com",
        ] {
            assert!(bad.parse::<HttpTarget>().is_err(), "{bad}");
        }
    }
}
