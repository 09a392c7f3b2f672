//! Asks for a name and a password (RFC 7617) before an app.
//!
//! Names and passwords come from the secret `users`. Without it nobody is let in.

use std::cell::OnceCell;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

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
                import berth:secrets/reader@0.1.0;
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

use bindings::berth::config::config;
use bindings::berth::log::log;
use bindings::berth::middleware::types::{Reply, Request};
use bindings::berth::secrets::{reader, secrets};
use bindings::exports::berth::middleware::request_filter::Guest;

#[derive(Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Config {
    realm: String,
    user_header: String,
    forward: bool,
    except: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            realm: "Restricted".to_owned(),
            user_header: "x-auth-user".to_owned(),
            forward: false,
            except: Vec::new(),
        }
    }
}

struct Door {
    config: Config,
    /// Each `name:password`.
    users: Vec<Vec<u8>>,
}

thread_local! {
    /// Read once: another configuration or secret has instances of its own.
    static DOOR: OnceCell<Door> = const { OnceCell::new() };
}

impl Door {
    fn read() -> Self {
        let config = serde_json::from_str(&config::document()).unwrap_or_else(|error| {
            log::line("error", &format!("the configuration cannot be read: {error}"));
            Config::default()
        });
        let text = secrets::open("users").and_then(|secret| reader::reveal(&secret));
        let text = text.unwrap_or_else(|error| {
            log::line("error", &format!("nobody is let in: {}", error.message));
            Vec::new()
        });
        let users = text
            .split(|byte| *byte == b'\n')
            .map(|line| line.trim_ascii_end().to_vec())
            .filter(|line| line.iter().skip(1).any(|byte| *byte == b':'))
            .collect();
        Self { config, users }
    }

    /// The name of the one who asks, when the password is right.
    fn admit(&self, request: &Request) -> Option<String> {
        let header = request.header("authorization")?;
        let (scheme, encoded) = header.split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return None;
        }
        let given = STANDARD.decode(encoded.trim_ascii()).ok()?;
        // Every user is compared with, so that the time says nothing about which one it is.
        let known = self.users.iter().fold(false, |found, user| found | same(user, &given));
        let end = given.iter().position(|byte| *byte == b':').filter(|_| known)?;
        String::from_utf8(given[..end].to_vec()).ok()
    }
}

/// Compares in a time that depends on what was given alone.
fn same(known: &[u8], given: &[u8]) -> bool {
    let mut differs = u8::from(known.len() != given.len());
    for (index, byte) in given.iter().enumerate() {
        differs |= byte ^ known.get(index).copied().unwrap_or(0);
    }
    std::hint::black_box(differs) == 0
}

struct BasicAuth;

impl Guest for BasicAuth {
    fn on_request(request: &Request) -> Option<Reply> {
        DOOR.with(|door| {
            let door = door.get_or_init(Door::read);
            let config = &door.config;
            // Whoever asks must not be able to claim a name where nobody checks it.
            request.remove_header(&config.user_header);
            if !config.except.is_empty() {
                let path = request.path();
                let path = path.split('?').next().unwrap_or_default();
                if is_plain(path) && config.except.iter().any(|start| path.starts_with(start)) {
                    return None;
                }
            }
            let Some(user) = door.admit(request) else {
                return Some(challenge(&config.realm));
            };
            request.set_header(&config.user_header, user.as_bytes());
            if !config.forward {
                request.remove_header("authorization");
            }
            None
        })
    }
}

/// Whether a path means what it says: an app may take `/healthz/../admin` for `/admin`.
fn is_plain(path: &str) -> bool {
    !path.contains(['%', '\\']) && !path.split('/').any(|part| part == ".." || part == ".")
}

fn challenge(realm: &str) -> Reply {
    let ask = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
    Reply {
        status: 401,
        headers: vec![
            ("www-authenticate".to_owned(), ask.into_bytes()),
            ("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec()),
            ("cache-control".to_owned(), b"no-store".to_vec()),
        ],
        body: b"401 Unauthorized\nThis app asks for a name and a password.\n".to_vec(),
    }
}

bindings::export!(BasicAuth with_types_in bindings);
