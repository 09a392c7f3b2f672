//! What comes from files and from people: configurations, grants, secrets.

use std::io::{IsTerminal, Read, Write};
use std::path::Path;

use berth_model::extension::Capabilities;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// Most bytes of a file.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// What a shell reports of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;
/// Most bytes of a secret, which is what a platform takes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

fn text_of(file: &Path) -> Result<String, Failure> {
    let wrong = |what: &str| Failure::failed(format!("cannot read {}: {what}", file.display()));
    let source: Box<dyn Read> = if file.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).map_err(|error| wrong(&error.to_string()))?)
    };
    let mut text = String::new();
    source
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| wrong(&error.to_string()))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(wrong("it is larger than 256 KiB"));
    }
    Ok(text)
}

/// A configuration in TOML or JSON.
pub(super) fn config_file(file: &Path) -> Result<Value, Failure> {
    let text = text_of(file)?;
    let read = if text.trim_start().starts_with('{') {
        serde_json::from_str(&text).map_err(|error| error.to_string())
    } else {
        toml::from_str(&text).map_err(|error| error.to_string())
    };
    read.map_err(|error| {
        Failure::usage(format!("{} is no configuration: {error}", file.display()))
            .with_hint("write NAME = VALUE lines (TOML), or one JSON object")
    })
}

/// What is granted, as a manifest's section `capabilities` has it: that section, or what is in it.
pub(super) fn grant_file(file: &Path) -> Result<Value, Failure> {
    #[derive(Deserialize)]
    struct Manifest {
        capabilities: Capabilities,
    }
    let text = text_of(file)?;
    let table: Result<toml::Table, _> = toml::from_str(&text);
    let read = match table {
        Ok(table) if table.contains_key("capabilities") => {
            toml::from_str(&text).map(|manifest: Manifest| manifest.capabilities)
        }
        Ok(_) => toml::from_str(&text),
        Err(error) => Err(error),
    };
    let set: Capabilities = read.map_err(|error| {
        Failure::usage(format!("{} grants nothing: {error}", file.display()))
            .with_hint("write capabilities as in the extension.toml of the extension")
    })?;
    serde_json::to_value(set).map_err(|error| Failure::failed(error.to_string()))
}

/// A configuration with some values set and some taken out.
pub(super) fn changed(
    mut config: Value,
    set: &[String],
    unset: &[String],
) -> Result<Value, Failure> {
    if set.is_empty() && unset.is_empty() {
        return Ok(config);
    }
    let values = config
        .as_object_mut()
        .ok_or_else(|| Failure::usage("the configuration is not made of names and values"))?;
    for argument in set {
        let (name, value) = argument.split_once('=').ok_or_else(|| {
            Failure::usage(format!("'{argument}' has no '='")).with_hint("write NAME=VALUE")
        })?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        values.insert(name.to_owned(), value);
    }
    for name in unset {
        if values.remove(name).is_none() {
            return Err(Failure::failed(format!("{name} is not set")));
        }
    }
    Ok(config)
}

/// A configuration for people: lines that a file may have.
pub(super) fn toml_text(config: &Value) -> String {
    toml::to_string(config).unwrap_or_else(|_| config.to_string())
}

/// The properties of a schema that a configuration does not set, a line each.
pub(super) fn unset(config: &Value, schema: &Value) -> String {
    let none = Map::new();
    let required = |name: &str| {
        let names = schema["required"].as_array();
        names.is_some_and(|names| names.iter().any(|one| one == name))
    };
    let properties = schema["properties"].as_object().unwrap_or(&none);
    let missing = properties.iter().filter(|(name, _)| config.get(name).is_none());
    missing
        .map(|(name, property)| {
            let why = property["description"].as_str().unwrap_or_default();
            let usual = match property.get("default") {
                Some(value) => format!("[default: {value}]"),
                None if required(name) => "(required)".to_owned(),
                None => String::new(),
            };
            let gap = if why.is_empty() || usual.is_empty() { "" } else { " " };
            format!("  {name}  {why}{gap}{usual}").trim_end().to_owned() + "\n"
        })
        .collect()
}

/// A secret's value, from a pipe or typed without being shown. One line end at its end, which `echo`
/// and editors put there, is no part of it.
pub(super) async fn secret(name: &str) -> Result<String, Failure> {
    let value = if std::io::stdin().is_terminal() { typed(name).await? } else { piped(name)? };
    let bare = value.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
    let value = bare.unwrap_or(&value);
    if value.is_empty() {
        return Err(Failure::usage(format!("no value of {name} came"))
            .with_hint("give it on standard input: berth ext secrets set ID NAME < FILE"));
    }
    if value.len() as u64 > SECRET_BYTES_MAX {
        return Err(Failure::failed(format!("the value of {name} is longer than 64 KiB")));
    }
    Ok(value.to_owned())
}

async fn typed(name: &str) -> Result<String, Failure> {
    let _ = write!(std::io::stderr(), "The value of {name} (it is not shown): ");
    let hidden = Hidden::enter();
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    // Ctrl-C must not leave a terminal behind that shows nothing.
    let line = tokio::select! {
        line = line => line.map_err(std::io::Error::other),
        _ = tokio::signal::ctrl_c() => Ok(Err(std::io::ErrorKind::Interrupted.into())),
    };
    drop(hidden);
    let _ = writeln!(std::io::stderr());
    match line? {
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
            Err(Failure::exit(INTERRUPTED))
        }
        other => Ok(other?),
    }
}

fn piped(name: &str) -> Result<String, Failure> {
    let mut value = String::new();
    let taken = std::io::stdin().lock().take(SECRET_BYTES_MAX + 2).read_to_string(&mut value);
    taken.map_err(|_| Failure::usage(format!("the value of {name} is no text in UTF-8")))?;
    Ok(value)
}

/// A terminal that does not show what is typed; dropping it gives it back as it was.
struct Hidden(Termios);

impl Hidden {
    fn enter() -> Option<Self> {
        let before = termios::tcgetattr(std::io::stdin()).ok()?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        termios::tcsetattr(std::io::stdin(), OptionalActions::Flush, &hidden).ok()?;
        Some(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_value_is_json_where_it_can_be_and_a_text_otherwise() {
        let set =
            ["url=https://a.example/?b=c", "days=[\"friday\"]", "most=5", "on=true", "no=\"5\""];
        let set = set.map(str::to_owned);
        let config = changed(json!({ "kept": 1, "most": 2 }), &set, &[]).unwrap();
        let wanted = json!({
            "kept": 1, "url": "https://a.example/?b=c", "days": ["friday"], "most": 5, "on": true,
            "no": "5",
        });
        assert_eq!(config, wanted);
        let left = changed(config, &[], &["kept".to_owned(), "no".to_owned()]).unwrap();
        assert!(left.get("kept").is_none() && left.get("no").is_none());
        let failure = changed(json!({}), &[], &["most".to_owned()]).unwrap_err().to_string();
        assert!(failure.contains("most is not set"), "{failure}");
    }

    #[test]
    fn a_configuration_is_toml_or_json() {
        let wanted = json!({ "url": "https://a.example", "headers": { "a": "b" } });
        let toml = "url = 'https://a.example'\n[headers]\na = 'b'\n";
        for text in [toml, &wanted.to_string()] {
            assert_eq!(config_file(file(text).path()).unwrap(), wanted);
        }
        let bad = file("url: https\n");
        let failure = config_file(bad.path()).unwrap_err().to_string();
        let name = bad.path().display().to_string();
        assert!(failure.contains(&name) && failure.contains("line 1"), "{failure}");
    }

    #[test]
    fn a_grant_is_a_section_of_a_manifest_or_what_is_in_it() {
        let inside = "clock = {}\nhttp = [{ host = 'a.example', methods = ['POST'] }]\n";
        let whole = format!(
            "[extension]\nid = 'a.b'\n[capabilities]\n{inside}[config.schema]\ntype = 'object'\n"
        );
        let granted = |text: &str| grant_file(file(text).path());
        let one = granted(inside).unwrap();
        assert_eq!(one, granted(&whole).unwrap());
        assert_eq!(one["http"][0]["ports"], json!([443]));
        assert_eq!(granted("").unwrap(), json!({}));
        let failure = granted("clok = {}\n").unwrap_err().to_string();
        assert!(failure.contains("clok") && failure.contains("line 1"), "{failure}");
    }

    #[test]
    fn what_is_not_set_is_told_with_its_default() {
        let schema = json!({ "required": ["url"], "properties": {
            "url": { "description": "Where." }, "most": { "default": 3 }, "set": {},
        }});
        assert_eq!(
            unset(&json!({ "set": 1 }), &schema),
            "  most  [default: 3]\n  url  Where. (required)\n"
        );
    }
}
