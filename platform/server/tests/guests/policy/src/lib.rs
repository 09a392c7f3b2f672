//! A policy that answers what its configuration says.

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
            "../../../../wit/types",
            "../../../../wit/log",
            "../../../../wit/config",
            "../../../../wit/kv",
            "../../../../wit/metrics",
            "../../../../wit/policy",
        ],
        world: "berth:extension/extension",
        generate_all,
    });
}

use std::hint::black_box;

use bindings::berth::config::config;
use bindings::berth::log::log;
use bindings::exports::berth::policy::judge::{Error, Guest, Plan, Verdict};
use serde_json::Value;

struct Policy;

impl Guest for Policy {
    fn judge(plan: Plan) -> Result<Verdict, Error> {
        let config: Value = serde_json::from_str(&config::document()).unwrap_or_default();
        log::line("info", &format!("judged {}", plan.actions.join(" ")));
        match config["verdict"].as_str().unwrap_or_default() {
            "allow" => Ok(Verdict::Allow(vec!["looks good".to_owned()])),
            "deny" => Ok(Verdict::Deny("not today".to_owned())),
            "trap" => panic!("asked for"),
            "loop" => loop {
                black_box(());
            },
            other => Err(Error {
                code: "config".to_owned(),
                message: format!("'{other}' is no verdict"),
                retry: false,
                extra: Vec::new(),
            }),
        }
    }
}

bindings::export!(Policy with_types_in bindings);
