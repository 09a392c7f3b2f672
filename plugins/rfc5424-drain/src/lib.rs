//! Writes messages of RFC 5424 with a facility, names and structured data of the operator's own, for
//! receivers that want a token in each message. The last processor of a drain.

mod message;

use message::{Config, Line, message};

/// Generated from `platform/wit`.
#[allow(missing_docs, unreachable_pub, clippy::allow_attributes, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package berth:extension;
            world extension {
                import berth:log/log@0.1.0;
                import berth:config/config@0.1.0;
                export berth:log-processor/processor@0.1.0;
            }
        ",
        path: [
            "../../platform/wit/types",
            "../../platform/wit/log",
            "../../platform/wit/config",
            "../../platform/wit/clock",
            "../../platform/wit/metrics",
            "../../platform/wit/log-processor",
        ],
        world: "berth:extension/extension",
        generate_all,
    });
}

use bindings::berth::config::config;
use bindings::berth::types::types::Error;
use bindings::exports::berth::log_processor::processor::{Entry, Guest, Output};

struct Rfc5424Drain;

impl Guest for Rfc5424Drain {
    fn process(batch: Vec<Entry>) -> Result<Output, Error> {
        let config: Config = serde_json::from_str(&config::document()).map_err(|error| Error {
            code: "config".to_owned(),
            message: format!("the configuration: {error}"),
            retry: false,
            extra: Vec::new(),
        })?;
        let frames = batch.iter().map(|entry| {
            let line = Line {
                app: &entry.app,
                instance: &entry.instance,
                stream: &entry.stream,
                at_ns: entry.at_ns,
                seq: entry.seq,
                text: &entry.line,
                extra: &entry.extra,
            };
            message(&config, &line)
        });
        Ok(Output::Frames(frames.collect()))
    }
}

bindings::export!(Rfc5424Drain with_types_in bindings);
