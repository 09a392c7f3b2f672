//! What an extension is: its name and kind, what it asks for, what it was granted, and when it is
//! called no longer.
//!
//! Takes manifests and outcomes; gives decisions. Whether an extension may do something is decided
//! here once, for the installation and for every call.

mod breaker;
mod capability;
mod delivery;
mod manifest;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use breaker::{Breaker, BreakerRules, BreakerState};
pub use capability::{
    Body, Capabilities, EventKinds, Grant, HostPattern, HttpAccess, HttpDenial, Kv, Named, Reason,
};
pub use delivery::{DeliveryRules, Next};
pub use manifest::{
    ExtensionManifest, Filter, LimitsAsked, MANIFEST_BYTES_MAX, ManifestError, OnFailure,
};
pub(crate) use manifest::{is_version, unfit};

/// What an extension is for. Each kind is one WIT world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Is told what happened, or what is about to happen.
    Hook,
    /// Judges plans.
    Policy,
    /// Stands before apps in the router.
    Middleware,
    /// Changes what a drain sends.
    LogProcessor,
    /// Describes a database or cache of an app.
    Addon,
    /// Describes pages and panels, as data.
    Console,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Hook,
        Self::Policy,
        Self::Middleware,
        Self::LogProcessor,
        Self::Addon,
        Self::Console,
    ];

    /// The text form, which is also the name of its WIT package.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hook => "hook",
            Self::Policy => "policy",
            Self::Middleware => "middleware",
            Self::LogProcessor => "log-processor",
            Self::Addon => "addon",
            Self::Console => "console",
        }
    }

    /// Version of the WIT package; accepted exactly, until the interfaces are frozen.
    pub const fn api_version(self) -> &'static str {
        "0.1.0"
    }

    /// The WIT package, as manifests name it: `berth:hook@0.1.0`.
    pub fn api(self) -> String {
        format!("berth:{self}@{}", self.api_version())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
            let all = Self::ALL.map(Self::as_str).join(", ");
            format!("'{shown}' is not a kind of extension: {all}")
        })
    }
}

/// The name of an extension, which never changes: `acme.slack-notify`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ExtensionId(String);

/// A text that does not name an extension.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not an extension's id: write who publishes it, a dot, and its name, each of 1 to 40 \
     lower-case letters, digits and hyphens, as in acme.slack-notify"
)]
pub struct ExtensionIdError(String);

impl ExtensionId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExtensionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ExtensionId {
    type Err = ExtensionIdError;

    fn from_str(text: &str) -> Result<Self, ExtensionIdError> {
        let good = text.split_once('.').is_some_and(|(namespace, name)| {
            crate::name::is_label(namespace, 40) && crate::name::is_label(name, 40)
        });
        if good {
            Ok(Self(text.to_owned()))
        } else {
            let shown = text.chars().take(100).flat_map(char::escape_default).collect();
            Err(ExtensionIdError(shown))
        }
    }
}

impl Serialize for ExtensionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ExtensionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_a_namespace_and_a_name() {
        for good in ["berth.webhook", "a.b", "acme-2.slack-notify"] {
            assert!(good.parse::<ExtensionId>().is_ok(), "{good}");
        }
        for bad in ["", "webhook", ".a", "a.", "a.b.c", "A.b", "a._b", "../a.b", "a.b\n", "a.-b"] {
            assert!(bad.parse::<ExtensionId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn kinds_are_read_as_they_are_written() {
        for kind in Kind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert!("Hook".parse::<Kind>().is_err());
    }
}
