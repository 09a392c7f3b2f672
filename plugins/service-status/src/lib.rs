//! Shows the state of the services that a team depends on.
//!
//! Each is asked by way of its public status page, once a minute at most; what it said is kept
//! until then. One that does not answer is a notice on the page, and no error of it.

mod page;
mod summary;

/// Generated from `platform/wit`.
#[allow(missing_docs, unreachable_pub, clippy::allow_attributes, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package berth:extension;
            world extension {
                import berth:log/log@0.1.0;
                import berth:config/config@0.1.0;
                import berth:kv/kv@0.1.0;
                import berth:http-out/http-out@0.1.0;
                import berth:clock/clock@0.1.0;
                export berth:console/pages@0.1.0;
            }
        ",
        path: [
            "../../platform/wit/types",
            "../../platform/wit/log",
            "../../platform/wit/config",
            "../../platform/wit/kv",
            "../../platform/wit/secrets",
            "../../platform/wit/http-out",
            "../../platform/wit/clock",
            "../../platform/wit/console",
        ],
        world: "berth:extension/extension",
        generate_all,
    });
}

use bindings::berth::clock::clock;
use bindings::berth::config::config;
use bindings::berth::http_out::http_out::Request as HttpRequest;
use bindings::berth::kv::kv;
use bindings::berth::log::log;
use bindings::exports::berth::console::pages::{Error, Guest, Page, Request};
use serde::{Deserialize, Serialize};
use serde_json::json;

use page::Shown;
use summary::{Answer, Summary};

/// How long an answer is shown before its service is asked again.
const FRESH_MS: u64 = 60_000;
/// How long one service may take.
const ASK_MS_MAX: u64 = 1_500;
/// How long all of them together may take: the call ends some time after it.
const ASKING_MS_MAX: u64 = 4_500;

#[derive(Deserialize)]
struct Config {
    services: Vec<Service>,
}

#[derive(Deserialize)]
struct Service {
    name: String,
    host: String,
}

/// What is kept of a service.
#[derive(Serialize, Deserialize)]
struct Kept {
    at_ms: u64,
    answer: Answer,
}

struct ServiceStatus;

impl Guest for ServiceStatus {
    fn pages() -> Vec<Page> {
        vec![Page {
            id: "services".to_owned(),
            title: "Services".to_owned(),
            place: "platform".to_owned(),
            extra: Vec::new(),
        }]
    }

    fn render(request: Request) -> Result<String, Error> {
        if request.page != "services" {
            return Err(error("not-found", format!("there is no page '{}'", request.page)));
        }
        let config: Config = serde_json::from_str(&config::document()).map_err(|wrong| {
            error("config", format!("the configuration cannot be read: {wrong}"))
        })?;
        let begun_ms = clock::now_ms();
        let shown: Vec<Shown> =
            config.services.into_iter().map(|service| look(service, begun_ms)).collect();
        Ok(json!({ "blocks": page::blocks(&shown) }).to_string())
    }
}

/// What is known of a service; it is asked where that is not fresh.
fn look(service: Service, begun_ms: u64) -> Shown {
    let now_ms = clock::now_ms();
    let kept = kv::get(&service.host).ok().flatten();
    let kept = kept.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
    let fresh = kept.filter(|kept| now_ms.saturating_sub(kept.at_ms) < FRESH_MS);
    let Kept { at_ms, answer } = fresh.unwrap_or_else(|| {
        let left_ms = (begun_ms + ASKING_MS_MAX).saturating_sub(now_ms).min(ASK_MS_MAX);
        ask(&service.host, now_ms, left_ms)
    });
    Shown { name: service.name, host: service.host, age_ms: now_ms.saturating_sub(at_ms), answer }
}

/// Asks a service, and keeps what it said.
fn ask(host: &str, now_ms: u64, left_ms: u64) -> Kept {
    if left_ms == 0 {
        let why = "there was no time left to ask; look again".to_owned();
        return Kept { at_ms: now_ms, answer: Answer::Silent(why) };
    }
    let request = HttpRequest::new("GET", &format!("https://{host}/api/v2/summary.json"));
    request.set_header("accept", b"application/json");
    request.set_timeout_ms(u32::try_from(left_ms).unwrap_or(u32::MAX));
    let answer = match request.send() {
        Ok(response) if response.status == 200 => match Summary::read(&response.body) {
            Ok(summary) => Answer::State(summary),
            Err(why) => Answer::Silent(format!("its answer is none of a status page: {why}")),
        },
        Ok(response) => Answer::Silent(format!("it answered {}", response.status)),
        // Granting it is to be seen at once.
        Err(refused) if refused.code == "denied" => {
            return Kept { at_ms: now_ms, answer: Answer::Silent(refused.message) };
        }
        Err(failed) => Answer::Silent(failed.message),
    };
    let kept = Kept { at_ms: now_ms, answer };
    match serde_json::to_vec(&kept) {
        Ok(bytes) => {
            if let Err(error) = kv::put(host, &bytes, Some(FRESH_MS)) {
                log::line(
                    "warning",
                    &format!("the answer of {host} is not kept: {}", error.message),
                );
            }
        }
        Err(error) => log::line("warning", &format!("the answer of {host} is not kept: {error}")),
    }
    kept
}

fn error(code: &str, message: String) -> Error {
    Error { code: code.to_owned(), message, retry: false, extra: Vec::new() }
}

bindings::export!(ServiceStatus with_types_in bindings);
