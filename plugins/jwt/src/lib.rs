//! Lets requests with a valid JSON Web Token (RFC 7519) through, and hands its claims to the app.
//!
//! A key is for one algorithm, which the token cannot choose (RFC 8725 section 3.1): the secret
//! for HS256, RSA keys for RS256, P-256 keys for ES256. A token without `exp` is not taken.

mod keys;
mod token;

use std::cell::OnceCell;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// Generated from `platform/wit`.
#[allow(missing_docs, unreachable_pub, clippy::allow_attributes, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package berth:extension;
            world extension {
                import berth:log/log@0.1.0;
                import berth:config/config@0.1.0;
                import berth:clock/clock@0.1.0;
                import berth:secrets/secrets@0.1.0;
                export berth:middleware/request-filter@0.1.0;
            }
        ",
        path: [
            "../../platform/wit/types",
            "../../platform/wit/log",
            "../../platform/wit/config",
            "../../platform/wit/secrets",
            "../../platform/wit/counters",
            "../../platform/wit/clock",
            "../../platform/wit/metrics",
            "../../platform/wit/middleware",
        ],
        world: "berth:extension/extension",
        generate_all,
    });
}

use bindings::berth::clock::clock;
use bindings::berth::config::config;
use bindings::berth::log::log;
use bindings::berth::middleware::types::{Reply, Request};
use bindings::berth::secrets::secrets;
use bindings::exports::berth::middleware::request_filter::Guest;
use keys::Key;
use token::{Refusal, Rules, Token};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Config {
    #[serde(default)]
    keys: Vec<Value>,
    #[serde(default)]
    hs256: bool,
    #[serde(default)]
    issuer: Option<String>,
    #[serde(default)]
    audience: Option<String>,
    #[serde(default)]
    cookie: Option<String>,
    #[serde(default = "half_a_minute")]
    leeway_s: u64,
    #[serde(default = "subject")]
    headers: BTreeMap<String, String>,
}

fn half_a_minute() -> u64 {
    30
}

fn subject() -> BTreeMap<String, String> {
    [("x-auth-user".to_owned(), "sub".to_owned())].into()
}

struct Door {
    keys: Vec<Key>,
    rules: Rules,
    cookie: Option<String>,
    headers: BTreeMap<String, String>,
}

thread_local! {
    /// Read once: another configuration or secret has instances of its own.
    static DOOR: OnceCell<Option<Door>> = const { OnceCell::new() };
}

impl Door {
    fn read() -> Result<Self, String> {
        let config: Config = serde_json::from_str(&config::document())
            .map_err(|error| format!("the configuration cannot be read: {error}"))?;
        let mut keys = Vec::new();
        for (index, key) in config.keys.iter().enumerate() {
            keys.push(Key::read(key).map_err(|reason| format!("keys[{index}]: {reason}"))?);
        }
        if config.hs256 {
            let secret = secrets::open("hs256").map_err(|error| error.message)?;
            keys.push(Key::Hmac(secret));
        }
        if keys.is_empty() {
            return Err("there is no key: give keys, or set hs256 and the secret".to_owned());
        }
        let rules =
            Rules { issuer: config.issuer, audience: config.audience, leeway_s: config.leeway_s };
        Ok(Self { keys, rules, cookie: config.cookie, headers: config.headers })
    }

    fn claims(&self, request: &Request) -> Result<Value, Refusal> {
        let text = self.find(request).ok_or(Refusal::Missing)?;
        let token = Token::read(&text)?;
        if !self.keys.iter().any(|key| key.verifies(&token)) {
            return Err(Refusal::Signature);
        }
        self.rules.check(token.claims()?, clock::now_ms() / 1_000)
    }

    /// The token, of the Authorization header or the cookie.
    fn find(&self, request: &Request) -> Option<String> {
        if let Some(header) = request.header("authorization") {
            let text = String::from_utf8(header).ok()?;
            let (scheme, rest) = text.split_at_checked(7)?;
            return scheme.eq_ignore_ascii_case("bearer ").then(|| rest.trim().to_owned());
        }
        let wanted = self.cookie.as_ref()?;
        let cookies = String::from_utf8(request.header("cookie")?).ok()?;
        cookies.split(';').find_map(|cookie| {
            let (name, value) = cookie.trim().split_once('=')?;
            (name == wanted).then(|| value.trim_matches('"').to_owned())
        })
    }

    /// Hands the claims on. Whoever asks must not be able to set these headers.
    fn hand_on(&self, request: &Request, claims: &Value) {
        for (header, claim) in &self.headers {
            request.remove_header(header);
            let text = match claims.get(claim) {
                None | Some(Value::Null) => continue,
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            request.set_header(header, text.as_bytes());
        }
    }
}

struct Jwt;

impl Guest for Jwt {
    fn on_request(request: &Request) -> Option<Reply> {
        DOOR.with(|door| {
            let door = door.get_or_init(|| {
                Door::read()
                    .inspect_err(|reason| {
                        log::line("error", &format!("nobody is let in: {reason}"))
                    })
                    .ok()
            });
            let Some(door) = door else {
                return Some(refuse(&Refusal::Signature));
            };
            match door.claims(request) {
                Ok(claims) => {
                    door.hand_on(request, &claims);
                    None
                }
                Err(refusal) => Some(refuse(&refusal)),
            }
        })
    }
}

/// RFC 6750 section 3.
fn refuse(refusal: &Refusal) -> Reply {
    let ask = match refusal {
        Refusal::Missing => "Bearer".to_owned(),
        other => {
            format!("Bearer error=\"invalid_token\", error_description=\"{}\"", other.sentence())
        }
    };
    Reply {
        status: 401,
        headers: vec![
            ("www-authenticate".to_owned(), ask.into_bytes()),
            ("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec()),
            ("cache-control".to_owned(), b"no-store".to_vec()),
        ],
        body: format!("401 Unauthorized\n{}.\n", refusal.sentence()).into_bytes(),
    }
}

bindings::export!(Jwt with_types_in bindings);
