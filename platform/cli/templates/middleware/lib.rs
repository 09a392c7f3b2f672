//! Hides paths of apps from the world.

wit_bindgen::generate!({ world: "extension", path: "wit", generate_all });

use std::cell::OnceCell;

use berth::config::config;
use exports::berth::middleware::request_filter::{Guest, Reply, Request};

struct Extension;

thread_local! {
    /// An instance answers many requests, so the configuration is read once.
    static HIDDEN: OnceCell<Vec<String>> = const { OnceCell::new() };
}

impl Guest for Extension {
    /// Nothing lets the request go on.
    fn on_request(request: &Request) -> Option<Reply> {
        let path = request.path();
        let hidden = HIDDEN.with(|hidden| {
            hidden.get_or_init(read).iter().any(|prefix| path.starts_with(prefix.as_str()))
        });
        hidden.then(|| Reply {
            status: 404,
            headers: vec![("content-type".to_owned(), b"text/plain".to_vec())],
            body: b"not found\n".to_vec(),
        })
    }
}

fn read() -> Vec<String> {
    config::get("hidden").and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default()
}

export!(Extension);
