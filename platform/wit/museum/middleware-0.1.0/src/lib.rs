//! A middleware that uses all that middlewares had in 0.1.0.

wit_bindgen::generate!({ world: "extension", path: "wit", generate_all });

use berth::clock::clock;
use berth::config::config;
use berth::counters::counters;
use berth::log::log;
use berth::metrics::metrics;
use berth::secrets::{reader, secrets};
use berth::types::types::Error;
use exports::berth::middleware::request_filter::{Guest as Requests, Reply, Request};
use exports::berth::middleware::response_filter::{Guest as Responses, Response};

struct Extension;

impl Requests for Extension {
    fn on_request(request: &Request) -> Option<Reply> {
        let wrong = match seen(request) {
            Ok(wrong) => wrong?,
            Err(error) => error.message,
        };
        let headers = vec![("x-hall".to_owned(), b"old".to_vec())];
        Some(Reply { status: 418, headers, body: wrong.into_bytes() })
    }
}

impl Responses for Extension {
    fn on_response(response: &Response) {
        let known = response.status() == 200
            && response.path() == "/hall?a=b"
            && response.header("server").as_deref() == Some(b"app".as_slice())
            && response.headers().len() == 1
            && response.remove_header("server")
            && response.set_header("x-hall", b"old");
        log::line("info", if known { "all of the response" } else { "not all" });
    }
}

/// What is not as it was.
fn seen(request: &Request) -> Result<Option<String>, Error> {
    let key = secrets::open("key")?;
    let open = secrets::open("open")?;
    let count = counters::add("requests", 2, 60_000)?;
    metrics::add("requests", 1.0, &[])?;
    metrics::set("last", 2.0, &[])?;
    let all = [
        ("method", request.method() == "POST"),
        ("scheme", request.scheme() == "http"),
        ("host", request.host() == "shop.localhost"),
        ("path", request.path() == "/hall?a=b"),
        ("client", request.client() == "192.0.2.7"),
        ("header", request.header("x-one").as_deref() == Some(b"1".as_slice())),
        ("headers", request.headers().iter().any(|(name, _)| name == "x-two")),
        ("set-header", request.set_header("x-one", b"one") && !request.set_header("host", b"no")),
        ("remove-header", request.remove_header("x-two")),
        ("body", request.body().as_deref() == Some(b"in".as_slice())),
        ("config", configured()),
        ("clock", clock::now_ms() > 0),
        ("secrets", key.name() == "key" && key.equals(b"sesame-1")),
        ("hmac", key.hmac_sha256(b"data").len() == 32),
        ("reader", reader::reveal(&open)? == b"plain-text"),
        ("counters", count.value == 2 && count.resets_in_ms <= 60_000),
    ];
    log::line("info", "all of the request");
    Ok(all.into_iter().find(|(_, good)| !good).map(|(what, _)| format!("{what} is not what it was")))
}

fn configured() -> bool {
    config::get("word").as_deref() == Some("\"museum\"")
        && config::document() == "{\"word\":\"museum\"}"
        && config::get("none").is_none()
}

export!(Extension);
