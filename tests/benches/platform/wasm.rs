//! Wasm apps: the first call of each through the router, and the memory of a platform that holds
//! twenty of them.
//!
//! Cold means: the machine code is on the disk, and this worker process has never been asked for
//! the app. The time runs from the request's last byte into an open connection of the router to
//! the answer's first byte.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use acceptance::platform::programs;
use acceptance::{Platform, Repository};
use anyhow::{Context, Result, ensure};

use crate::answer;
use crate::report::{Bound, Report};

const APPS: usize = 20;
const IDLE: Duration = Duration::from_secs(60);

/// Deploys the apps, calls each once, and reads the memory after a minute.
///
/// # Errors
/// What the platform says.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let platform = Platform::start_with("");
    let component = std::fs::read(programs().join("samples/wasm-hello/app.wasm"))?;
    for number in 0..APPS {
        let repository = Repository::new();
        repository.write("app.wasm", distinct(&component, number));
        repository.commit("A component");
        repository.deploy(&platform, &name(number));
    }
    let mut cold = Vec::new();
    let mut warm = Vec::new();
    for number in 0..APPS {
        cold.push(call(&platform, number)?);
    }
    let since = Instant::now();
    for number in 0..APPS {
        warm.push(call(&platform, number)?);
    }
    report.bounded("Wasm: first call of an app, through the router", "ms", cold, Bound::Mark(1.0));
    report.row("Wasm: second call of an app, through the router", "ms", warm);
    // Memory is read of a platform that did nothing for a minute: that is what is measured.
    std::thread::sleep(IDLE.saturating_sub(since.elapsed()));
    memory(report, &platform)?;
    let woken = (0..APPS).map(|number| call(&platform, number)).collect::<Result<_>>()?;
    report.row("Wasm: call of an app that was idle for 60 s, its code unmapped", "ms", woken);
    Ok(())
}

fn name(number: usize) -> String {
    format!("app-{number}")
}

/// The same component with a section of its own, which makes it another one, compiled and kept
/// apart from the others: a custom section (id 0), its length, its name with length.
fn distinct(component: &[u8], number: usize) -> Vec<u8> {
    let name = format!("bench{number:03}");
    let length = u8::try_from(name.len()).unwrap_or(0);
    [component, &[0, length + 1, length], name.as_bytes()].concat()
}

/// Milliseconds of one call.
fn call(platform: &Platform, number: usize) -> Result<f64> {
    let mut connection = answer::connect(platform.http)?;
    let host = format!("{}.localhost", name(number));
    let begun = Instant::now();
    let answer = answer::ask(&mut connection, &host, "/")?;
    ensure!(answer.status == 200, "{host} answered: {}", answer.text);
    Ok((answer.came - begun).as_secs_f64() * 1e3)
}

/// Proportional set sizes of the four processes that every platform has.
fn memory(report: &mut Report, platform: &Platform) -> Result<()> {
    let data = platform.data.display().to_string();
    let parts = [
        ("berthd serve", vec!["berthd", " serve ", &data]),
        ("berthd route", vec!["berthd", " route ", &data]),
        ("berthd wasm", vec!["berthd", " wasm ", &data]),
        ("berth-agent", vec!["berth-agent serve", &data]),
    ];
    let sizes = parts
        .into_iter()
        .map(|(what, words)| Ok((what, pss_mb(&process(&words)?)?)))
        .collect::<Result<Vec<_>>>()?;
    let sum = sizes.iter().map(|(_, size)| size).sum();
    let what = format!("memory (PSS) with {APPS} Wasm apps, each called, after 60 s");
    report.bounded(what, "MB", vec![sum], Bound::Mark(100.0));
    for (what, size) in sizes {
        report.detail(what, "MB", size);
    }
    Ok(())
}

/// The folder in `/proc` of the only process whose command line has all the words.
fn process(words: &[&str]) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.filter_map(Result::ok) {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if words.iter().all(|word| line.contains(word)) {
            found.push(entry.path());
        }
    }
    ensure!(found.len() == 1, "{} processes are {words:?}", found.len());
    found.pop().context("no process")
}

/// Megabytes (1,000,000 bytes).
fn pss_mb(process: &Path) -> Result<f64> {
    let text = std::fs::read_to_string(process.join("smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024.0 / 1e6)
}
