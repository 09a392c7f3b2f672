//! An extension of the console that gives what its configuration says.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package berth:extension;
            world extension {
                import berth:log/log@0.1.0;
                import berth:config/config@0.1.0;
                import berth:kv/kv@0.1.0;
                import berth:http-out/http-out@0.1.0;
                export berth:console/pages@0.1.0;
            }
        ",
        path: [
            "../../../../wit/types",
            "../../../../wit/log",
            "../../../../wit/config",
            "../../../../wit/kv",
            "../../../../wit/secrets",
            "../../../../wit/http-out",
            "../../../../wit/clock",
            "../../../../wit/console",
        ],
        world: "berth:extension/extension",
        generate_all,
    });
}

use std::hint::black_box;

use bindings::berth::config::config;
use bindings::berth::http_out::http_out::Request as HttpRequest;
use bindings::berth::kv::kv;
use bindings::berth::log::log;
use bindings::exports::berth::console::pages::{Error, Guest, Page, Request};
use serde_json::{Value, json};

struct Console;

fn configured() -> Value {
    serde_json::from_str(&config::document()).unwrap_or_default()
}

fn error(message: &str) -> Error {
    Error {
        code: "config".to_owned(),
        message: message.to_owned(),
        retry: false,
        extra: Vec::new(),
    }
}

impl Guest for Console {
    fn pages() -> Vec<Page> {
        let config = configured();
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let page = |one: &Value| Page {
            id: word(&one["id"]),
            title: word(&one["title"]),
            place: word(&one["place"]),
            extra: Vec::new(),
        };
        config["pages"].as_array().map(|all| all.iter().map(page).collect()).unwrap_or_default()
    }

    fn render(request: Request) -> Result<String, Error> {
        let config = configured();
        log::line("info", &format!("asked for {}", request.page));
        match config["do"].as_str().unwrap_or_default() {
            "give" => Ok(config["give"].as_str().unwrap_or_default().to_owned()),
            "echo" => {
                let asked =
                    json!({ "page": request.page, "app": request.app, "state": request.state });
                Ok(json!({ "blocks": [{ "type": "code", "text": asked.to_string() }] }).to_string())
            }
            "keep" => {
                kv::put("a", b"1", None)?;
                Err(error("it was kept"))
            }
            "ask" => {
                HttpRequest::new("GET", "https://host.invalid/").send()?;
                Err(error("it was asked"))
            }
            "fail" => Err(error("no, \u{1b}[2Jnot today")),
            "trap" => panic!("asked for"),
            "loop" => loop {
                black_box(());
            },
            "fill" => {
                let mut all = Vec::new();
                loop {
                    all.push(black_box(vec![1_u8; 1 << 20]));
                }
            }
            other => Err(error(&format!("'{other}' is nothing to do"))),
        }
    }
}

bindings::export!(Console with_types_in bindings);
