//! Measures an app: time from unmapped code to the whole answer, time of a mapped one, and memory
//! with twenty idle apps.
//!
//! `cargo run --release -p berth-extensions --example app_latency -- COMPONENT.wasm`

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use berth_extensions::app::NoValues;
use berth_extensions::{
    AotCache, AppConfig, AppHost, AppHostOptions, EngineKind, Limits, LogSink, MacKey, compile,
};
use berth_model::log::LogStream;
use berth_model::{AppId, Digest, InstanceId};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use sha2::{Digest as _, Sha256};

struct Silent;

impl LogSink for Silent {
    fn line(&self, _: InstanceId, _: LogStream, _: &str, _: bool) {}
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).context("give the path of a component")?;
    let wasm = std::fs::read(path)?;
    let component = Digest::from_sha256(Sha256::digest(&wasm).into());
    let folder = tempfile::tempdir()?;
    let cache = AotCache::open(folder.path(), MacKey::new([1; 32]), "bench")?;
    let started = Instant::now();
    cache
        .code(EngineKind::Apps, component, async |out| {
            compile(EngineKind::Apps, wasm.as_slice(), std::fs::File::from(out))
        })
        .await?;
    println!("compile and seal: {:?}", started.elapsed());
    let bare = memory("VmRSS", "RssAnon")?;
    let host = AppHost::new(AppHostOptions::default(), Arc::new(Silent), Arc::new(NoValues))?;
    for number in 0..20 {
        let code = cache
            .code(EngineKind::Apps, component, async |_| Err::<(), _>("it is in the cache"))
            .await?;
        let (instance, app) = (InstanceId::new(number, [1; 10]), AppId::new(1, [1; 10]));
        let config = AppConfig::alone(instance, app, component, Limits::APP);
        host.load(config, code)?;
        call(&host, number).await?;
    }
    let warm = memory("VmRSS", "RssAnon")?;
    println!("idle apps unmapped: {}", host.unmap_idle(Duration::ZERO));
    println!("memory before, with 20 apps mapped, with 20 idle apps:");
    println!("  {bare}\n  {warm}\n  {}", memory("VmRSS", "RssAnon")?);

    let mut cold = Vec::new();
    let mut mapped = Vec::new();
    for _ in 0..500 {
        host.unmap_idle(Duration::ZERO);
        cold.push(call(&host, 0).await?);
        mapped.push(call(&host, 0).await?);
    }
    report("cold: unmapped code to the whole answer", cold);
    report("mapped: fresh instance to the whole answer", mapped);
    Ok(())
}

async fn call(host: &AppHost, number: u64) -> anyhow::Result<Duration> {
    let request = Request::get("/").header("host", "app").body(Empty::<Bytes>::new())?;
    let started = Instant::now();
    let answer = host.serve(InstanceId::new(number, [1; 10]), request).await?;
    answer.into_body().collect().await?;
    let elapsed = started.elapsed();
    // The guest still ends; it is idle after that.
    while host.stats().iter().any(|app| app.active > 0) {
        tokio::task::yield_now().await;
    }
    Ok(elapsed)
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[times.len() * share / 100];
    println!("{what}: p50 {:?}, p90 {:?}, p99 {:?}", at(50), at(90), at(99));
}

fn memory(all: &str, anonymous: &str) -> anyhow::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    Ok(format!("{} {}", line(all), line(anonymous)).replace('\t', " "))
}
