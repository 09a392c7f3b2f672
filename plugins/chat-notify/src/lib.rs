//! Posts one line per deployment to a channel. The channel's address is a secret: the host puts it
//! in, and this never sees it.

/// Generated from `platform/wit`.
#[allow(missing_docs, unreachable_pub, clippy::allow_attributes, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package berth:extension;
            world extension {
                import berth:log/log@0.1.0;
                import berth:config/config@0.1.0;
                import berth:secrets/secrets@0.1.0;
                import berth:http-out/http-out@0.1.0;
                export berth:hook/handler@0.1.0;
            }
        ",
        path: [
            "../../platform/wit/types",
            "../../platform/wit/log",
            "../../platform/wit/config",
            "../../platform/wit/kv",
            "../../platform/wit/secrets",
            "../../platform/wit/http-out",
            "../../platform/wit/events",
            "../../platform/wit/clock",
            "../../platform/wit/metrics",
            "../../platform/wit/hook",
        ],
        world: "berth:extension/extension",
        generate_all,
    });
}

use bindings::berth::config::config;
use bindings::berth::http_out::http_out::Request;
use bindings::berth::secrets::secrets;
use bindings::exports::berth::hook::handler::{Error, Event, Guest};
use serde_json::{Value, json};

struct ChatNotify;

impl Guest for ChatNotify {
    fn on_event(event: Event) -> Result<(), Error> {
        let failure = event.kind.ends_with("failed") || event.kind.ends_with("rolled_back");
        let only_failures = config::get("only-failures").as_deref() == Some("true");
        if only_failures && !failure {
            return Ok(());
        }
        let url = secrets::open("channel-url")?;
        let request = Request::new("POST", "");
        request.set_secret_url(&url);
        request.set_header("content-type", b"application/json");
        request.set_body(json!({ "text": text(&event) }).to_string().as_bytes());
        match request.send()?.status {
            200..=299 => Ok(()),
            status => Err(Error {
                code: "refused".to_owned(),
                message: format!("the channel answered {status}"),
                retry: status >= 500 || status == 429,
                extra: Vec::new(),
            }),
        }
    }
}

fn text(event: &Event) -> String {
    let payload: Value = serde_json::from_str(&event.payload).unwrap_or(Value::Null);
    let field = |value: &Value| value.as_str().map(escaped);
    let app = field(&payload["app"]).unwrap_or_else(|| "an app".to_owned());
    let actor = field(&payload["actor"]).unwrap_or_else(|| "somebody".to_owned());
    let reason =
        field(&payload["after"]["error"]).map(|why| format!(": {why}")).unwrap_or_default();
    match event.kind.as_str() {
        "deployment.succeeded" => format!("{app} was deployed by {actor}"),
        "deployment.failed" => format!("{app} could not be deployed{reason}"),
        "deployment.rolled_back" => format!("{app} went back to the release before{reason}"),
        _ => format!("{app} could not be built{reason}"),
    }
}

/// What chat services would take for markup (`<!channel>`, links) stays text.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

bindings::export!(ChatNotify with_types_in bindings);
