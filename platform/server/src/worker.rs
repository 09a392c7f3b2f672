//! The processes that the agent starts under ids of their own: router, Wasm worker, compiler.

mod wasm_log;

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use berth_extensions::{AppHostOptions, EngineKind, WorkerOptions};

use crate::args;
use crate::data_folder::DataFolder;
use crate::{heap, log};

/// How long an idle Wasm app's code stays mapped, milliseconds.
const IDLE_MS_MAX: u32 = 30_000;
/// How long requests under way may take when a worker is asked to end, milliseconds.
const DRAIN_MS_MAX: u32 = 30_000;

/// The body of `berthd route`.
///
/// # Errors
/// Wrong descriptors, and what the router says.
pub fn route(options: &args::Worker) -> Result<()> {
    log::start();
    heap::keep_small();
    let [control, http, datagrams, streams] = inherited(options.listeners_from_fd)?;
    let names = berth_route::names::NameSockets { datagrams, streams };
    let data = DataFolder::existing(&options.data)?;
    let requests = data.control_folder().join("wasm-requests.sock");
    let mut config = berth_route::Config::new(data.root.join("route"), requests, build_id()?);
    config.control_uid = Some(control_uid(&data)?);
    Ok(berth_route::run(config, control, http, Some(names))?)
}

/// The body of `berthd wasm`.
///
/// # Errors
/// Wrong descriptors, and what the worker says.
pub fn wasm(options: &args::Worker) -> Result<()> {
    log::start();
    heap::keep_small();
    let [control, requests] = inherited(options.listeners_from_fd)?;
    let data = DataFolder::existing(&options.data)?;
    let worker = WorkerOptions {
        host: AppHostOptions::default(),
        build: build_id()?,
        control_uid: control_uid(&data)?,
        idle_ms_max: IDLE_MS_MAX,
        drain_ms_max: DRAIN_MS_MAX,
    };
    let (logs, writing) = wasm_log::WasmLogs::new(data.root.join("logs-wasm"));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let served = runtime.block_on(async {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let shutdown = async move {
            terminate.recv().await;
        };
        let logs = Arc::new(logs);
        berth_extensions::worker::serve(control, requests, worker, logs, shutdown).await?;
        anyhow::Ok(())
    });
    // With it goes whoever could still log.
    drop(runtime);
    writing.end();
    served
}

/// The body of `berthd compile`.
///
/// # Errors
/// What the compiler says of the component.
pub fn compile(engine: &str) -> Result<()> {
    let kind = match engine {
        "apps" => EngineKind::Apps,
        _ => EngineKind::Extensions,
    };
    Ok(berth_extensions::compile(kind, std::io::stdin().lock(), std::io::stdout().lock())?)
}

/// The listeners that the agent passed.
fn inherited<const N: usize>(first: RawFd) -> Result<[OwnedFd; N]> {
    let mut found = Vec::new();
    for number in (first..).take(N) {
        // Checked before it is taken: a number that is not open must not become a handle.
        if std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() {
            bail!("descriptor {number} is not open; this program is started by berth-agent");
        }
        #[expect(
            unsafe_code,
            reason = "the descriptor is open, and nobody else in this process has taken it"
        )]
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)?;
        found.push(descriptor);
    }
    found.try_into().map_err(|_| anyhow::anyhow!("not every listener was passed"))
}

/// The folder that this program lies in is named after its build.
fn build_id() -> Result<String> {
    let own = std::env::current_exe()?;
    let folder =
        own.parent().and_then(|folder| folder.file_name()).context("no folder of programs")?;
    Ok(folder.to_string_lossy().into_owned())
}

/// The id of `berthd serve`: the owner of the state.
fn control_uid(data: &DataFolder) -> Result<u32> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata(data.control_folder())?.uid())
}
