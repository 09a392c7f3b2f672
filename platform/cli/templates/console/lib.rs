//! Shows whom to ask about an app.

wit_bindgen::generate!({ world: "extension", path: "wit", generate_all });

use berth::config::config;
use exports::berth::console::pages::{Error, Guest, Page, Request};
use serde_json::{Value, json};

struct Extension;

impl Guest for Extension {
    fn pages() -> Vec<Page> {
        vec![Page {
            id: "owner".to_owned(),
            title: "Owner".to_owned(),
            place: "app".to_owned(),
            extra: Vec::new(),
        }]
    }

    fn render(request: Request) -> Result<String, Error> {
        let app = request.app.unwrap_or_default();
        let owners: Value = config::get("owners")
            .and_then(|json| serde_json::from_str(&json).ok())
            .unwrap_or_default();
        let text = match owners[&app].as_str() {
            Some(owner) => format!("Ask {owner} about {app}."),
            None => format!("Nobody is named for {app}."),
        };
        Ok(json!({ "blocks": [{ "type": "text", "text": text }] }).to_string())
    }
}

export!(Extension);
