//! What the operator says about the instances' network.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Section `network` of the operator's configuration, handed on to the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSettings {
    /// The instances' range. Without one, it is a free one of 10.200.0.0/16 to 10.223.0.0/16.
    pub range: Option<NetworkRange>,
    /// Instances may reach private addresses by the default route.
    pub private_ranges: bool,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self { range: None, private_ranges: true }
    }
}

/// A /16 of private addresses (RFC 1918) or of those between a provider and its customers
/// (RFC 6598): an instance's address never hides a public one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkRange(Ipv4Addr);

/// A text that is no [`NetworkRange`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no network of instances: it must be a /16 of private addresses that begins with its \
     first one, such as 10.77.0.0/16"
)]
pub struct BadRange(String);

impl NetworkRange {
    /// The first address.
    #[must_use]
    pub fn base(self) -> Ipv4Addr {
        self.0
    }
}

impl FromStr for NetworkRange {
    type Err = BadRange;

    fn from_str(text: &str) -> Result<Self, BadRange> {
        let base = text.strip_suffix("/16").and_then(|base| base.parse::<Ipv4Addr>().ok());
        base.filter(|base| {
            let [first, second, rest @ ..] = base.octets();
            let shared = first == 100 && second & 0xc0 == 64;
            (base.is_private() || shared) && rest == [0, 0]
        })
        .map(Self)
        .ok_or_else(|| BadRange(text.to_owned()))
    }
}

impl TryFrom<String> for NetworkRange {
    type Error = BadRange;

    fn try_from(text: String) -> Result<Self, BadRange> {
        text.parse()
    }
}

impl From<NetworkRange> for String {
    fn from(range: NetworkRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for NetworkRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/16", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_a_whole_16_of_private_addresses() {
        for text in ["10.77.0.0/16", "172.31.0.0/16", "192.168.0.0/16", "100.127.0.0/16"] {
            assert_eq!(text.parse::<NetworkRange>().unwrap().to_string(), text);
        }
        for text in [
            "10.77.0.0",
            "10.77.0.0/8",
            "10.77.0.0/24",
            "10.77.1.0/16",
            "10.77.0.1/16",
            "172.32.0.0/16",
            "100.128.0.0/16",
            "203.0.0.0/16",
            "127.0.0.0/16",
            "169.254.0.0/16",
            "fd00::/16",
            "",
        ] {
            let error = text.parse::<NetworkRange>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
