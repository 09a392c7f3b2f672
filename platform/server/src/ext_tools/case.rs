//! A case: what an extension is given, and what is expected of it. TOML, unknown keys are errors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// 2026-01-01T00:00:00Z: the time of cases that name none.
const NOW_MS: u64 = 1_767_225_600_000;
/// Begins the name of an environment variable with a real secret, for a recording.
const SECRET_VARIABLE: &str = "BERTH_SECRET_";

/// One case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// The time, which stands still.
    #[serde(default = "now_ms")]
    pub(super) now_ms: u64,
    /// What the operator set.
    #[serde(default)]
    pub(super) config: Value,
    /// Values that only this case knows.
    #[serde(default)]
    pub(super) secrets: BTreeMap<String, String>,
    /// What the extension kept before.
    #[serde(default)]
    pub(super) kv: BTreeMap<String, String>,
    /// What it is called with; its form is the kind's.
    #[serde(default)]
    pub(super) input: Value,
    #[serde(default)]
    pub(super) expect: Expect,
}

/// What must come of it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    /// Part of the output: keys that are not named may be anything.
    pub(super) output: Option<Value>,
    /// Code of the error that the extension returns.
    pub(super) error: Option<String>,
    /// The limit or rule that ends it: `cpu`, `memory`, `trap`…
    pub(super) fault: Option<String>,
    /// Each is part of a line of the log.
    #[serde(default)]
    pub(super) log: Vec<String>,
    /// All that it asked the host to do, in order: `http POST https://…`, `kv.put KEY`…
    pub(super) calls: Option<Vec<String>>,
    /// Part of what it keeps afterwards.
    #[serde(default)]
    pub(super) kv: BTreeMap<String, String>,
}

fn now_ms() -> u64 {
    NOW_MS
}

impl Case {
    /// Reads a file; its name is the case's.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if path.extension().is_some_and(|end| end == "json") {
            let input = serde_json::from_str(&text)
                .with_context(|| format!("{} is not JSON", path.display()))?;
            return Ok(Self::of(input));
        }
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            anyhow::anyhow!("{}:{line}: {}", path.display(), error.message())
        })
    }

    /// Nothing at all.
    pub(super) fn empty() -> Self {
        Self::of(Value::Null)
    }

    /// An input alone.
    fn of(input: Value) -> Self {
        Self {
            now_ms: NOW_MS,
            config: Value::Null,
            secrets: BTreeMap::new(),
            kv: BTreeMap::new(),
            input,
            expect: Expect::default(),
        }
    }

    /// Takes the secrets that the environment has: `webhook-url` from `BERTH_SECRET_WEBHOOK_URL`.
    pub(super) fn real_secrets(&mut self, names: impl Iterator<Item = String>) {
        for name in names {
            let variable = format!("{SECRET_VARIABLE}{}", name.to_uppercase().replace('-', "_"));
            if let Ok(value) = std::env::var(variable) {
                self.secrets.insert(name, value);
            }
        }
    }
}

/// The answers that belong to a case: `NAME.http.json` beside `NAME.toml`.
pub(super) fn recording(case: &Path) -> PathBuf {
    case.with_extension("http.json")
}

/// Where a value is not what was expected; keys that were not named may be anything.
pub(super) fn difference(expected: &Value, actual: &Value, at: &str) -> Option<String> {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            expected.iter().find_map(|(key, value)| {
                let at = format!("{at}.{key}");
                match actual.get(key) {
                    Some(actual) => difference(value, actual, &at),
                    None => Some(format!("{at} is missing")),
                }
            })
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            expected
                .iter()
                .zip(actual)
                .enumerate()
                .find_map(|(index, (one, other))| difference(one, other, &format!("{at}[{index}]")))
        }
        _ if expected == actual => None,
        _ => Some(format!("{at} is {actual}, not {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_named_may_be_anything() {
        let actual = json!({ "a": 1, "b": { "c": [1, { "d": 2, "e": 3 }] } });
        let differs = |expected| difference(&expected, &actual, "output");
        assert_eq!(differs(json!({ "b": { "c": [1, { "d": 2 }] } })), None);
        assert_eq!(
            differs(json!({ "b": { "c": [1] } })).unwrap(),
            "output.b.c is [1,{\"d\":2,\"e\":3}], not [1]"
        );
        assert_eq!(differs(json!({ "z": 1 })).unwrap(), "output.z is missing");
        assert_eq!(differs(json!({ "a": 2 })).unwrap(), "output.a is 1, not 2");
    }
}
