//! Measures a middleware: the time of one call on a warm instance, and of a call that makes one.
//!
//! `cargo run --release -p berth-extensions --example middleware_latency -- COMPONENT.wasm [CONFIG.json]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use berth_extensions::middleware::{
    MiddlewareConfig, MiddlewareHost, MiddlewareSink, RequestHead, ResponseHead, Secrets,
};
use berth_extensions::powers::Allowed;
use berth_extensions::{AotCache, EngineKind, Limits, MacKey, compile};
use berth_model::Digest;
use berth_model::extension::{BreakerRules, BreakerState, ExtensionId};
use http::HeaderMap;
use http::header::HeaderValue;
use sha2::{Digest as _, Sha256};

struct Printed;

impl MiddlewareSink for Printed {
    fn line(&self, _: &ExtensionId, level: &str, text: &str) {
        println!("{level}: {text}");
    }

    fn state(&self, _: &ExtensionId, _: Digest, state: BreakerState) {
        println!("{state:?}");
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let wasm = std::fs::read(arguments.next().context("give the path of a component")?)?;
    let config = match arguments.next() {
        Some(path) => serde_json::from_slice(&std::fs::read(path)?)?,
        None => serde_json::json!({
            "request": { "set": { "x-stage": "bench" }, "remove": ["x-debug"] },
            "response": { "set": { "x-frame-options": "DENY" }, "remove": ["server"] },
        }),
    };
    let component = Digest::from_sha256(Sha256::digest(&wasm).into());
    let folder = tempfile::tempdir()?;
    let cache = AotCache::open(folder.path(), MacKey::new([1; 32]), "bench")?;
    let kind = EngineKind::Extensions;
    let code = cache
        .code(kind, component, async |out| compile(kind, wasm.as_slice(), std::fs::File::from(out)))
        .await?;
    let host = MiddlewareHost::new(Arc::new(Printed))?;
    let config = MiddlewareConfig {
        load: component,
        extension: "berth.bench".parse()?,
        component,
        allowed: Allowed::all(Default::default()),
        config,
        secrets: Secrets::default(),
        limits: Limits::MIDDLEWARE,
        rules: BreakerRules::default(),
        quarantined: false,
    };
    let started = Instant::now();
    let middleware =
        host.load(config, std::os::fd::AsFd::as_fd(&code).try_clone_to_owned()?).await?;
    println!("load: {:?}", started.elapsed());

    let mut headers = HeaderMap::new();
    for name in ["host", "user-agent", "accept", "x-forwarded-for", "x-request-id", "x-debug"] {
        headers.insert(name, HeaderValue::from_static("a value of some length"));
    }
    let mut times = Vec::new();
    let mut head = RequestHead {
        host: "a.example.com".to_owned(),
        path: "/".to_owned(),
        headers,
        ..RequestHead::default()
    };
    for _ in 0..20_000 {
        let started = Instant::now();
        let (back, result) = middleware.on_request(head).await;
        times.push(started.elapsed());
        result?;
        head = back;
    }
    report("request, warm", &mut times);
    let mut response = ResponseHead::default();
    for _ in 0..20_000 {
        response.headers.insert("server", HeaderValue::from_static("app"));
        let started = Instant::now();
        let (back, result) = middleware.on_response(response).await;
        times.push(started.elapsed());
        result?;
        response = back;
    }
    report("response, warm", &mut times);
    println!("{:?}", middleware.stats());
    Ok(())
}

fn report(what: &str, times: &mut Vec<Duration>) {
    times.sort();
    let mean = times.iter().sum::<Duration>() / times.len() as u32;
    let at = |share: usize| times[times.len() * share / 1000];
    println!("{what}: mean {mean:?}, p50 {:?}, p99 {:?}, p99.9 {:?}", at(500), at(990), at(999));
    times.clear();
}
