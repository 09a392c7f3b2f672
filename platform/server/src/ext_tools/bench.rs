//! Measures an extension: one case, again and again, one call at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use berth_extensions::powers::Session;
use serde_json::json;

use super::call::{End, Loaded};
use super::case::{Case, recording};
use super::component::{Component, engine};
use super::host::{Answers, AuthorHost};
use super::{Bench, print, recording as exchanges, test};

/// Most calls that are measured: their times are kept.
const CALLS_MAX: usize = 1_000_000;
/// Faults would make a middleware rest; the first of them ends the measurement anyway.
const WARM_UP: usize = 3;

pub(super) async fn run(options: &Bench) -> Result<bool> {
    let component = Component::read(&options.component)?;
    let case = Case::read(&options.case)?;
    let known = exchanges::read(&recording(&options.case))?;
    let engine = engine()?;
    let fresh = || AuthorHost::new(&case, &component.manifest, Answers::Recorded, known.clone());
    let loaded = Loaded::load(&engine, &component, &case, &fresh()).await?;
    let config = component.config(&case.config)?;
    let mut walls_us: Vec<u64> = Vec::new();
    let (mut cpu_us, mut memory, mut host_calls) = (0_u64, 0_u64, 0_u64);
    let mut begun = Instant::now();
    let mut until = begun + Duration::from_secs(options.seconds.into());
    for call in 0..CALLS_MAX {
        if call == WARM_UP {
            begun = Instant::now();
            until = begun + Duration::from_secs(options.seconds.into());
            (walls_us, cpu_us) = (Vec::new(), 0);
        }
        let session = Session {
            extension: component.manifest.id.clone(),
            allowed: component.allowed(),
            config: Arc::clone(&config),
            host: fresh(),
            limits: component.limits,
        };
        let started = Instant::now();
        let ended = loaded.call(&case, session).await?;
        walls_us.push(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
        if let End::Fault(..) | End::Host(_) = ended.end {
            bail!("call {}: {}", call + 1, test::said(&ended.end));
        }
        cpu_us += ended.usage.cpu_us;
        memory = memory.max(ended.usage.memory_peak_bytes);
        host_calls = ended.usage.host_calls;
        if Instant::now() >= until && call > WARM_UP {
            break;
        }
    }
    let elapsed = begun.elapsed();
    let calls = walls_us.len();
    walls_us.sort_unstable();
    let at = |percent: usize| walls_us[(calls * percent / 100).min(calls - 1)];
    let instance = if loaded.is_warm() { "warm" } else { "fresh" };
    let per_second = calls as f64 / elapsed.as_secs_f64();
    let each_us = cpu_us as f64 / calls as f64;
    let mut human = format!(
        "{calls} calls, each in a {instance} instance, {per_second:.0} a second\n\
         time of a call: p50 {} us, p99 {} us; CPU {each_us:.1} us\n",
        at(50),
        at(99)
    );
    if memory > 0 {
        human.push_str(&format!(
            "memory at most {:.1} MiB, {host_calls} host calls\n",
            memory as f64 / 1_048_576.0
        ));
    }
    let value = json!({
        "calls": calls, "instance": instance, "calls_per_second": per_second, "p50_us": at(50),
        "p99_us": at(99), "cpu_us": each_us, "memory_peak_bytes": memory, "host_calls": host_calls,
    });
    print(options.json, &value, &human);
    Ok(true)
}
