//! A policy that uses all that policies had in 0.1.0.

wit_bindgen::generate!({ world: "extension", path: "wit", generate_all });

use berth::config::config;
use berth::kv::kv;
use berth::log::log;
use berth::metrics::metrics;
use exports::berth::policy::judge::{Error, Guest, Plan, Verdict};

struct Extension;

impl Guest for Extension {
    fn judge(plan: Plan) -> Result<Verdict, Error> {
        let known = plan.actor == "user:ada"
            && plan.app.as_deref() == Some("shop")
            && plan.team.as_deref() == Some("default")
            && plan.actions == ["release.created"]
            && plan.at_ms > 0
            && plan.document == "{\"n\":1}";
        if !known || !configured() || !kept()? {
            return Err(error("something is missing"));
        }
        metrics::add("judged", 1.0, &[])?;
        metrics::set("last", 2.0, &[])?;
        log::line("info", "all of it");
        if plan.extra.is_empty() {
            Ok(Verdict::Deny("not in a museum".to_owned()))
        } else {
            Ok(Verdict::Allow(Vec::new()))
        }
    }
}

fn configured() -> bool {
    config::get("word").as_deref() == Some("\"museum\"")
        && config::document() == "{\"word\":\"museum\"}"
        && config::get("none").is_none()
}

fn kept() -> Result<bool, Error> {
    kv::put("a", b"1", None)?;
    kv::put("b", b"2", Some(60_000))?;
    Ok(kv::get("a")?.as_deref() == Some(b"1".as_slice())
        && !kv::put_if_absent("a", b"3", None)?
        && kv::keys("", 10)? == ["a", "b"]
        && kv::remove("b")?
        && kv::get("b")?.is_none())
}

fn error(message: &str) -> Error {
    Error { code: "museum".to_owned(), message: message.to_owned(), retry: false, extra: Vec::new() }
}

export!(Extension);
