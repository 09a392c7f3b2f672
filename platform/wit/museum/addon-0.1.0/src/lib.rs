//! An add-on that uses all that such extensions had in 0.1.0.

wit_bindgen::generate!({ world: "extension", path: "wit", generate_all });

use berth::config::config;
use berth::log::log;
use exports::berth::addon::provider::{Error, Guest, Process, Request, Secret, Spec, Task, Volume};

struct Extension;

impl Guest for Extension {
    fn provision(request: Request) -> Result<Spec, Error> {
        if !known(&request) || !configured() {
            return Err(error("something is missing"));
        }
        log::line("info", "all of it");
        Ok(Spec {
            processes: vec![Process {
                name: "hall".to_owned(),
                packages: vec!["memcached".to_owned()],
                command: vec!["memcached".to_owned(), "-p".to_owned(), "11211".to_owned()],
                volumes: vec![Volume {
                    name: "things".to_owned(),
                    path: "/things".to_owned(),
                    size_mib: 64,
                    extra: Vec::new(),
                }],
                port: Some(11211),
                memory_mib: 128,
                extra: Vec::new(),
            }],
            environment: vec![("AGE".to_owned(), "old".to_owned())],
            secrets: vec![Secret { name: "KEY".to_owned(), length: 32, extra: Vec::new() }],
            exports: vec![(
                "HALL_URL".to_owned(),
                "memcached://:${secret:KEY}@${host}:11211".to_owned(),
            )],
            extra: Vec::new(),
        })
    }

    fn backup(request: Request) -> Result<Task, Error> {
        task(&request, "save")
    }

    fn restore(request: Request) -> Result<Task, Error> {
        task(&request, "load")
    }
}

fn known(request: &Request) -> bool {
    request.name == "shop-hall" && request.options == "{\"n\":1}" && request.extra.is_empty()
}

fn configured() -> bool {
    config::get("word").as_deref() == Some("\"museum\"")
        && config::document() == "{\"word\":\"museum\"}"
        && config::get("none").is_none()
}

fn task(request: &Request, verb: &str) -> Result<Task, Error> {
    if !known(request) {
        return Err(error("something is missing"));
    }
    Ok(Task { command: vec!["hall".to_owned(), verb.to_owned()], extra: Vec::new() })
}

fn error(message: &str) -> Error {
    Error {
        code: "museum".to_owned(),
        message: message.to_owned(),
        retry: false,
        extra: Vec::new(),
    }
}

export!(Extension);
