//! Says whether a component is one that a platform takes.

use std::time::Instant;

use anyhow::{Context, Result};
use berth_extensions::Limits;
use berth_model::extension::ExtensionManifest;
use serde_json::json;

use super::component::{Component, engine};
use super::host::{Answers, AuthorHost};
use super::{Check, call::Loaded, case::Case, print};

/// What compiled languages need; interpreters bring more with them.
const USUAL_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(super) async fn run(options: &Check) -> Result<bool> {
    let component = Component::read(&options.component)?;
    let text = std::fs::read_to_string(&options.manifest)
        .with_context(|| format!("cannot read {}", options.manifest.display()))?;
    let current = ExtensionManifest::parse(&text)?;
    if current != component.manifest {
        let problem =
            "extension.toml changed since the component was built; build it again: berth ext build";
        print(
            options.json,
            &json!({ "ok": false, "problem": problem }),
            &format!(" !     {problem}"),
        );
        return Ok(false);
    }
    let begun = Instant::now();
    let case = Case::empty();
    let host = AuthorHost::new(&case, &component.manifest, Answers::Recorded, Vec::new());
    // What the engine says of it: invalid, or other functions than its interfaces have.
    Loaded::load(&engine()?, &component, &case, &host).await?;
    let remarks = remarks(&component);
    let manifest = &component.manifest;
    let capabilities = manifest.capabilities.lines();
    let mut human = format!(
        "-----> {} {} ({}), {} KiB, compiled and linked in {:.1} s\n       digest {}\n",
        manifest.id,
        manifest.version,
        manifest.kind,
        component.bytes.len().div_ceil(1024),
        begun.elapsed().as_secs_f32(),
        component.digest
    );
    human.push_str(&limits_line(&component.limits));
    for (allows, why) in &capabilities {
        let why = if why.is_empty() { "no reason given" } else { why };
        human.push_str(&format!("       {allows}: {why}\n"));
    }
    for remark in &remarks {
        human.push_str(&format!(" !     {remark}\n"));
    }
    let value = json!({
        "ok": true, "id": manifest.id, "version": manifest.version, "kind": manifest.kind,
        "digest": component.digest.to_string(), "bytes": component.bytes.len(),
        "limits": component.limits, "capabilities": manifest.capabilities, "remarks": remarks,
    });
    print(options.json, &value, &human);
    Ok(true)
}

fn limits_line(limits: &Limits) -> String {
    format!(
        "       each call: {} MiB of memory, {} ms of CPU, {} ms, {} host calls\n",
        limits.memory_bytes_max >> 20,
        limits.cpu_ms_max,
        limits.wall_ms_max,
        limits.host_calls_max
    )
}

/// What is allowed but may not be meant.
fn remarks(component: &Component) -> Vec<String> {
    let (manifest, limits) = (&component.manifest, &component.limits);
    let mut remarks = Vec::new();
    let asked = &manifest.limits;
    let mut cut = |name: &str, asked: Option<u64>, got: u64| {
        if let Some(asked) = asked.filter(|asked| *asked > got) {
            let kind = manifest.kind;
            remarks.push(format!(
                "limits.{name}: {asked} is more than the kind {kind} may have; it gets {got}"
            ));
        }
    };
    cut("memory", asked.memory.map(|size| size.0), limits.memory_bytes_max);
    cut("cpu_ms", asked.cpu_ms.map(u64::from), limits.cpu_ms_max.into());
    cut("wall_ms", asked.wall_ms.map(u64::from), limits.wall_ms_max.into());
    if component.bytes.len() > USUAL_BYTES_MAX {
        let mib = component.bytes.len() >> 20;
        remarks.push(format!(
            "{mib} MiB is much: an interpreter in it costs memory and time of every call"
        ));
    }
    for (allows, why) in manifest.capabilities.lines() {
        if why.is_empty() {
            remarks.push(format!("{allows}: say `why`; who installs it reads that"));
        }
    }
    remarks
}
