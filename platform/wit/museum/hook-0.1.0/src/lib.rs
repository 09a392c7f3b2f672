//! A hook that uses all that hooks had in 0.1.0.

wit_bindgen::generate!({ world: "extension", path: "wit", generate_all });

use berth::clock::clock;
use berth::config::config;
use berth::events::events;
use berth::http_out::http_out::Request;
use berth::kv::kv;
use berth::log::log;
use berth::metrics::metrics;
use berth::secrets::{reader, secrets};
use exports::berth::hook::handler::{Error, Event, Guest};

struct Extension;

impl Guest for Extension {
    fn on_event(event: Event) -> Result<(), Error> {
        for (what, good) in [
            ("event", event.id == "one" && event.kind == "deployment.succeeded"),
            ("event", event.schema == "1" && event.subject == "app:shop" && event.attempt == 1),
            ("event", event.payload == "{\"state\":\"done\"}" && event.at_ms == clock::now_ms()),
            ("config", configured()),
            ("kv", kept()?),
            ("secrets", signed()?),
            ("http-out", sent()?),
        ] {
            if !good {
                return Err(error(what));
            }
        }
        metrics::add("seen", 1.0, &[("kind".to_owned(), event.kind)])?;
        metrics::set("last", 2.0, &[])?;
        events::emit("seen", "{\"n\":1}")?;
        log::line("info", "all of it");
        Ok(())
    }
}

fn signed() -> Result<bool, Error> {
    let key = secrets::open("key")?;
    let open = secrets::open("open")?;
    Ok(key.name() == "key"
        && key.hmac_sha256(b"data").len() == 32
        && key.equals(b"sesame-1")
        && !key.equals(b"sesame-2")
        && reader::reveal(&open)? == b"plain-text")
}

fn configured() -> bool {
    config::get("word").as_deref() == Some("\"museum\"")
        && config::document() == "{\"word\":\"museum\"}"
        && config::get("none").is_none()
}

fn kept() -> Result<bool, Error> {
    kv::put("a", b"1", None)?;
    kv::put("b", b"2", Some(60_000))?;
    Ok(kv::get("a")?.as_deref() == Some(b"1".as_slice())
        && !kv::put_if_absent("a", b"3", None)?
        && kv::keys("", 10)? == ["a", "b"]
        && kv::remove("b")?
        && kv::get("b")?.is_none())
}

fn sent() -> Result<bool, Error> {
    let key = secrets::open("key")?;
    let request = Request::new("POST", "https://example.com/");
    request.set_header("x-plain", b"yes");
    request.set_secret_header("authorization", "Bearer ", &key);
    request.set_body(b"body");
    request.set_timeout_ms(1000);
    let response = request.send()?;
    let hidden = Request::new("POST", "");
    hidden.set_secret_url(&secrets::open("key")?);
    // The secret is no address.
    Ok(response.status == 201 && response.body == b"made" && hidden.send().is_err())
}

fn error(message: &str) -> Error {
    Error { code: "museum".to_owned(), message: message.to_owned(), retry: false, extra: Vec::new() }
}

export!(Extension);
