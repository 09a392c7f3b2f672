//! A hook that does what the payload's `do` says, or its configuration's, and answers with what
//! came of it: an error whose message is the code of the power's error, or `ok`.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package berth:extension;
            world extension {
                import berth:log/log@0.1.0;
                import berth:config/config@0.1.0;
                import berth:kv/kv@0.1.0;
                import berth:secrets/secrets@0.1.0;
                import berth:secrets/reader@0.1.0;
                import berth:http-out/http-out@0.1.0;
                import berth:events/events@0.1.0;
                import berth:clock/clock@0.1.0;
                import berth:metrics/metrics@0.1.0;
                export berth:hook/handler@0.1.0;
            }
        ",
        path: [
            "../../../../wit/types",
            "../../../../wit/log",
            "../../../../wit/config",
            "../../../../wit/kv",
            "../../../../wit/secrets",
            "../../../../wit/http-out",
            "../../../../wit/events",
            "../../../../wit/clock",
            "../../../../wit/metrics",
            "../../../../wit/hook",
        ],
        world: "berth:extension/extension",
        generate_all,
    });
}

use std::hint::black_box;
use std::time::Duration;

use bindings::berth::clock::clock;
use bindings::berth::config::config;
use bindings::berth::events::events;
use bindings::berth::http_out::http_out::Request;
use bindings::berth::kv::kv;
use bindings::berth::log::log;
use bindings::berth::metrics::metrics;
use bindings::berth::secrets::{reader, secrets};
use bindings::exports::berth::hook::handler::{Error, Event, Guest};
use serde_json::Value;

struct Hook;

impl Guest for Hook {
    fn on_event(event: Event) -> Result<(), Error> {
        let payload: Value = serde_json::from_str(&event.payload).unwrap_or_default();
        let config: Value = serde_json::from_str(&config::document()).unwrap_or_default();
        let text = |name: &str| {
            let found = [&payload, &config].into_iter().find_map(|from| from[name].as_str());
            found.unwrap_or_default().to_owned()
        };
        let done = match text("do").as_str() {
            "take" => return take(&event, &config),
            "trap" => panic!("asked for"),
            "loop" => loop {
                black_box(());
            },
            "log" => {
                log::line("info", &text("text"));
                Ok(())
            }
            "config" => {
                log::line("info", &config::document());
                Ok(())
            }
            "kv.get" => kv::get("key").map(drop),
            "kv.put" => kv::put("key", text("value").as_bytes(), None),
            "kv.put-if-absent" => kv::put_if_absent("key", b"value", None).map(drop),
            "kv.remove" => kv::remove("key").map(drop),
            "kv.keys" => kv::keys("k", 10).map(drop),
            "secrets.open" => secrets::open(&text("name")).map(drop),
            "secrets.reveal" => secrets::open(&text("name")).and_then(|secret| {
                let value = reader::reveal(&secret)?;
                log::line("info", &format!("{} bytes", value.len()));
                Ok(())
            }),
            "http" => {
                let request = Request::new("GET", &text("url"));
                request.set_timeout_ms(300);
                request.send().map(drop)
            }
            "wait" | "wait then trap" => {
                log::line("info", "begun");
                std::thread::sleep(Duration::from_secs(2));
                if text("do") == "wait" { Ok(()) } else { panic!("asked for") }
            }
            "emit" => events::emit(&text("name"), "{}"),
            "clock" => {
                log::line("info", if clock::now_ms() > 0 { "a time" } else { "no time" });
                Ok(())
            }
            "metrics.add" => metrics::add("seen", 1.0, &[]),
            "metrics.set" => metrics::set("level", 2.0, &[]),
            other => Err(said(&format!("'{other}' is not known"))),
        };
        Err(said(&done.map_or_else(|error| error.code, |()| "ok".to_owned())))
    }
}

/// Tells of the event, once, however often it is offered. The first `fails` tries are refused, and
/// the first `late` tries fail after they told.
fn take(event: &Event, config: &Value) -> Result<(), Error> {
    let tries = |name: &str| config[name].as_u64().unwrap_or(0);
    let attempt = u64::from(event.attempt);
    log::line("info", &format!("offered {} {} {attempt}", event.id, event.kind));
    if attempt <= tries("fails") {
        return Err(said("not yet"));
    }
    if kv::put_if_absent(&event.id, event.kind.as_bytes(), None)? {
        log::line("info", &format!("took {} {}", event.id, event.kind));
    }
    if attempt <= tries("late") { Err(said("too late")) } else { Ok(()) }
}

fn said(message: &str) -> Error {
    Error { code: "said".to_owned(), message: message.to_owned(), retry: true, extra: Vec::new() }
}

bindings::export!(Hook with_types_in bindings);
