//! A thousand idle apps: the memory of the platform that holds them, and the time from the file of
//! one's machine code to the first byte of its answer.
//!
//! The time is taken where the router stands, at the socket of `berthd wasm`: from the last byte of
//! a request on an open connection to the first byte of the answer. Nothing of the app is mapped
//! before; its file may be in the page cache, as anything that was written a few minutes ago.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use acceptance::Platform;
use anyhow::{Context, Result, ensure};

use super::{CONFIG, Size, bytes, call, deploy, memory, name, process};
use crate::report::{Bound, Report};

const WAIT_MAX: Duration = Duration::from_secs(5);

/// Deploys the apps, calls each once, reads the memory after a while, and then calls some again.
///
/// # Errors
/// What the platform says.
pub(super) fn measure(report: &mut Report, component: &[u8], size: &Size) -> Result<()> {
    let platform = Platform::start_with(CONFIG);
    let worker = process(&["berthd", " wasm ", &platform.data.display().to_string()])?;
    // What the first app brings is the platform's own.
    deploy(&platform, component, 0..1);
    call(&platform, 0)?;
    let with_one = bytes(&worker, "Anonymous:")?;
    deploy(&platform, component, 1..size.apps);
    for number in 0..size.apps {
        call(&platform, number)?;
    }
    // Memory is read of a platform that did nothing for a while: that is what is measured.
    std::thread::sleep(size.idle);
    let (apps, idle_s) = (size.apps, size.idle.as_secs());
    let each_kb = (bytes(&worker, "Anonymous:")? - with_one) / (apps - 1) as f64 / 1e3;
    let what = format!("anonymous memory of an idle app in berthd wasm, after {idle_s} s");
    report.bounded(what, "kB", vec![each_kb], Bound::Mark(150.0));
    let what = format!("memory (PSS) of the platform with {apps} idle Wasm apps");
    memory(report, &platform, what, 250.0)?;

    let mapped = mapped(&worker)?;
    ensure!(mapped == 0, "the code of {mapped} apps is still mapped after {idle_s} s");
    let instances = (0..size.cold.min(apps))
        .map(|number| instance(&platform, number))
        .collect::<Result<Vec<_>>>()?;
    let cold = instances.iter().map(|id| first(&platform, id)).collect::<Result<_>>()?;
    report.bounded("cold start in berthd wasm, file to first byte", "ms", cold, Bound::Mark(0.5));
    let warm = instances.iter().map(|id| first(&platform, id)).collect::<Result<_>>()?;
    report.row("the same, mapped", "ms", warm);
    Ok(())
}

/// Files of machine code that a process has mapped.
fn mapped(worker: &Path) -> Result<usize> {
    let maps = std::fs::read_to_string(worker.join("maps"))?;
    Ok(maps.lines().filter(|line| line.contains("/aot/")).count())
}

/// The id of an app's only instance.
fn instance(platform: &Platform, number: usize) -> Result<String> {
    let shown = platform.must(&["ps", "--app", &name(number), "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    let found = shown["items"].as_array().into_iter().flatten();
    let ready = found.filter(|one| one["state"] == "ready").map(|one| &one["id"]);
    let ids: Vec<_> = ready.filter_map(serde_json::Value::as_str).collect();
    let [id] = ids[..] else { anyhow::bail!("not one instance: {shown}") };
    Ok(id.to_owned())
}

/// Milliseconds from a request to the first byte of its answer.
fn first(platform: &Platform, instance: &str) -> Result<f64> {
    let mut stream = UnixStream::connect(socket(platform)?)?;
    stream.set_read_timeout(Some(WAIT_MAX))?;
    let request = format!(
        "GET / HTTP/1.1\r\nhost: app.localhost\r\nberth-instance: {instance}\r\nconnection: close\r\n\r\n"
    );
    let mut answer = [0; 4096];
    let begun = Instant::now();
    stream.write_all(request.as_bytes())?;
    let count = stream.read(&mut answer)?;
    let took = begun.elapsed();
    let answer = String::from_utf8_lossy(answer.get(..count).context("more than the buffer")?);
    ensure!(answer.starts_with("HTTP/1.1 200"), "{instance} answered: {answer}");
    Ok(took.as_secs_f64() * 1e3)
}

/// Where `berthd wasm` takes requests.
fn socket(platform: &Platform) -> Result<PathBuf> {
    let id = std::fs::read_to_string(platform.data.join("id"))?;
    Ok(Path::new("/run/berth").join(id.trim()).join("ctl/wasm-requests.sock"))
}
