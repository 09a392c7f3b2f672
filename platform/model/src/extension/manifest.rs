//! `extension.toml`: what an extension is and asks for. It is part of the component, so what is
//! reviewed is what runs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Capabilities, ExtensionId, Kind};
use crate::size::ByteSize;

/// Longest manifest, bytes.
pub const MANIFEST_BYTES_MAX: usize = 64 * 1024;
/// Longest description and reason, bytes.
const TEXT_BYTES_MAX: usize = 500;

/// A manifest that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is no TOML, or has keys that do not exist.
    #[error("extension.toml: {0}")]
    Form(String),
    /// What it says cannot be.
    #[error("extension.toml: {key}: {reason}")]
    Value {
        /// Where.
        key: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

/// What happens to what an extension stands before when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// It is refused.
    Closed,
    /// It goes on as if the extension were not there.
    Open,
}

/// What a middleware looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Requests, before the app sees them.
    Request,
    /// The heads of responses, before the client sees them.
    Response,
}

impl Filter {
    /// The interface of the package `berth:middleware` that it exports.
    pub const fn interface(self) -> &'static str {
        match self {
            Self::Request => "request-filter",
            Self::Response => "response-filter",
        }
    }
}

/// What an extension asks to use; nothing means what its kind has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsAsked {
    /// All linear memories together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Processor time of one call, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u32>,
    /// Time of one call, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u32>,
}

/// A manifest that was checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExtensionManifest {
    /// Its name for ever.
    pub id: ExtensionId,
    /// `major.minor.patch`.
    pub version: String,
    /// What it is for.
    pub kind: Kind,
    /// One sentence for people.
    pub description: String,
    /// What its failure does to what it stands before.
    pub on_failure: OnFailure,
    /// What it looks at, a middleware; empty for every other kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// What it asks for.
    pub capabilities: Capabilities,
    /// What it asks to use.
    pub limits: LimitsAsked,
    /// JSON Schema (2020-12) of its configuration, an object.
    pub config_schema: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    extension: RawExtension,
    #[serde(default)]
    capabilities: Capabilities,
    #[serde(default)]
    limits: LimitsAsked,
    #[serde(default)]
    config: RawConfig,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExtension {
    id: ExtensionId,
    version: String,
    kind: Kind,
    api: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    on_failure: Option<OnFailure>,
    #[serde(default)]
    filters: Option<Vec<Filter>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[serde(default)]
    schema: Option<Value>,
}

impl ExtensionManifest {
    /// Reads and checks the text of a manifest.
    ///
    /// # Errors
    /// `Form` with the line, `Value` with the key.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        if text.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::Form(format!(
                "it is longer than {} KiB",
                MANIFEST_BYTES_MAX / 1024
            )));
        }
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| {
                1 + text.as_bytes()[..span.start.min(text.len())]
                    .iter()
                    .filter(|byte| **byte == b'\n')
                    .count()
            });
            let said = crate::text::printable(error.message(), 400);
            ManifestError::Form(format!("line {line}: {said}"))
        })?;
        let manifest = Self {
            on_failure: raw.extension.on_failure.unwrap_or(match raw.extension.kind {
                Kind::LogProcessor => OnFailure::Open,
                _ => OnFailure::Closed,
            }),
            filters: raw.extension.filters.unwrap_or_else(|| match raw.extension.kind {
                Kind::Middleware => vec![Filter::Request, Filter::Response],
                _ => Vec::new(),
            }),
            id: raw.extension.id,
            version: raw.extension.version,
            kind: raw.extension.kind,
            description: raw.extension.description,
            capabilities: raw.capabilities,
            limits: raw.limits,
            config_schema: raw.config.schema.unwrap_or_else(no_configuration),
        };
        manifest.check(&raw.extension.api)?;
        Ok(manifest)
    }

    fn check(&self, api: &str) -> Result<(), ManifestError> {
        let bad =
            |key: &str, reason: String| Err(ManifestError::Value { key: key.to_owned(), reason });
        if api != self.kind.api() {
            let shown = crate::text::printable(api, 80);
            return bad(
                "extension.api",
                format!("'{shown}' is not what this Berth speaks; write {}", self.kind.api()),
            );
        }
        if !is_version(&self.version) {
            return bad("extension.version", "write three numbers, as in 1.2.0".to_owned());
        }
        let looks = (self.kind == Kind::Middleware, self.filters.is_empty());
        if looks == (true, true) || looks == (false, false) {
            return bad(
                "extension.filters",
                "a middleware, and no other kind, has filters: [\"request\"], [\"response\"] or both"
                    .to_owned(),
            );
        }
        if self.description.len() > TEXT_BYTES_MAX {
            return bad("extension.description", format!("use {TEXT_BYTES_MAX} bytes at most"));
        }
        if let Some(text) = self.texts().find(|text| text.chars().any(unfit)) {
            let shown = crate::text::printable(text, 80);
            return bad(
                "extension.description",
                format!(
                    "'{shown}': descriptions and reasons are plain text of one line, because \
                     people decide by them"
                ),
            );
        }
        if self.config_schema.get("type").and_then(Value::as_str) != Some("object") {
            return bad(
                "config.schema",
                "it must describe an object: type = \"object\"".to_owned(),
            );
        }
        self.capabilities.check(self.kind, TEXT_BYTES_MAX)
    }

    /// What people read before they say yes.
    fn texts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.description.as_str()).chain(self.capabilities.reasons())
    }
}

/// Characters that end a line, move a cursor or reorder text.
pub(crate) fn unfit(character: char) -> bool {
    let text: String = character.into();
    crate::text::printable(&text, 16) != text || character == '\t'
}

/// The schema of an extension that has nothing to configure.
fn no_configuration() -> Value {
    serde_json::json!({ "type": "object", "properties": {}, "additionalProperties": false })
}

/// Three numbers without leading zeros.
pub(crate) fn is_version(text: &str) -> bool {
    let parts: Vec<_> = text.split('.').collect();
    parts.len() == 3
        && parts.iter().all(|part| {
            (1..=6).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_digit())
                && (*part == "0" || !part.starts_with('0'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[extension]
id = "acme.slack-notify"
version = "1.2.0"
kind = "hook"
api = "berth:hook@0.1.0"
description = "Tells a channel."

[capabilities]
events = { kinds = ["deployment.succeeded"], why = "to tell of them" }
http = [{ host = "hooks.slack.com", methods = ["POST"], ports = [443], why = "to post" }]
kv = { quota = "1MiB", why = "to remember" }
secrets = [{ name = "slack-webhook", why = "the address" }]

[limits]
memory = "32MiB"
cpu_ms = 200

[config.schema]
type = "object"
[config.schema.properties.channel]
type = "string"
"#;

    fn refusal(text: &str) -> String {
        ExtensionManifest::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_manifest_is_read_whole() {
        let manifest = ExtensionManifest::parse(GOOD).unwrap();
        assert_eq!(manifest.id.as_str(), "acme.slack-notify");
        assert_eq!(manifest.limits.memory, Some(ByteSize(32 << 20)));
        assert_eq!(manifest.config_schema["properties"]["channel"]["type"], "string");
        let json = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<ExtensionManifest>(&json).unwrap(), manifest);
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let unknown = GOOD.replace("cpu_ms", "cpu_sm");
        assert!(refusal(&unknown).starts_with("extension.toml: line 17: unknown field `cpu_sm`"));
        assert!(refusal("[extension").starts_with("extension.toml: line 1:"));
    }

    #[test]
    fn what_a_kind_cannot_use_is_refused() {
        let policy =
            GOOD.replace("kind = \"hook\"", "kind = \"policy\"").replace(":hook@", ":policy@");
        assert_eq!(
            refusal(&policy),
            "extension.toml: capabilities.events: extensions of the kind policy cannot have it"
        );
    }

    #[test]
    fn an_interface_of_another_version_is_refused() {
        let refused = refusal(&GOOD.replace("@0.1.0", "@0.2.0"));
        assert!(refused.contains("write berth:hook@0.1.0"), "{refused}");
    }

    #[test]
    fn what_people_decide_by_cannot_draw_over_their_terminal() {
        for bad in ["to post\\u001B[2K\\rharmless", "two\\nlines", "\\u202Etxt"] {
            let refused = refusal(&GOOD.replace("to post", bad));
            assert!(refused.contains("plain text of one line"), "{refused}");
            assert!(!refused.contains(['\u{1b}', '\n', '\u{202e}']), "{refused}");
            assert!(refusal(&GOOD.replace("Tells a channel.", bad)).contains("plain text"));
        }
        let unknown = refusal(&GOOD.replace("cpu_ms", "\"cpu\\u001B[2J\""));
        assert!(!unknown.contains('\u{1b}'), "{unknown}");
    }

    #[test]
    fn versions_are_three_numbers() {
        for bad in ["1", "1.2", "1.2.3.4", "01.2.3", "1.2.x", "1.2.-3", ""] {
            let refused = refusal(&GOOD.replace("1.2.0", bad));
            assert!(refused.contains("extension.version"), "{bad}: {refused}");
        }
    }

    #[test]
    fn a_middleware_looks_at_both_ways_unless_it_says_otherwise() {
        let parse = |kind: &str, more: &str| {
            ExtensionManifest::parse(&format!(
                "[extension]\nid = \"a.b\"\nversion = \"0.1.0\"\nkind = \"{kind}\"\napi = \"berth:{kind}@0.1.0\"\n{more}"
            ))
            .map(|manifest| manifest.filters)
        };
        assert_eq!(parse("middleware", "").unwrap(), [Filter::Request, Filter::Response]);
        assert_eq!(parse("middleware", "filters = [\"request\"]").unwrap(), [Filter::Request]);
        assert_eq!(parse("hook", "").unwrap(), []);
        for (kind, more) in [("hook", "filters = [\"request\"]"), ("middleware", "filters = []")] {
            let refused = parse(kind, more).unwrap_err().to_string();
            assert!(refused.contains("extension.filters"), "{kind}: {refused}");
        }
    }

    #[test]
    fn a_log_processor_fails_open_and_all_others_closed_unless_they_say_otherwise() {
        let kind = |kind: &str, more: &str| {
            let text = format!(
                "[extension]\nid = \"a.b\"\nversion = \"0.1.0\"\nkind = \"{kind}\"\napi = \"berth:{kind}@0.1.0\"\n{more}"
            );
            ExtensionManifest::parse(&text).unwrap().on_failure
        };
        assert_eq!(kind("middleware", ""), OnFailure::Closed);
        assert_eq!(kind("middleware", "on_failure = \"open\""), OnFailure::Open);
        assert_eq!(kind("policy", ""), OnFailure::Closed);
        assert_eq!(kind("log-processor", ""), OnFailure::Open);
    }
}
