//! Extensions: what is installed, what it was granted, and how it does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::Timestamp;

/// An installed extension, in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExtensionView {
    /// Its name: `acme.slack-notify`.
    pub id: String,
    /// What it is for: `hook`, `policy`, `middleware`, `log-processor`, `addon` or `console`.
    pub kind: String,
    /// The version that runs.
    pub version: String,
    /// Digest of its component.
    pub component: String,
    /// One sentence of its author.
    pub description: String,
    /// `active`, `disabled`, `quarantined`, or `waiting` where nothing was granted to it yet.
    pub state: String,
    /// Names of the apps that it is for; absent when it is for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apps: Option<Vec<String>>,
    /// A version that waits until it is granted what it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// When it was installed.
    pub installed_at: Timestamp,
    /// When something of it was last changed.
    pub changed_at: Timestamp,
}

/// An installed extension as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExtensionDetails {
    /// What a list has of it.
    #[serde(flatten)]
    pub extension: ExtensionView,
    /// What it may do, and why its author asks for it.
    pub granted: Vec<CapabilityLine>,
    /// What it asked for and was not granted.
    pub withheld: Vec<String>,
    /// Who granted what, the newest first.
    pub grants: Vec<GrantView>,
    /// Its limits.
    pub limits: ExtensionLimits,
    /// Its configuration.
    pub config: Value,
    /// JSON Schema of its configuration.
    pub config_schema: Value,
    /// Its secrets.
    pub secrets: Vec<ExtensionSecretView>,
    /// How it does; absent when it was not loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<ExtensionHealth>,
    /// What the version that waits asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<ExtensionReview>,
}

/// One thing that an extension may do, or asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CapabilityLine {
    /// What: `sends POST to hooks.slack.com on port 443`.
    pub what: String,
    /// The author's reason; may be empty.
    pub why: String,
}

/// One grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantView {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// Digest of the component.
    pub component: String,
    /// What.
    pub granted: Vec<String>,
}

/// What one call of an extension may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExtensionLimits {
    /// All linear memories together, bytes.
    pub memory_bytes: u64,
    /// Processor time, milliseconds.
    pub cpu_ms: u64,
    /// Time, milliseconds.
    pub wall_ms: u64,
}

/// A secret of an extension; its value is never given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExtensionSecretView {
    /// Its name.
    pub name: String,
    /// Whether it has a value.
    pub set: bool,
}

/// What an extension did since the platform started, or since this version runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExtensionHealth {
    /// `healthy`, `degraded` (it failed too often and rests) or `quarantined`.
    pub breaker: String,
    /// The end of its rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rests_until: Option<Timestamp>,
    /// Why it cannot be called, where it was not loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// How often it took the place of what was there before.
    pub loads: u64,
    /// Calls by how they ended: `ok`, `error`, `host`, or the limit or fault that ended them.
    pub calls: BTreeMap<String, u64>,
    /// Calls that were not made because it rests.
    pub refused: u64,
    /// Things that it tried and may not do.
    pub denied: u64,
    /// Processor time of all calls, microseconds.
    pub cpu_us: u64,
    /// Most linear memory of one call, bytes.
    pub memory_peak_bytes: u64,
    /// Half of the calls took at most so long, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// 99 of 100 calls took at most so long, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
}

/// What somebody looks at before they say yes to a component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExtensionReview {
    /// Its name.
    pub id: String,
    /// What it is for.
    pub kind: String,
    /// Its version.
    pub version: String,
    /// Digest of the component.
    pub component: String,
    /// One sentence of its author.
    pub description: String,
    /// Names what it asks for: giving it as `accept` is saying yes to that and to nothing else.
    pub hash: String,
    /// Everything that it asks for.
    pub asks: Vec<CapabilityLine>,
    /// What of it is more than was reviewed before; all of it when it is new.
    pub beyond: Vec<String>,
    /// The version that is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<String>,
}

/// The answer to an installation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExtensionInstalled {
    /// The extension.
    pub extension: ExtensionView,
    /// Whether the version that was sent is the one that runs; otherwise it waits to be granted
    /// what it asks for, and the one before it goes on.
    pub live: bool,
    /// What the version that waits asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<ExtensionReview>,
}

/// A refusal because nobody said yes to what a component asks for, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NeedsApproval {
    /// The problem, of the type `needs-approval`.
    #[serde(flatten)]
    pub problem: crate::Problem,
    /// What to look at.
    pub review: ExtensionReview,
}

/// Grants an extension what it asks for, or less.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantExtension {
    /// The hash of the review that was said yes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept: Option<String>,
    /// Capabilities as in a manifest, when less than it asks for is granted. What is not in it is
    /// denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Value>,
}

/// The apps that an extension is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtensionApps {
    /// Their names; absent for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apps: Option<Vec<String>>,
}

/// The value of a secret of an extension.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetExtensionSecret {
    /// It is kept encrypted, and never given back.
    pub value: String,
}

/// One line of an extension's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExtensionLogLine {
    /// Its position.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// `debug`, `info`, `warning` or `error`.
    pub level: String,
    /// The text, which is the extension's own.
    pub line: String,
}

/// An event that a hook has not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryView {
    /// Position of the event.
    pub event: i64,
    /// Kind of the event.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// When it happened.
    pub at: Timestamp,
    /// Tries so far.
    pub attempts: u32,
    /// Whether it is tried no more until it is replayed.
    pub dead: bool,
    /// Not before then; absent for what is tried no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
    /// What the last try said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Offers events again that a hook did not take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayEvents {
    /// Position of the event; absent for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<i64>,
}

/// The answer to a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Replayed {
    /// How many events are offered again.
    pub events: u64,
}
