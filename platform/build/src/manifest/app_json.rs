//! `app.json`, as Heroku and Dokku know it: the keys with a meaning here are read, the others of
//! theirs are named once, unknown ones are warned of.

use std::collections::BTreeMap;

use berth_model::ProcessName;
use berth_model::manifest::HttpCheck;
use serde_json::{Map, Value};

use super::berth_toml::is_url_path;
use super::{ManifestError, nearest};

const FILE: &str = "app.json";
const KNOWN: [&str; 3] = ["env", "formation", "healthchecks"];
/// Keys of Heroku's schema and of Dokku's that have no effect here.
const WITHOUT_EFFECT: [&str; 16] = [
    "$schema",
    "addons",
    "buildpacks",
    "cron",
    "description",
    "environments",
    "features",
    "image",
    "keywords",
    "logo",
    "name",
    "region",
    "repository",
    "scripts",
    "stack",
    "success_url",
];
const QUANTITY_MAX: u64 = 100;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppJson {
    /// `env`: what the app wants in its configuration.
    pub env: Vec<ConfigWish>,
    /// `formation`: instances per process.
    pub formation: BTreeMap<ProcessName, u16>,
    /// `healthchecks`: the first startup or readiness check with a path, per process.
    pub checks: BTreeMap<ProcessName, HttpCheck>,
    /// Keys that are known elsewhere and have no effect here.
    pub without_effect: Vec<String>,
    /// Things to warn of.
    pub warnings: Vec<String>,
}

/// One entry of `env`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigWish {
    /// Name of the variable.
    pub name: String,
    /// Value to set when it has none.
    pub value: Option<String>,
    /// Set it to 64 random hex digits when it has none.
    pub secret: bool,
    /// It must have a value.
    pub required: bool,
    /// Set it with every deploy, whatever value it has.
    pub sync: bool,
}

impl AppJson {
    /// Reads the file.
    ///
    /// # Errors
    /// JSON that is not valid, values of another type or out of range.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let value: Value = serde_json::from_str(text).map_err(|error| ManifestError {
            file: FILE,
            line: Some(error.line()),
            message: error.to_string(),
        })?;
        let mut read = Self::default();
        for (key, value) in object(&value, "the file")? {
            match key.as_str() {
                "env" => read.env = env(value)?,
                "formation" => read.formation = formation(value)?,
                "healthchecks" => read.checks = checks(value)?,
                other if WITHOUT_EFFECT.contains(&other) => {
                    read.without_effect.push(other.to_owned())
                }
                other => {
                    let known: Vec<&str> = KNOWN.into_iter().chain(WITHOUT_EFFECT).collect();
                    let other: String =
                        other.chars().take(60).flat_map(char::escape_default).collect();
                    let hint = nearest(&other, &known)
                        .map(|near| format!(" Did you mean '{near}'?"))
                        .unwrap_or_default();
                    read.warnings.push(format!("app.json: unknown key '{other}'.{hint}"));
                }
            }
        }
        Ok(read)
    }
}

fn refuse<T>(message: String) -> Result<T, ManifestError> {
    Err(ManifestError { file: FILE, line: None, message })
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, ManifestError> {
    value.as_object().map_or_else(|| refuse(format!("{what} must be an object, {{ … }}.")), Ok)
}

fn env(value: &Value) -> Result<Vec<ConfigWish>, ManifestError> {
    let mut wishes = Vec::new();
    for (name, value) in object(value, "'env'")? {
        let is_name = !name.is_empty()
            && name.len() <= 256
            && !name.contains(['=', '\0'])
            && !name.chars().any(char::is_control);
        if !is_name {
            return refuse(format!(
                "'{}' in 'env' is not the name of a variable.",
                name.escape_default()
            ));
        }
        let mut wish = ConfigWish {
            name: name.clone(),
            value: None,
            secret: false,
            required: true,
            sync: false,
        };
        match value {
            Value::String(text) => wish.value = Some(text.clone()),
            Value::Object(fields) => {
                let flag = |key: &str| fields.get(key).and_then(Value::as_bool);
                wish.value = fields.get("value").map(|value| match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                });
                wish.secret = fields.get("generator").and_then(Value::as_str) == Some("secret");
                wish.required = flag("required").unwrap_or(true);
                wish.sync = flag("sync").unwrap_or(false);
            }
            _ => return refuse(format!("'{name}' in 'env' must be a text or an object.")),
        }
        wishes.push(wish);
    }
    Ok(wishes)
}

fn formation(value: &Value) -> Result<BTreeMap<ProcessName, u16>, ManifestError> {
    let mut formation = BTreeMap::new();
    for (name, value) in object(value, "'formation'")? {
        let quantity = match object(value, &format!("'{name}' in 'formation'"))?.get("quantity") {
            None => continue,
            Some(quantity) => quantity.as_u64().filter(|count| *count <= QUANTITY_MAX),
        };
        let Some(quantity) = quantity.and_then(|count| u16::try_from(count).ok()) else {
            return refuse(format!(
                "'quantity' of '{name}' must be a whole number from 0 to {QUANTITY_MAX}."
            ));
        };
        formation.insert(process(name)?, quantity);
    }
    Ok(formation)
}

fn checks(value: &Value) -> Result<BTreeMap<ProcessName, HttpCheck>, ManifestError> {
    let mut checks = BTreeMap::new();
    for (name, list) in object(value, "'healthchecks'")? {
        let Some(list) = list.as_array() else {
            return refuse(format!("'{name}' in 'healthchecks' must be a list, [ … ]."));
        };
        let starts =
            |check: &&Value| matches!(check["type"].as_str(), Some("startup" | "readiness"));
        let Some(path) = list.iter().filter(starts).find_map(|check| check["path"].as_str()) else {
            continue;
        };
        if !is_url_path(path) {
            return refuse(format!(
                "'path' of a check of '{name}' must be the path of a URL, such as \"/healthz\"."
            ));
        }
        checks.insert(process(name)?, HttpCheck { path: path.to_owned() });
    }
    Ok(checks)
}

fn process(name: &str) -> Result<ProcessName, ManifestError> {
    name.parse().or_else(|error: berth_model::NameError| refuse(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(text: &str) -> String {
        AppJson::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn the_keys_with_a_meaning_are_read() {
        let read = AppJson::parse(
            r#"{
                "env": {
                    "PLAIN": "x",
                    "SECRET": { "generator": "secret" },
                    "OPTIONAL": { "required": false, "description": "…" },
                    "NUMBER": { "value": 3, "sync": true }
                },
                "formation": { "web": { "quantity": 2, "size": "standard" }, "worker": { "max_parallel": 1 } },
                "healthchecks": { "web": [ { "type": "liveness", "path": "/live" }, { "type": "startup", "path": "/up" } ] }
            }"#,
        )
        .unwrap();
        let wish = |name: &str| read.env.iter().find(|wish| wish.name == name).unwrap().clone();
        assert_eq!(wish("PLAIN").value.as_deref(), Some("x"));
        assert!(wish("SECRET").secret);
        assert!(!wish("OPTIONAL").required);
        assert_eq!((wish("NUMBER").value.as_deref(), wish("NUMBER").sync), (Some("3"), true));
        assert_eq!(read.formation, BTreeMap::from([("web".parse().unwrap(), 2)]));
        assert_eq!(read.checks[&"web".parse().unwrap()].path, "/up");
        assert!(read.warnings.is_empty() && read.without_effect.is_empty());
    }

    #[test]
    fn keys_without_effect_are_named_and_unknown_ones_are_warned_of() {
        let read =
            AppJson::parse(r#"{"name":"x","scripts":{},"addons":[],"formaton":{}}"#).unwrap();
        let mut named = read.without_effect;
        named.sort();
        assert_eq!(named, ["addons", "name", "scripts"]);
        assert_eq!(read.warnings, ["app.json: unknown key 'formaton'. Did you mean 'formation'?"]);
    }

    #[test]
    fn what_is_not_valid_is_refused() {
        for (text, part) in [
            ("{\n\"env\": {,}}", "line 2"),
            ("[]", "must be an object"),
            ("{\"env\": []}", "must be an object"),
            ("{\"env\": {\"A\": 1}}", "a text or an object"),
            ("{\"env\": {\"A=B\": \"x\"}}", "not the name"),
            ("{\"formation\": {\"web\": {\"quantity\": -1}}}", "0 to 100"),
            ("{\"formation\": {\"web\": {\"quantity\": 101}}}", "0 to 100"),
            ("{\"formation\": {\"web\": {\"quantity\": \"2\"}}}", "0 to 100"),
            ("{\"formation\": {\"We b\": {\"quantity\": 1}}}", "process type"),
            ("{\"healthchecks\": {\"web\": {}}}", "must be a list"),
            (
                "{\"healthchecks\": {\"web\": [{\"type\": \"startup\", \"path\": \"up\"}]}}",
                "path of a URL",
            ),
        ] {
            let message = bad(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        let deep = "[".repeat(100_000);
        assert!(bad(&format!("{{\"env\": {deep}")).contains("recursion"));
    }
}
