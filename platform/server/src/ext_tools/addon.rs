//! Calls a kind of add-on for its author.

use anyhow::Result;
use berth_extensions::addon::{Addon, Request};
use berth_extensions::powers::Session;
use berth_model::addon::Spec;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Ended, ended, input};

/// Input: what it is asked, `provision` where it is not said, and with which choices.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default = "provision")]
    ask: Ask,
    name: String,
    #[serde(default)]
    options: serde_json::Map<String, Value>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Ask {
    Provision,
    Backup,
    Restore,
}

fn provision() -> Ask {
    Ask::Provision
}

/// Calls it once.
pub(super) async fn call(addon: &Addon, value: &Value, session: Session) -> Result<Ended> {
    let Asked { ask, name, options } = input(value)?;
    let options = Value::Object(options).to_string();
    let request = Request { name, options, extra: Vec::new() };
    let task = |command: Vec<String>| json!({ "command": command });
    Ok(match ask {
        Ask::Provision => ended(addon.provision(&request, session).await, |spec| shown(&spec)),
        Ask::Backup => ended(addon.backup(&request, session).await, task),
        Ask::Restore => ended(addon.restore(&request, session).await, task),
    })
}

fn shown(spec: &Spec) -> Value {
    let processes = spec.processes.iter().map(|process| {
        let volumes = process.volumes.iter().map(|volume| {
            json!({ "name": volume.name, "path": volume.path, "size-mib": volume.size_mib })
        });
        json!({
            "name": process.name, "packages": process.packages, "command": process.command,
            "volumes": volumes.collect::<Vec<_>>(), "port": process.port,
            "memory-mib": process.memory_mib,
        })
    });
    let secrets = spec.secrets.iter();
    let secrets = secrets.map(|secret| json!({ "name": secret.name, "length": secret.length }));
    json!({
        "processes": processes.collect::<Vec<_>>(), "environment": spec.environment,
        "secrets": secrets.collect::<Vec<_>>(), "exports": spec.exports,
    })
}
