//! Posts each event as JSON. Every attempt has the same `berth-event` id, so a receiver can tell what
//! it knows already. With the secret `signing-key` the header `berth-signature` is `sha256=` and the
//! HMAC-SHA-256 of the body in hex; the key itself never comes here.

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

struct Webhook;

impl Guest for Webhook {
    fn on_event(event: Event) -> Result<(), Error> {
        let url: String = config::get("url")
            .and_then(|text| serde_json::from_str(&text).ok())
            .ok_or_else(|| error("config", "the address is not configured", false))?;
        let payload: Value = serde_json::from_str(&event.payload).unwrap_or(Value::Null);
        let body = json!({
            "id": event.id,
            "kind": event.kind,
            "subject": event.subject,
            "at_ms": event.at_ms,
            "payload": payload,
        })
        .to_string()
        .into_bytes();
        let request = Request::new("POST", &url);
        request.set_header("content-type", b"application/json");
        request.set_header("berth-event", event.id.as_bytes());
        request.set_header("berth-attempt", event.attempt.to_string().as_bytes());
        match secrets::open("signing-key") {
            Ok(key) => {
                let signature: String =
                    key.hmac_sha256(&body).iter().map(|byte| format!("{byte:02x}")).collect();
                request.set_header("berth-signature", format!("sha256={signature}").as_bytes());
            }
            // It was not set, or not granted: then nothing is signed.
            Err(missing) if missing.code == "not-found" || missing.code == "denied" => {}
            Err(other) => return Err(other),
        }
        request.set_body(&body);
        let response = request.send()?;
        match response.status {
            200..=299 => Ok(()),
            status => Err(error("refused", &format!("the receiver answered {status}"), true)),
        }
    }
}

fn error(code: &str, message: &str, retry: bool) -> Error {
    Error { code: code.to_owned(), message: message.to_owned(), retry, extra: Vec::new() }
}

bindings::export!(Webhook with_types_in bindings);
