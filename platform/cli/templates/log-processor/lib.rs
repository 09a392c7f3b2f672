//! Leaves lines of health checks out of a drain.

wit_bindgen::generate!({ world: "extension", path: "wit", generate_all });

use berth::config::config;
use exports::berth::log_processor::processor::{Entry, Error, Guest, Output};

struct Extension;

impl Guest for Extension {
    /// After an error the batch goes on as it came.
    fn process(mut batch: Vec<Entry>) -> Result<Output, Error> {
        let noise: Vec<String> = config::get("noise")
            .and_then(|json| serde_json::from_str(&json).ok())
            .unwrap_or_default();
        batch.retain(|entry| !noise.iter().any(|text| entry.line.contains(text.as_str())));
        Ok(Output::Entries(batch))
    }
}

export!(Extension);
