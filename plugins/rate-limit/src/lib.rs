//! Answers 429 to those who ask too often. Clients are told apart by their address, or by a header
//! such as an API key.

use std::cell::OnceCell;

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
                import berth:counters/counters@0.1.0;
                import berth:metrics/metrics@0.1.0;
                export berth:middleware/request-filter@0.1.0;
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
use bindings::berth::counters::counters;
use bindings::berth::log::log;
use bindings::berth::metrics::metrics;
use bindings::berth::middleware::types::{Reply, Request};
use bindings::exports::berth::middleware::request_filter::Guest;

/// Longest header value that tells clients apart; a longer one is cut.
const KEY_BYTES_MAX: usize = 200;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Config {
    requests: u64,
    #[serde(default = "a_minute")]
    window_s: u64,
    #[serde(default)]
    by_header: Option<String>,
}

fn a_minute() -> u64 {
    60
}

thread_local! {
    /// Read once: another configuration has instances of its own.
    static CONFIG: OnceCell<Option<Config>> = const { OnceCell::new() };
}

fn read() -> Option<Config> {
    serde_json::from_str(&config::document())
        .inspect_err(|error| {
            log::line("error", &format!("nobody is limited: the configuration: {error}"));
        })
        .ok()
}

/// Who asks.
fn key(config: &Config, request: &Request) -> String {
    let value = config.by_header.as_ref().and_then(|name| request.header(name));
    match value {
        Some(value) => {
            let end = value.len().min(KEY_BYTES_MAX);
            format!("h:{}", String::from_utf8_lossy(&value[..end]))
                .chars()
                .take(KEY_BYTES_MAX / 4 + 2)
                .collect()
        }
        None => format!("a:{}", request.client()),
    }
}

struct RateLimit;

impl Guest for RateLimit {
    fn on_request(request: &Request) -> Option<Reply> {
        CONFIG.with(|config| {
            let config = config.get_or_init(read).as_ref()?;
            match counters::add(&key(config, request), 1, config.window_s * 1_000) {
                Ok(count) if count.value <= config.requests => None,
                Ok(count) => {
                    // A measure that is not kept is no reason to let somebody pass.
                    let _ = metrics::add("refused", 1.0, &[]);
                    Some(too_many(count.resets_in_ms.div_ceil(1_000).max(1)))
                }
                Err(error) => {
                    log::line("error", &format!("a request was not counted: {}", error.message));
                    None
                }
            }
        })
    }
}

fn too_many(wait_s: u64) -> Reply {
    Reply {
        status: 429,
        headers: vec![
            ("retry-after".to_owned(), wait_s.to_string().into_bytes()),
            ("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec()),
            ("cache-control".to_owned(), b"no-store".to_vec()),
        ],
        body: format!("429 Too Many Requests\nTry again in {wait_s} s.\n").into_bytes(),
    }
}

bindings::export!(RateLimit with_types_in bindings);
