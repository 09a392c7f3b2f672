//! Tells a chat channel how deployments end.

wit_bindgen::generate!({ world: "extension", path: "wit", generate_all });

use berth::config::config;
use berth::http_out::http_out::Request;
use berth::log::log;
use berth::secrets::secrets;
use exports::berth::hook::handler::{Error, Event, Guest};

struct Extension;

impl Guest for Extension {
    /// An error is tried again later.
    fn on_event(event: Event) -> Result<(), Error> {
        let payload: serde_json::Value = serde_json::from_str(&event.payload).unwrap_or_default();
        let app = payload["app"].as_str().unwrap_or("an app");
        let text = if event.kind == "deployment.failed" {
            format!("{} the deployment of {app} failed", setting("mention"))
        } else {
            format!("{app} was deployed")
        };
        // The address is a secret: the host puts it in, this code never sees it.
        let request = Request::new("POST", "");
        request.set_secret_url(&secrets::open("webhook-url")?);
        request.set_header("content-type", b"application/json");
        request.set_body(serde_json::json!({ "text": text }).to_string().as_bytes());
        let response = request.send()?;
        log::line("info", &format!("{}: the channel answered {}", event.kind, response.status));
        if response.status < 300 {
            return Ok(());
        }
        Err(Error {
            code: "refused".to_owned(),
            message: format!("the channel answered {}", response.status),
            retry: response.status >= 500 || response.status == 429,
            extra: Vec::new(),
        })
    }
}

/// A text of the configuration, which comes as JSON.
fn setting(name: &str) -> String {
    config::get(name).and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default()
}

export!(Extension);
