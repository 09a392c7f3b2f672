//! What an extension asks for and is granted. Everything that is absent is denied.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Kind, ManifestError};
use crate::size::ByteSize;

/// Most entries of one capability.
const ENTRIES_MAX: usize = 100;

/// What an extension may do, beside computing, logging and reading its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Capabilities {
    /// Events that a hook is told of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<EventKinds>,
    /// Servers that it may ask.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpAccess>,
    /// Values that outlive a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv: Option<Kv>,
    /// Secrets that it may have the platform use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Named>,
    /// Secrets whose value it may read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets_read: Vec<Named>,
    /// Events that it may write.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub emit: Vec<Named>,
    /// Shared counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counters: Option<Reason>,
    /// The time of day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<Reason>,
    /// Measures of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Reason>,
    /// Bodies of requests, for a middleware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
    /// Debian packages that an add-on's instances are made of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Named>,
}

/// Why something is asked for; for the one who decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// One sentence.
    #[serde(default)]
    pub why: String,
}

/// Something with a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The name.
    pub name: String,
    /// One sentence.
    #[serde(default)]
    pub why: String,
}

/// Events that a hook is told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventKinds {
    /// `deployment.succeeded`; `deployment.*` for all that begin so.
    pub kinds: Vec<String>,
    /// Whether it may also stop what is about to happen (`before.build`, `before.release`).
    #[serde(default)]
    pub blocking: bool,
    /// One sentence.
    #[serde(default)]
    pub why: String,
}

/// Servers that may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpAccess {
    /// Which.
    pub host: HostPattern,
    /// `GET`, `POST`…
    pub methods: Vec<String>,
    /// Where; 443 alone where it is not said.
    #[serde(default = "https_only")]
    pub ports: Vec<u16>,
    /// Whether addresses of private networks count.
    #[serde(default)]
    pub private: bool,
    /// One sentence.
    #[serde(default)]
    pub why: String,
}

fn https_only() -> Vec<u16> {
    vec![443]
}

/// Values that outlive a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kv {
    /// Keys and values together.
    pub quota: ByteSize,
    /// One sentence.
    #[serde(default)]
    pub why: String,
}

/// Bodies of requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// A longer body is not shown.
    pub bytes: ByteSize,
    /// One sentence.
    #[serde(default)]
    pub why: String,
}

/// `api.example.com`, `*.example.com` for every name below it, or `*` for every host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern(String);

impl HostPattern {
    /// Whether a host (lower case, without port) is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self.0.strip_prefix('*') {
            Some("") => true,
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => self.0 == host,
        }
    }

    /// Whether every host that `other` means is meant.
    fn covers(&self, other: &Self) -> bool {
        if self.0 == "*" || self.0 == other.0 {
            return true;
        }
        match (self.0.strip_prefix('*'), other.0.strip_prefix('*')) {
            (Some(suffix), Some(theirs)) => theirs.ends_with(suffix) && !theirs.is_empty(),
            (Some(_), None) => self.matches(&other.0),
            (None, _) => false,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.strip_prefix("*.").unwrap_or(text);
        let name = plain.parse::<crate::Domain>().is_ok_and(|_| !plain.starts_with('*'));
        if text == "*" || name || text.parse::<std::net::IpAddr>().is_ok() {
            return Ok(Self(text.to_owned()));
        }
        let shown: String = text.chars().take(80).flat_map(char::escape_default).collect();
        Err(format!(
            "'{shown}' is not a host: write a name in lower case, *.NAME, an address, or * for all"
        ))
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a request to a server is denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{method} {host}:{port} was not granted")]
pub struct HttpDenial {
    method: String,
    host: String,
    port: u16,
}

impl HttpAccess {
    fn allows(&self, method: &str, host: &str, port: u16) -> bool {
        self.host.matches(host)
            && self.methods.iter().any(|allowed| allowed == method)
            && self.ports.contains(&port)
    }

    fn covers(&self, other: &Self) -> bool {
        self.host.covers(&other.host)
            && other.methods.iter().all(|method| self.methods.contains(method))
            && other.ports.iter().all(|port| self.ports.contains(port))
            && (self.private || !other.private)
    }
}

impl EventKinds {
    /// Whether an event of this kind is meant.
    pub fn include(&self, kind: &str) -> bool {
        self.kinds.iter().any(|pattern| kind_matches(pattern, kind))
    }
}

fn kind_matches(pattern: &str, kind: &str) -> bool {
    match pattern.strip_suffix(".*") {
        Some(family) => {
            kind.strip_prefix(family).is_some_and(|rest| rest.starts_with('.') && rest.len() > 1)
        }
        None => pattern == kind,
    }
}

impl Capabilities {
    /// Whether a request may be sent, and whether private addresses count for it.
    ///
    /// # Errors
    /// When no entry allows it.
    pub fn http_allows(&self, method: &str, host: &str, port: u16) -> Result<bool, HttpDenial> {
        let mut allowed = self.http.iter().filter(|access| access.allows(method, host, port));
        match allowed.next() {
            None => Err(HttpDenial { method: method.to_owned(), host: host.to_owned(), port }),
            Some(first) => Ok(first.private || allowed.any(|access| access.private)),
        }
    }

    /// Whether a secret may be used.
    pub fn may_use_secret(&self, name: &str) -> bool {
        self.secrets.iter().chain(&self.secrets_read).any(|secret| secret.name == name)
    }

    /// Whether the value of a secret may be read.
    pub fn may_read_secret(&self, name: &str) -> bool {
        self.secrets_read.iter().any(|secret| secret.name == name)
    }

    /// Whether an event of its own may be written.
    pub fn may_emit(&self, name: &str) -> bool {
        self.emit.iter().any(|event| event.name == name)
    }

    /// Whether an add-on may be made of a Debian package.
    pub fn may_install(&self, package: &str) -> bool {
        self.packages.iter().any(|one| one.name == package)
    }

    /// The WIT interfaces that these capabilities open, beside `log` and `config`.
    pub fn interfaces(&self) -> Vec<&'static str> {
        let mut open = Vec::new();
        let mut add = |given: bool, interface| {
            if given {
                open.push(interface);
            }
        };
        add(self.kv.is_some(), "berth:kv/kv@0.1.0");
        let secrets = !self.secrets.is_empty() || !self.secrets_read.is_empty();
        add(secrets, "berth:secrets/secrets@0.1.0");
        add(!self.secrets_read.is_empty(), "berth:secrets/reader@0.1.0");
        add(!self.http.is_empty(), "berth:http-out/http-out@0.1.0");
        add(self.counters.is_some(), "berth:counters/counters@0.1.0");
        add(!self.emit.is_empty(), "berth:events/events@0.1.0");
        add(self.clock.is_some(), "berth:clock/clock@0.1.0");
        add(self.metrics.is_some(), "berth:metrics/metrics@0.1.0");
        open
    }

    /// What `asked` has beyond these, in words; nothing when it is within them.
    pub fn beyond(&self, asked: &Self) -> Vec<String> {
        let lines = |set: &Self| set.lines().into_iter().map(|(text, _)| text).collect::<Vec<_>>();
        let mut more = Vec::new();
        for part in asked.parts() {
            if !self.covers(&part) {
                more.extend(lines(&part));
            }
        }
        more
    }

    /// Whether everything that `asked` allows is allowed here.
    pub fn covers(&self, asked: &Self) -> bool {
        let events = asked.events.as_ref().is_none_or(|theirs| {
            self.events.as_ref().is_some_and(|ours| {
                (ours.blocking || !theirs.blocking)
                    && theirs.kinds.iter().all(|kind| {
                        ours.kinds.contains(kind) || (!kind.ends_with(".*") && ours.include(kind))
                    })
            })
        });
        let http = asked.http.iter().all(|theirs| self.http.iter().any(|ours| ours.covers(theirs)));
        let kv = asked
            .kv
            .as_ref()
            .is_none_or(|theirs| self.kv.as_ref().is_some_and(|ours| ours.quota >= theirs.quota));
        let body = asked
            .body
            .as_ref()
            .is_none_or(|theirs| self.body.as_ref().is_some_and(|ours| ours.bytes >= theirs.bytes));
        let plain =
            |ours: &Option<Reason>, theirs: &Option<Reason>| ours.is_some() || theirs.is_none();
        events
            && http
            && kv
            && body
            && asked.secrets.iter().all(|secret| self.may_use_secret(&secret.name))
            && asked.secrets_read.iter().all(|secret| self.may_read_secret(&secret.name))
            && asked.emit.iter().all(|event| self.may_emit(&event.name))
            && asked.packages.iter().all(|package| self.may_install(&package.name))
            && plain(&self.counters, &asked.counters)
            && plain(&self.clock, &asked.clock)
            && plain(&self.metrics, &asked.metrics)
    }

    /// Each entry as a set of its own.
    fn parts(&self) -> Vec<Self> {
        let mut parts = Vec::new();
        let none = Self::default;
        if let Some(events) = &self.events {
            parts.push(Self { events: Some(events.clone()), ..none() });
        }
        parts.extend(self.http.iter().map(|one| Self { http: vec![one.clone()], ..none() }));
        parts.extend(self.kv.iter().map(|kv| Self { kv: Some(kv.clone()), ..none() }));
        parts.extend(self.secrets.iter().map(|one| Self { secrets: vec![one.clone()], ..none() }));
        parts.extend(
            self.secrets_read.iter().map(|one| Self { secrets_read: vec![one.clone()], ..none() }),
        );
        parts.extend(self.emit.iter().map(|one| Self { emit: vec![one.clone()], ..none() }));
        parts
            .extend(self.packages.iter().map(|one| Self { packages: vec![one.clone()], ..none() }));
        parts
            .extend(self.counters.iter().map(|one| Self { counters: Some(one.clone()), ..none() }));
        parts.extend(self.clock.iter().map(|one| Self { clock: Some(one.clone()), ..none() }));
        parts.extend(self.metrics.iter().map(|one| Self { metrics: Some(one.clone()), ..none() }));
        parts.extend(self.body.iter().map(|one| Self { body: Some(one.clone()), ..none() }));
        parts
    }

    /// For the one who decides: what each entry allows, and why it is asked for.
    pub fn lines(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        let mut line = |text: String, why: &str| lines.push((text, why.to_owned()));
        if let Some(events) = &self.events {
            let stop = if events.blocking { ", and may stop builds and releases" } else { "" };
            line(format!("is told of {}{stop}", events.kinds.join(", ")), &events.why);
        }
        for http in &self.http {
            let ports = http.ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
            let host = if http.host.0 == "*" { "any host" } else { &http.host.0 };
            let private = if http.private { ", also in private networks" } else { "" };
            let methods = http.methods.join(", ");
            line(format!("sends {methods} to {host} on port {ports}{private}"), &http.why);
        }
        if let Some(kv) = &self.kv {
            line(format!("keeps up to {} of data", kv.quota), &kv.why);
        }
        for secret in &self.secrets {
            line(format!("uses the secret '{}' without seeing it", secret.name), &secret.why);
        }
        for secret in &self.secrets_read {
            line(format!("READS the secret '{}'", secret.name), &secret.why);
        }
        for event in &self.emit {
            line(format!("writes events '{}'", event.name), &event.why);
        }
        for package in &self.packages {
            line(format!("runs programs of the Debian package '{}'", package.name), &package.why);
        }
        for (given, text) in [
            (&self.counters, "counts requests"),
            (&self.clock, "knows the time"),
            (&self.metrics, "has measures of its own"),
        ] {
            if let Some(reason) = given {
                line(text.to_owned(), &reason.why);
            }
        }
        if let Some(body) = &self.body {
            line(format!("reads the bodies of requests up to {}", body.bytes), &body.why);
        }
        lines
    }

    /// Why each entry is asked for.
    pub(super) fn reasons(&self) -> impl Iterator<Item = &str> {
        let plain = [&self.counters, &self.clock, &self.metrics];
        let named = [&self.secrets, &self.secrets_read, &self.emit];
        self.events
            .iter()
            .map(|events| events.why.as_str())
            .chain(self.http.iter().map(|http| http.why.as_str()))
            .chain(self.kv.iter().map(|kv| kv.why.as_str()))
            .chain(self.body.iter().map(|body| body.why.as_str()))
            .chain(named.into_iter().flatten().map(|named| named.why.as_str()))
            .chain(plain.into_iter().flatten().map(|reason| reason.why.as_str()))
    }

    /// The same without the reasons, which grant nothing: what a hash of the set is made over.
    pub fn canonical(&self) -> String {
        let mut plain = self.clone();
        let clear = |why: &mut String| why.clear();
        plain.events.iter_mut().for_each(|one| clear(&mut one.why));
        plain.http.iter_mut().for_each(|one| clear(&mut one.why));
        plain.kv.iter_mut().for_each(|one| clear(&mut one.why));
        plain.body.iter_mut().for_each(|one| clear(&mut one.why));
        for named in
            [&mut plain.secrets, &mut plain.secrets_read, &mut plain.emit, &mut plain.packages]
        {
            named.iter_mut().for_each(|one| clear(&mut one.why));
            named.sort_by(|one, other| one.name.cmp(&other.name));
        }
        for reason in [&mut plain.counters, &mut plain.clock, &mut plain.metrics] {
            reason.iter_mut().for_each(|one| clear(&mut one.why));
        }
        serde_json::to_string(&plain).unwrap_or_default()
    }

    /// Refuses what cannot be, and what a kind cannot have.
    pub(super) fn check(&self, kind: Kind, why_bytes_max: usize) -> Result<(), ManifestError> {
        let bad = |key: &str, reason: String| {
            Err(ManifestError::Value { key: format!("capabilities.{key}"), reason })
        };
        for key in self.given() {
            if !kind_has(kind, key) {
                return bad(key, format!("extensions of the kind {kind} cannot have it"));
            }
        }
        for (key, count) in [
            ("events", self.events.as_ref().map_or(0, |events| events.kinds.len())),
            ("http", self.http.len()),
            ("secrets", self.secrets.len()),
            ("secrets-read", self.secrets_read.len()),
            ("emit", self.emit.len()),
            ("packages", self.packages.len()),
        ] {
            if count > ENTRIES_MAX {
                return bad(key, format!("use {ENTRIES_MAX} entries at most"));
            }
        }
        if self.lines().iter().any(|(text, why)| text.len() > 4096 || why.len() > why_bytes_max) {
            return bad("why", format!("use {why_bytes_max} bytes at most"));
        }
        for event in self.events.iter().flat_map(|events| &events.kinds) {
            if !is_event_kind(event.strip_suffix(".*").unwrap_or(event)) {
                return bad("events", format!("'{}' is not a kind of event", shown(event)));
            }
        }
        for http in &self.http {
            let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
            if http.methods.is_empty() || http.ports.is_empty() || http.ports.contains(&0) {
                return bad("http", "name the methods and the ports".to_owned());
            }
            if let Some(method) = http.methods.iter().find(|one| !known.contains(&one.as_str())) {
                return bad(
                    "http",
                    format!("'{}' is not a method: {}", shown(method), known.join(", ")),
                );
            }
        }
        for (key, named) in
            [("secrets", &self.secrets), ("secrets-read", &self.secrets_read), ("emit", &self.emit)]
        {
            if let Some(one) = named.iter().find(|one| !crate::name::is_label(&one.name, 63)) {
                return bad(
                    key,
                    format!("'{}': use lower-case letters, digits and hyphens", shown(&one.name)),
                );
            }
        }
        for package in &self.packages {
            if let Err(error) = package.name.parse::<crate::PackageName>() {
                return bad("packages", error.to_string());
            }
        }
        Ok(())
    }

    /// The keys that are there.
    fn given(&self) -> Vec<&'static str> {
        [
            ("events", self.events.is_some()),
            ("http", !self.http.is_empty()),
            ("kv", self.kv.is_some()),
            ("secrets", !self.secrets.is_empty()),
            ("secrets-read", !self.secrets_read.is_empty()),
            ("emit", !self.emit.is_empty()),
            ("counters", self.counters.is_some()),
            ("clock", self.clock.is_some()),
            ("metrics", self.metrics.is_some()),
            ("body", self.body.is_some()),
            ("packages", !self.packages.is_empty()),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
        .collect()
    }
}

/// What the worlds of the kinds import.
fn kind_has(kind: Kind, capability: &str) -> bool {
    let has: &[&str] = match kind {
        Kind::Hook => {
            &["events", "http", "kv", "secrets", "secrets-read", "emit", "clock", "metrics"]
        }
        Kind::Policy => &["kv", "metrics"],
        Kind::Middleware => &["secrets", "secrets-read", "counters", "clock", "metrics", "body"],
        Kind::LogProcessor => &["clock", "metrics"],
        Kind::Addon => &["packages"],
        Kind::Console => &["kv", "secrets", "http", "clock"],
    };
    has.contains(&capability)
}

fn is_event_kind(text: &str) -> bool {
    text.len() <= 100
        && text.split('.').all(|part| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        })
}

fn shown(text: &str) -> String {
    crate::text::printable(text, 80)
}

/// What an operator granted, once, to one extension. A new grant takes its place as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What the extension asked for when it was reviewed.
    pub asked: Capabilities,
    /// What it got: that, or less.
    pub granted: Capabilities,
}

impl Grant {
    /// Whether another version may run without a new review: it asks for nothing more.
    pub fn still_covers(&self, asked: &Capabilities) -> bool {
        self.asked.covers(asked)
    }
}

#[cfg(test)]
#[path = "capability_tests.rs"]
mod tests;
