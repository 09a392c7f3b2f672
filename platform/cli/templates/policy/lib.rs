//! Refuses changes of apps that are frozen.

wit_bindgen::generate!({ world: "extension", path: "wit", generate_all });

use berth::config::config;
use exports::berth::policy::judge::{Error, Guest, Plan, Verdict};

struct Extension;

impl Guest for Extension {
    /// An error counts as a refusal.
    fn judge(plan: Plan) -> Result<Verdict, Error> {
        let frozen: Vec<String> = config::get("frozen")
            .and_then(|json| serde_json::from_str(&json).ok())
            .unwrap_or_default();
        match plan.app {
            Some(app) if frozen.contains(&app) => Ok(Verdict::Deny(format!(
                "{app} is frozen, so {} may not do {}; ask an operator to take it off the list",
                plan.actor,
                plan.actions.join(", ")
            ))),
            _ => Ok(Verdict::Allow(Vec::new())),
        }
    }
}

export!(Extension);
