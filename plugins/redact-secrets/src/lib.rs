//! Hides credentials in the lines of a drain: what usually is one, and what the configuration
//! names. Lines that were cut because they are long are looked at whole.

mod redact;
mod usual;

use redact::Redactor;

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

#[derive(Deserialize)]
#[serde(default)]
struct Config {
    usual: bool,
    patterns: Vec<String>,
    words: Vec<String>,
    replacement: String,
}

impl Default for Config {
    fn default() -> Self {
        let replacement = "[redacted]".to_owned();
        Self { usual: true, patterns: Vec::new(), words: Vec::new(), replacement }
    }
}

struct RedactSecrets;

impl Guest for RedactSecrets {
    fn process(mut batch: Vec<Entry>) -> Result<Output, Error> {
        let config: Config = serde_json::from_str(&config::document())
            .map_err(|error| refused(format!("the configuration: {error}")))?;
        let redactor =
            Redactor::new(config.usual, &config.patterns, &config.words, &config.replacement)
                .map_err(refused)?;
        redact_all(&redactor, &mut batch);
        Ok(Output::Entries(batch))
    }
}

/// Redacts each line as a whole; what is left of one that was cut stands in its first part.
fn redact_all(redactor: &Redactor, batch: &mut [Entry]) {
    // Of each stream that a line was cut in, the parts of that line.
    let mut cut: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
    for index in 0..batch.len() {
        for (_, value) in &mut batch[index].extra {
            if let Some(shown) = redactor.redact(value) {
                *value = shown;
            }
        }
        if cut.is_empty() && !batch[index].partial {
            redact_parts(redactor, batch, &[index]);
            continue;
        }
        let stream = (batch[index].instance.clone(), batch[index].stream.clone());
        cut.entry(stream.clone()).or_default().push(index);
        if !batch[index].partial {
            let parts = cut.remove(&stream).unwrap_or_default();
            redact_parts(redactor, batch, &parts);
        }
    }
    for parts in cut.into_values() {
        redact_parts(redactor, batch, &parts);
    }
}

fn redact_parts(redactor: &Redactor, batch: &mut [Entry], parts: &[usize]) {
    let Some((first, others)) = parts.split_first() else { return };
    let shown = match others {
        [] => redactor.redact(&batch[*first].line),
        _ => {
            let whole: String = parts.iter().map(|index| batch[*index].line.as_str()).collect();
            redactor.redact(&whole)
        }
    };
    let Some(shown) = shown else { return };
    batch[*first].line = shown;
    for index in others {
        batch[*index].line.clear();
    }
}

fn refused(message: String) -> Error {
    Error { code: "config".to_owned(), message, retry: false, extra: Vec::new() }
}

bindings::export!(RedactSecrets with_types_in bindings);
