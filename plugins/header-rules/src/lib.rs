//! Sets and removes headers, of requests before the app sees them and of its responses.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use serde::Deserialize;

/// Generated from `platform/wit`.
#[allow(missing_docs, unreachable_pub, clippy::allow_attributes, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package berth:extension;
            world extension {
                import berth:log/log@0.1.0;
                import berth:config/config@0.1.0;
                export berth:middleware/request-filter@0.1.0;
                export berth:middleware/response-filter@0.1.0;
            }
        ",
        path: [
            "../../platform/wit/types",
            "../../platform/wit/log",
            "../../platform/wit/config",
            "../../platform/wit/secrets",
            "../../platform/wit/counters",
            "../../platform/wit/clock",
            "../../platform/wit/metrics",
            "../../platform/wit/middleware",
        ],
        world: "berth:extension/extension",
        generate_all,
    });
}

use bindings::berth::config::config;
use bindings::berth::log::log;
use bindings::berth::middleware::types::{Reply, Request, Response};
use bindings::exports::berth::middleware::{request_filter, response_filter};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    request: Rules,
    response: Rules,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Rules {
    set: BTreeMap<String, String>,
    remove: Vec<String>,
}

thread_local! {
    /// Read once: an instance serves many requests, and another configuration has instances of
    /// its own.
    static CONFIG: OnceCell<Config> = const { OnceCell::new() };
}

fn with_config(work: impl FnOnce(&Config)) {
    CONFIG.with(|config| {
        work(config.get_or_init(|| {
            serde_json::from_str(&config::document()).unwrap_or_else(|error| {
                log::line("error", &format!("the configuration cannot be read: {error}"));
                Config::default()
            })
        }));
    });
}

struct HeaderRules;

impl request_filter::Guest for HeaderRules {
    fn on_request(request: &Request) -> Option<Reply> {
        with_config(|config| {
            for name in &config.request.remove {
                refused(name, request.remove_header(name));
            }
            for (name, value) in &config.request.set {
                refused(name, request.set_header(name, value.as_bytes()));
            }
        });
        None
    }
}

impl response_filter::Guest for HeaderRules {
    fn on_response(response: &Response) {
        with_config(|config| {
            for name in &config.response.remove {
                refused(name, response.remove_header(name));
            }
            for (name, value) in &config.response.set {
                refused(name, response.set_header(name, value.as_bytes()));
            }
        });
    }
}

fn refused(name: &str, done: bool) {
    if !done {
        log::line("warning", &format!("the header {name} cannot be changed"));
    }
}

bindings::export!(HeaderRules with_types_in bindings);
