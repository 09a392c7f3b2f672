//! Identifiers: a prefix that names the noun and a UUIDv7, so that ids sort by creation time.
//! The text form `app_0192…` (prefix, underscore, 32 lower-case hex digits) is the only form that
//! leaves the process; it is safe as a file name and as an interface between privileges.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A text that is not an identifier of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not an id of the form {prefix}_ and 32 lower-case hex digits")]
pub struct IdError {
    prefix: &'static str,
    text: String,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix of the text form.
            pub const PREFIX: &'static str = $prefix;

            /// A new id from a wall-clock time (Unix milliseconds) and random bytes.
            pub fn new(at_ms: u64, random: [u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(at_ms, &random).into_uuid())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}_{}", $prefix, self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|hex| {
                        hex.len() == 32
                            && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
                    })
                    .and_then(|hex| Uuid::try_parse(hex).ok())
                    .map(Self)
                    .ok_or_else(|| IdError {
                        prefix: $prefix,
                        text: text.chars().take(80).collect(),
                    })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// One app.
    AppId = "app",
    /// One team, the owner of apps.
    TeamId = "team",
    /// Whoever acts: a user, a token's bearer, the system.
    PrincipalId = "pri",
    /// One access token (its record, never its secret).
    TokenId = "tok",
    /// One user.
    UserId = "usr",
    /// One session of the console (its record, never its cookie).
    SessionId = "ses",
    /// One SSH public key.
    KeyId = "key",
    /// One build.
    BuildId = "bld",
    /// One release.
    ReleaseId = "rel",
    /// One deployment.
    DeploymentId = "dep",
    /// One container: an instance of a process, a one-off run or a build container.
    InstanceId = "ins",
    /// One domain of an app.
    DomainId = "dom",
    /// One stack.
    StackId = "stk",
    /// One volume.
    VolumeId = "vol",
    /// One alert.
    AlertId = "alr",
    /// One log drain.
    DrainId = "drn",
    /// One backup of an add-on.
    BackupId = "bak",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_text_and_sorts_by_time() {
        let older = AppId::new(1, [7; 10]);
        let newer = AppId::new(2, [0; 10]);
        assert!(older < newer);
        assert_eq!(older.to_string().parse::<AppId>(), Ok(older));
    }

    #[test]
    fn an_id_of_another_kind_or_form_is_refused() {
        let id = AppId::new(1, [7; 10]).to_string();
        assert!(id.parse::<BuildId>().is_err());
        assert!(id.to_uppercase().parse::<AppId>().is_err());
        assert!("app_../../etc/passwd".parse::<AppId>().is_err());
        assert!("app_".parse::<AppId>().is_err());
    }
}
