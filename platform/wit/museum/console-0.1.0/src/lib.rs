//! A panel of the console that uses all that such extensions had in 0.1.0.

wit_bindgen::generate!({ world: "extension", path: "wit", generate_all });

use berth::clock::clock;
use berth::config::config;
use berth::http_out::http_out::Request;
use berth::kv::kv;
use berth::log::log;
use berth::secrets::secrets;
use exports::berth::console::pages::{Error, Guest, Page, Request as Wanted};

struct Extension;

impl Guest for Extension {
    fn pages() -> Vec<Page> {
        vec![Page {
            id: "hall".to_owned(),
            title: "Hall".to_owned(),
            place: "app".to_owned(),
            extra: Vec::new(),
        }]
    }

    fn render(request: Wanted) -> Result<String, Error> {
        let known = request.page == "hall"
            && request.app.as_deref() == Some("shop")
            && request.state.as_deref() == Some("{\"n\":1}")
            && Self::pages().len() == 1
            && clock::now_ms() > 0
            && secrets::open("key")?.equals(b"sesame-1");
        if !known || !configured() || !kept()? || !sent()? {
            return Err(error("something is missing"));
        }
        log::line("info", "all of it");
        Ok("{\"blocks\":[{\"type\":\"text\",\"text\":\"an old hall\"}]}".to_owned())
    }
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
