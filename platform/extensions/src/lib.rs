//! The only crate that knows wasmtime: it loads components and runs them inside limits.
//!
//! Takes components (buildpacks, apps) and what they may use; gives their results, or an error
//! that says which limit or rule ended them. Guests have no files, no sockets and no host
//! environment; every call is bounded in memory, processor time, wall time, host calls and output.
//! `aot` compiles and authenticates, `buildpack` and `app` host one world each, `worker` is the
//! process that apps run in.

pub mod addon;
pub mod aot;
pub mod app;
pub mod buildpack;
pub mod console;
pub mod engine;
pub mod hook;
mod host;
pub mod inspect;
pub mod limits;
mod lines;
pub mod log_processor;
pub mod middleware;
pub mod outbound;
pub mod policy;
pub mod powers;
pub mod worker;

pub use aot::{AotCache, AotError, Code, CompileError, LoadError, MacKey, compile};
pub use app::{AppConfig, AppError, AppHost, AppHostOptions, AppStats, Env, LogSink};
pub use berth_container::Engine as EngineKind;
pub use engine::{EngineError, Pool};
pub use host::Extensions;
pub use inspect::{
    AppRefusal, BuildpackRefusal, ExtensionRefusal, buildpack_manifest, check_app, check_buildpack,
    check_extension, extension_manifest,
};
pub use limits::{Fault, GuestError, Limits, MemoryBudget};
pub use worker::{LoadedApp, WorkerClient, WorkerError, WorkerOptions, WorkerStats};
