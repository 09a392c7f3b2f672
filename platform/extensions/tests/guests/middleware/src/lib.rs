//! A middleware that does what the path says, most of it bad. Paths that begin with `/after` are
//! for the response.

use std::cell::Cell;
use std::hint::black_box;

use wasip2::clocks::monotonic_clock;

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package berth:extension;
            world extension {
                import berth:log/log@0.1.0;
                import berth:config/config@0.1.0;
                import berth:secrets/secrets@0.1.0;
                import berth:secrets/reader@0.1.0;
                import berth:counters/counters@0.1.0;
                import berth:clock/clock@0.1.0;
                import berth:metrics/metrics@0.1.0;
                export berth:middleware/request-filter@0.1.0;
                export berth:middleware/response-filter@0.1.0;
            }
        ",
        path: [
            "../../../../wit/types",
            "../../../../wit/log",
            "../../../../wit/config",
            "../../../../wit/secrets",
            "../../../../wit/counters",
            "../../../../wit/clock",
            "../../../../wit/metrics",
            "../../../../wit/middleware",
        ],
        world: "berth:extension/extension",
        generate_all,
    });
}

use bindings::berth::clock::clock;
use bindings::berth::config::config;
use bindings::berth::counters::counters;
use bindings::berth::log::log;
use bindings::berth::metrics::metrics;
use bindings::berth::middleware::types::{Reply, Request, Response};
use bindings::berth::secrets::{reader, secrets};
use bindings::exports::berth::middleware::{request_filter, response_filter};

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

struct Middleware;

fn reply(status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> Option<Reply> {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
        .collect();
    Some(Reply { status, headers, body })
}

fn say(text: impl Into<String>) -> Option<Reply> {
    reply(200, &[], text.into().into_bytes())
}

fn code<T>(result: Result<T, bindings::berth::types::types::Error>) -> String {
    result.map_or_else(|error| error.code, |_| "ok".to_owned())
}

fn bad(what: &str) {
    match what {
        "loop" => loop {
            black_box(());
        },
        "trap" => panic!("asked for"),
        "memory" => {
            // Asked for and not touched, which would take processor time.
            let mut kept = Vec::new();
            loop {
                kept.push(black_box(Vec::<u8>::with_capacity(1 << 20)));
            }
        }
        "wait" => monotonic_clock::subscribe_duration(u64::MAX).block(),
        "calls" => loop {
            black_box(config::get("a"));
        },
        "log" => loop {
            log::line("info", &"a".repeat(8_000));
        },
        "exit" => std::process::exit(0),
        "recursion" => {
            black_box(recursion(1));
        }
        _ => {}
    }
}

fn recursion(depth: u64) -> u64 {
    if black_box(depth) == 0 { 0 } else { recursion(depth + 1) + 1 }
}

impl request_filter::Guest for Middleware {
    fn on_request(request: &Request) -> Option<Reply> {
        let calls = CALLS.get() + 1;
        CALLS.set(calls);
        let path = request.path();
        let what = path.trim_start_matches('/').split('?').next().unwrap_or_default();
        // What is changed before the end came must not be seen.
        request.set_header("x-changed", b"yes");
        bad(what);
        match what {
            "seen" => say(format!(
                "{} {} {} {} {}",
                request.method(),
                request.scheme(),
                request.host(),
                path,
                request.client()
            )),
            "forge" => {
                let refused = ["host", "x-forwarded-for", "content-length", "berth-instance"]
                    .iter()
                    .filter(|name| {
                        !request.set_header(name, b"forged") && !request.remove_header(name)
                    })
                    .count();
                request.set_header("x-refused", refused.to_string().as_bytes());
                request.remove_header("x-secret");
                None
            }
            "body" => match request.body() {
                Some(body) => reply(200, &[], body),
                None => say("no body"),
            },
            "body-on" => {
                let bytes = request.body().map_or(-1, |body| body.len() as i64);
                request.set_header("x-body", bytes.to_string().as_bytes());
                None
            }
            "refuse" => reply(
                403,
                &[("content-length", "99"), ("x-forwarded-for", "me"), ("x-why", "asked for")],
                b"no".to_vec(),
            ),
            "status" => reply(99, &[], Vec::new()),
            "header" => reply(200, &[("a b", "1")], Vec::new()),
            "long" => reply(200, &[], vec![b'a'; (1 << 20) + 1]),
            "more" => {
                black_box(Vec::<u8>::with_capacity(24 << 20));
                None
            }
            "full" => reply(200, &[], vec![b'a'; 1 << 20]),
            "wide" => reply(200, &[("x-wide", &"a".repeat(64 << 10))], Vec::new()),
            "many" => reply(200, &[("x-many", "a"); 129], Vec::new()),
            "calls-of-instance" => say(calls.to_string()),
            "config" => say(config::document()),
            "secret" => say(match secrets::open("one") {
                Err(error) => error.code,
                Ok(secret) => format!(
                    "{} {} {}",
                    secret.equals(b"value of one"),
                    secret.equals(b"another"),
                    code(reader::reveal(&secret))
                ),
            }),
            "count" => say(match counters::add("key", 1, 60_000) {
                Err(error) => error.code,
                Ok(count) => count.value.to_string(),
            }),
            "clock" => say(clock::now_ms().to_string()),
            "measure" => say(code(metrics::add("seen", 1.0, &[]))),
            "say" => {
                log::line("warning", "one\nline");
                None
            }
            _ => None,
        }
    }
}

impl response_filter::Guest for Middleware {
    fn on_response(response: &Response) {
        let path = response.path();
        response.set_header("x-passed", response.status().to_string().as_bytes());
        response.set_header("transfer-encoding", b"gzip");
        if let Some(what) = path.strip_prefix("/after/") {
            bad(what);
        }
    }
}

bindings::export!(Middleware with_types_in bindings);
