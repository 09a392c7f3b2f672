//! A log processor that uses all that log processors had in 0.1.0.

wit_bindgen::generate!({ world: "extension", path: "wit", generate_all });

use berth::clock::clock;
use berth::config::config;
use berth::log::log;
use berth::metrics::metrics;
use exports::berth::log_processor::processor::{Entry, Error, Guest, Output};

struct Extension;

impl Guest for Extension {
    fn process(batch: Vec<Entry>) -> Result<Output, Error> {
        if !configured() || clock::now_ms() == 0 {
            return Err(error("something is missing"));
        }
        metrics::add("lines", 1.0, &[])?;
        metrics::set("last", 2.0, &[])?;
        log::line("info", "all of it");
        if batch.iter().any(|entry| entry.line == "frames") {
            return Ok(Output::Frames(vec![b"a frame".to_vec()]));
        }
        Ok(Output::Entries(batch.into_iter().map(told).collect()))
    }
}

/// The same entry, with all that it holds in its line.
fn told(entry: Entry) -> Entry {
    let Entry { app, process, instance, stream, at_ns, seq, line, partial, .. } = &entry;
    let line = format!("{app} {process} {instance} {stream} {} {seq} {line} {partial}", at_ns > &0);
    Entry { line, ..entry }
}

fn configured() -> bool {
    config::get("word").as_deref() == Some("\"museum\"")
        && config::document() == "{\"word\":\"museum\"}"
        && config::get("none").is_none()
}

fn error(message: &str) -> Error {
    Error { code: "museum".to_owned(), message: message.to_owned(), retry: false, extra: Vec::new() }
}

export!(Extension);
