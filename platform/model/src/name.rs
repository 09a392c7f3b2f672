//! Names that people choose. Each is checked once, in `FromStr`; the error says what a valid name
//! looks like.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name that breaks the rule of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a valid {kind}: {rule}")]
pub struct NameError {
    kind: &'static str,
    text: String,
    rule: &'static str,
}

/// A DNS label (RFC 1123): letters, digits and hyphens, no hyphen at either end.
pub(crate) fn is_label(text: &str, bytes_max: usize) -> bool {
    !text.is_empty()
        && text.len() <= bytes_max
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident: $kind:literal, $rule:literal, $check:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    let text = text.chars().take(80).flat_map(char::escape_default).collect();
                    Err(NameError { kind: $kind, text, rule: $rule })
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
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

names! {
    /// The name of an app; it becomes the first label of the app's default host name.
    AppName: "app name",
        "use 1 to 40 lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen",
        |text| is_label(text, 40) && text.as_bytes()[0].is_ascii_lowercase();
    /// The name of a team.
    TeamName: "team name",
        "use 1 to 40 lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen",
        |text| is_label(text, 40) && text.as_bytes()[0].is_ascii_lowercase();
    /// The name of a user.
    UserName: "user name",
        "use 1 to 40 lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen",
        |text| is_label(text, 40) && text.as_bytes()[0].is_ascii_lowercase();
    /// A process type: `web`, `worker`.
    ProcessName: "process type",
        "use 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end",
        |text| is_label(text, 63);
    /// The name of a buildpack, which is also that of its layers' folder.
    BuildpackId: "buildpack id",
        "use 1 to 40 lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen",
        |text| is_label(text, 40) && text.as_bytes()[0].is_ascii_lowercase();
    /// The name of a volume of an app.
    VolumeName: "volume name",
        "use 1 to 40 lower-case letters, digits and hyphens, with no hyphen at either end",
        |text| is_label(text, 40);
    /// The name of a Debian package (Debian policy, section 5.6.1).
    PackageName: "package name",
        "use 2 to 64 lower-case letters, digits, '+', '-' and '.', beginning with a letter or a digit",
        |text| (2..=64).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    /// A host name that routes to an app, in lower case and without a trailing dot.
    Domain: "domain",
        "use a host name of labels with lower-case letters, digits and hyphens (a leading '*.' is a wildcard), 253 bytes at most",
        |text| {
            let host = text.strip_prefix("*.").unwrap_or(text);
            text.len() <= 253 && host.split('.').all(|label| is_label(label, 63))
        };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_names_follow_the_rule() {
        for good in ["a", "hello", "my-app-2", &"a".repeat(40)] {
            assert!(good.parse::<AppName>().is_ok(), "{good}");
        }
        for bad in
            ["", "2fast", "-a", "a-", "A", "a.b", "a_b", "../x", "a/b", "a b", "ä", &"a".repeat(41)]
        {
            assert!(bad.parse::<AppName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_error_never_repeats_control_characters() {
        let error = "a\u{1b}[2Jb".parse::<AppName>().unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn domains_may_be_wildcards_of_one_label() {
        assert!("*.example.org".parse::<Domain>().is_ok());
        assert!("a.*.org".parse::<Domain>().is_err());
        assert!("example.org.".parse::<Domain>().is_err());
    }
}
