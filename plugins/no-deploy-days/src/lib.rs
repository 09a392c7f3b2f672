//! Refuses releases on some days of the week, by the time that the plan carries. Rolling back is
//! never asked about.

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

/// 1 January 1970 was a Thursday.
const DAYS: [&str; 7] =
    ["thursday", "friday", "saturday", "sunday", "monday", "tuesday", "wednesday"];
const DAY_MS: i64 = 24 * 3_600_000;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Config {
    days: Vec<String>,
    utc_offset_minutes: i64,
}

struct NoDeployDays;

impl Guest for NoDeployDays {
    fn judge(plan: Plan) -> Result<Verdict, Error> {
        if !plan.actions.iter().any(|action| action == "release.created") {
            return Ok(Verdict::Allow(Vec::new()));
        }
        let config: Config = serde_json::from_str(&config::document()).map_err(|error| Error {
            code: "config".to_owned(),
            message: error.to_string(),
            retry: false,
            extra: Vec::new(),
        })?;
        let today = day(plan.at_ms, config.utc_offset_minutes);
        if config.days.iter().any(|day| day == today) {
            return Ok(Verdict::Deny(format!(
                "nothing is released on a {today}; try again tomorrow"
            )));
        }
        Ok(Verdict::Allow(Vec::new()))
    }
}

fn day(at_ms: u64, offset_minutes: i64) -> &'static str {
    let local_ms = i64::try_from(at_ms).unwrap_or(i64::MAX).saturating_add(offset_minutes * 60_000);
    let days = local_ms.div_euclid(DAY_MS).rem_euclid(7);
    DAYS[usize::try_from(days).unwrap_or(0)]
}

bindings::export!(NoDeployDays with_types_in bindings);
