//! A log processor that does what the first line of its batch says, most of it bad.

use std::hint::black_box;

use wasip2::clocks::monotonic_clock;

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package berth:extension;
            world extension {
                import berth:log/log@0.1.0;
                import berth:config/config@0.1.0;
                import berth:clock/clock@0.1.0;
                import berth:metrics/metrics@0.1.0;
                export berth:log-processor/processor@0.1.0;
            }
        ",
        path: [
            "../../../../wit/types",
            "../../../../wit/log",
            "../../../../wit/config",
            "../../../../wit/clock",
            "../../../../wit/metrics",
            "../../../../wit/log-processor",
        ],
        world: "berth:extension/extension",
        generate_all,
    });
}

use bindings::berth::clock::clock;
use bindings::berth::config::config;
use bindings::berth::log::log;
use bindings::berth::metrics::metrics;
use bindings::berth::types::types::Error;
use bindings::exports::berth::log_processor::processor::{Entry, Guest, Output};

struct LogProcessor;

impl Guest for LogProcessor {
    fn process(mut batch: Vec<Entry>) -> Result<Output, Error> {
        let said = batch.first().map(|entry| entry.line.clone()).unwrap_or_default();
        let (what, number) = said.split_once(' ').unwrap_or((&said, "0"));
        let number: usize = number.parse().unwrap_or(0);
        match what {
            "loop" => loop {
                black_box(());
            },
            "trap" => panic!("asked for"),
            "memory" => {
                let mut kept = Vec::new();
                loop {
                    kept.push(black_box(vec![1_u8; 1 << 20]));
                }
            }
            "wait" => monotonic_clock::subscribe_duration(u64::MAX).block(),
            "calls" => (0..number).for_each(|_| drop(black_box(config::get("a")))),
            "log" => (0..number).for_each(|_| log::line("info", &"a".repeat(8_000))),
            // As many bytes beside what stood there.
            "longer" => batch[0].line.push_str(&"a".repeat(number)),
            "frames" => return Ok(Output::Frames(vec![vec![b'a'; number]])),
            "empty-frames" => return Ok(Output::Frames(vec![Vec::new(); number])),
            "clock" => batch[0].line = clock::now_ms().to_string(),
            "measure" => {
                batch[0].line = match metrics::add("seen", 1.0, &[]) {
                    Ok(()) => "ok".to_owned(),
                    Err(error) => error.code,
                };
            }
            "error" => {
                let message = "asked for".to_owned();
                let code = "test".to_owned();
                return Err(Error { code, message, retry: false, extra: Vec::new() });
            }
            _ => {}
        }
        Ok(Output::Entries(batch))
    }
}

bindings::export!(LogProcessor with_types_in bindings);
