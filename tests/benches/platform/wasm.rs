//! Wasm apps: the first call of each through the router, and the memory of a platform that holds
//! twenty of them; in a bench of their own what a middleware costs and how soon a new version of one
//! serves, the throughput beside that of others, and a thousand apps.
//!
//! Cold means: the machine code is on the disk, and this worker process has never been asked for
//! the app. The time runs from the request's last byte into an open connection of the router to
//! the answer's first byte.

mod many;
mod middleware;
mod reload;
mod rivals;
mod wrk;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use acceptance::extensions::extension_folder;
use acceptance::platform::programs;
use acceptance::{Platform, Repository};
use anyhow::{Context, Result, ensure};

use crate::answer;
use crate::report::{Bound, Report};

const APPS: usize = 20;
const IDLE: Duration = Duration::from_secs(60);
/// Nobody looks at a new release for longer than this: a thousand of them are made.
const CONFIG: &str = "[deploy]\nmonitor_ms = 100\n";
/// Pushes at once.
const PUSHES: usize = 3;

/// How much the bench of its own does.
pub(crate) struct Size {
    /// Apps on one platform.
    apps: usize,
    /// First calls of apps whose code is unmapped.
    cold: usize,
    /// Repetitions of everything that is compared.
    rounds: usize,
    /// Length of one load, seconds.
    load_s: u32,
    /// How long nothing is done before memory is read; a worker unmaps code after 30 s.
    idle: Duration,
}

impl Size {
    /// What the marks are for.
    pub(crate) const FULL: Self =
        Self { apps: 1_000, cold: 200, rounds: 5, load_s: 5, idle: Duration::from_secs(60) };
    /// So little that its figures say nothing: whether the bench itself works.
    pub(crate) const QUICK: Self =
        Self { apps: 6, cold: 5, rounds: 1, load_s: 1, idle: Duration::from_secs(40) };
}

/// The bench of its own.
///
/// # Errors
/// What the platform or a rival says.
pub(crate) fn measure_all(report: &mut Report, size: &Size) -> Result<()> {
    let file = programs().join("samples/wasm-hello/app.wasm");
    let component = std::fs::read(&file)?;
    {
        let (folder, extensions) = extension_folder();
        let platform = Platform::start_with(&format!("{CONFIG}{extensions}"));
        deploy(&platform, &component, 0..2);
        reload::measure(report, &platform, folder.path(), size)?;
        middleware::measure(report, &platform, size)?;
        rivals::measure(report, &platform, &file, size)?;
    }
    many::measure(report, &component, size)
}

/// Deploys the apps of these numbers, several at a time.
fn deploy(platform: &Platform, component: &[u8], apps: Range<usize>) {
    let next = AtomicUsize::new(apps.start);
    std::thread::scope(|scope| {
        for _ in 0..PUSHES {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= apps.end {
                        return;
                    }
                    let repository = Repository::new();
                    repository.write("app.wasm", distinct(component, number));
                    repository.commit("A component");
                    repository.deploy(platform, &name(number));
                }
            });
        }
    });
}

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
    let what = format!("memory (PSS) with {APPS} Wasm apps, each called, after 60 s");
    memory(report, &platform, what, 100.0)?;
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
fn memory(report: &mut Report, platform: &Platform, what: String, mb_max: f64) -> Result<()> {
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
    report.bounded(what, "MB", vec![sum], Bound::Mark(mb_max));
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
    Ok(bytes(process, "Pss:")? / 1e6)
}

/// A sum over all mappings of a process, bytes.
fn bytes(process: &Path, what: &str) -> Result<f64> {
    let text = std::fs::read_to_string(process.join("smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(what));
    let line = line.with_context(|| format!("no {what}"))?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024.0)
}
