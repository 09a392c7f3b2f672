//! Refuses plans whose instances would run as root, without a memory limit or with too much of it,
//! and plans that scale a process too far.

/// Generated from `platform/wit`.
#[allow(missing_docs, unreachable_pub, clippy::allow_attributes, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package berth:extension;
            world extension {
                import berth:log/log@0.1.0;
                import berth:config/config@0.1.0;
                export berth:policy/judge@0.1.0;
            }
        ",
        path: [
            "../../platform/wit/types",
            "../../platform/wit/log",
            "../../platform/wit/config",
            "../../platform/wit/kv",
            "../../platform/wit/metrics",
            "../../platform/wit/policy",
        ],
        world: "berth:extension/extension",
        generate_all,
    });
}

use bindings::berth::config::config;
use bindings::exports::berth::policy::judge::{Error, Guest, Plan, Verdict};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Config {
    memory_mib_max: u64,
    instances_max: u64,
}

struct InstanceRules;

impl Guest for InstanceRules {
    fn judge(plan: Plan) -> Result<Verdict, Error> {
        let invalid = |error: serde_json::Error| Error {
            code: "invalid".to_owned(),
            message: error.to_string(),
            retry: false,
            extra: Vec::new(),
        };
        let config: Config = serde_json::from_str(&config::document()).map_err(invalid)?;
        let document: Value = serde_json::from_str(&plan.document).map_err(invalid)?;
        Ok(match complaint(&config, &document) {
            Some(reason) => Verdict::Deny(reason),
            None => Verdict::Allow(Vec::new()),
        })
    }
}

fn complaint(config: &Config, document: &Value) -> Option<String> {
    for change in document["changes"].as_array().into_iter().flatten() {
        let (kind, to) = (change["kind"].as_str().unwrap_or_default(), &change["to"]);
        if kind == "scale" && to.as_u64().is_some_and(|to| to > config.instances_max) {
            let process = change["process"].as_str().unwrap_or("a process");
            return Some(format!(
                "{process} would have {to} instances; {} are allowed",
                config.instances_max
            ));
        }
    }
    // Absent where no app is there yet.
    let instance = document.get("instance")?;
    if instance["uid"].as_u64() == Some(0) {
        return Some("its instances would run as root".to_owned());
    }
    let memory_bytes = instance["memory_bytes"].as_u64().unwrap_or(u64::MAX);
    if memory_bytes > config.memory_mib_max << 20 {
        return Some(format!(
            "its instances may use more than {} MiB of memory",
            config.memory_mib_max
        ));
    }
    None
}

bindings::export!(InstanceRules with_types_in bindings);
