//! A memcached for an app.

wit_bindgen::generate!({ world: "extension", path: "wit", generate_all });

use exports::berth::addon::provider::{Error, Guest, Process, Request, Spec, Task};

const PORT: u16 = 11211;
/// What memcached needs beside its items.
const OVERHEAD_MIB: u32 = 64;

struct Extension;

impl Guest for Extension {
    fn provision(request: Request) -> Result<Spec, Error> {
        let options: serde_json::Value = serde_json::from_str(&request.options)
            .map_err(|error| refusal("invalid", &format!("the options are no JSON: {error}")))?;
        let memory_mib = options["memory-mib"].as_u64().unwrap_or(64).min(4096) as u32;
        let command = format!("memcached -p {PORT} -m {memory_mib}");
        Ok(Spec {
            processes: vec![Process {
                name: "memcached".to_owned(),
                packages: vec!["memcached".to_owned()],
                command: command.split(' ').map(str::to_owned).collect(),
                volumes: Vec::new(),
                port: Some(PORT),
                memory_mib: memory_mib + OVERHEAD_MIB,
                extra: Vec::new(),
            }],
            environment: Vec::new(),
            secrets: Vec::new(),
            exports: vec![(
                "MEMCACHED_URL".to_owned(),
                format!("memcached://${{host}}:{PORT}"),
            )],
            extra: Vec::new(),
        })
    }

    fn backup(_: Request) -> Result<Task, Error> {
        Err(refusal("not-supported", "a cache has nothing to back up"))
    }

    fn restore(_: Request) -> Result<Task, Error> {
        Err(refusal("not-supported", "a cache has nothing to restore"))
    }
}

fn refusal(code: &str, message: &str) -> Error {
    Error { code: code.to_owned(), message: message.to_owned(), retry: false, extra: Vec::new() }
}

export!(Extension);
