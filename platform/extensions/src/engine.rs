//! The two engines and their settings.
//!
//! One function gives the settings to the compiler and to the loader, so that what was compiled
//! loads. The engine of the extensions counts fuel and makes floating point reproducible; the
//! engine of the apps takes its memories from a pool that is reserved at start. An engine that
//! runs guests has no compiler: hostile WebAssembly is compiled in a bounded child only.

mod ticker;

use berth_container::Engine as EngineKind;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, ModuleVersionStrategy, OptLevel,
    PoolingAllocationConfig, WasmBacktraceDetails,
};

pub(crate) use ticker::{Ticker, Ticking};

/// Exact version of the engine. Code of another patch is never loaded: a patch may mend a
/// compiler that compiled wrongly.
pub(crate) const WASMTIME_VERSION: &str = "48.0.8";

/// Address space of one memory, so that bounds checks are the guard pages' work.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;
const WASM_STACK_BYTES: usize = 512 * 1024;
/// Host functions run on the rest of the guest's stack.
const STACK_BYTES: usize = 2 * 1024 * 1024;

/// The engine cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The pool of the apps cannot be reserved.
    #[error(
        "cannot reserve a pool of {memories} memories ({gib} GiB of address space) for Wasm apps; \
         raise the limit on address space (ulimit -v) or lower the number of memories: {reason}"
    )]
    Pool {
        /// Memories asked for.
        memories: u32,
        /// Address space that they need.
        gib: u64,
        /// What the engine said.
        reason: String,
    },
    /// The settings are refused on this machine.
    #[error("the WebAssembly engine does not start on this machine: {0}")]
    Settings(String),
    /// No thread for the clock.
    #[error("cannot start the thread that interrupts guests")]
    Ticker(#[source] std::io::Error),
}

/// How many memories are kept for guests that run at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Linear memories at once; a guest mostly has one.
    pub memories: u32,
    /// Largest memory, bytes.
    pub memory_bytes_max: u64,
}

impl Default for Pool {
    fn default() -> Self {
        Self { memories: 256, memory_bytes_max: 256 * 1024 * 1024 }
    }
}

impl Pool {
    /// Tables are few and small, so there are enough of them for every memory.
    pub(crate) fn tables(self) -> u32 {
        self.memories.saturating_mul(4)
    }

    fn allocation(self) -> PoolingAllocationConfig {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_memories(self.memories)
            .total_stacks(self.memories)
            .total_component_instances(self.memories)
            .total_tables(self.tables())
            // A count alone, nothing is reserved for it.
            .total_core_instances(self.memories.saturating_mul(64))
            .max_memory_size(usize::try_from(self.memory_bytes_max).unwrap_or(usize::MAX))
            .max_core_instances_per_component(64)
            .max_memories_per_component(4)
            .max_tables_per_component(8)
            .max_memories_per_module(4)
            .max_tables_per_module(4)
            .table_elements(32_768)
            // Few slots are touched when few guests run at once.
            .max_unused_warm_slots(8)
            .linear_memory_keep_resident(64 * 1024)
            .table_keep_resident(8 * 1024)
            // It would be faster, but leaks swapped pages to the next guest before version 50.
            .pagemap_scan(Enabled::No);
        pool
    }
}

/// The settings that code and loader must share.
fn settings(kind: EngineKind) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .consume_fuel(kind == EngineKind::Extensions)
        .wasm_memory64(false)
        .wasm_relaxed_simd(kind == EngineKind::Apps)
        .memory_reservation(MEMORY_RESERVATION_BYTES)
        .memory_init_cow(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(STACK_BYTES)
        .native_unwind_info(false)
        // Neither of them may depend on the environment of the process.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    // `version` is far below the 255 bytes that are refused, the only error there is.
    let _ = config.module_version(ModuleVersionStrategy::Custom(WASMTIME_VERSION.to_owned()));
    config
}

/// An engine that compiles and never runs anything: without pool, and without a thread.
pub(crate) fn compiling(kind: EngineKind) -> Result<Engine, EngineError> {
    let mut config = settings(kind);
    config
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(kind == EngineKind::Extensions);
    Engine::new(&config).map_err(|error| EngineError::Settings(format!("{error:#}")))
}

/// An engine that runs what was compiled, and the thread that interrupts its guests.
pub(crate) struct Running {
    pub(crate) engine: Engine,
    pub(crate) ticker: Ticker,
}

impl Running {
    /// For buildpacks and extensions: few at once, memory on demand.
    pub(crate) fn extensions() -> Result<Self, EngineError> {
        let mut config = settings(EngineKind::Extensions);
        config.enable_compiler(false);
        let engine =
            Engine::new(&config).map_err(|error| EngineError::Settings(format!("{error:#}")))?;
        Self::with_ticker(engine)
    }

    /// For apps. A pool that cannot be reserved is an error, never a slower engine in silence.
    pub(crate) fn apps(pool: Pool) -> Result<Self, EngineError> {
        let mut config = settings(EngineKind::Apps);
        config
            .enable_compiler(false)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool.allocation()));
        let engine = Engine::new(&config).map_err(|error| EngineError::Pool {
            memories: pool.memories,
            gib: u64::from(pool.memories) * (MEMORY_RESERVATION_BYTES >> 30),
            reason: format!("{error:#}"),
        })?;
        Self::with_ticker(engine)
    }

    fn with_ticker(engine: Engine) -> Result<Self, EngineError> {
        let ticker = Ticker::start(&engine).map_err(EngineError::Ticker)?;
        Ok(Self { engine, ticker })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_in_the_key_is_the_version_that_is_linked() {
        let lock = include_str!("../../../Cargo.lock");
        let linked = format!("name = \"wasmtime\"\nversion = \"{WASMTIME_VERSION}\"");
        assert!(lock.contains(&linked), "Cargo.lock has another wasmtime than {WASMTIME_VERSION}");
    }

    #[test]
    fn a_pool_that_does_not_fit_is_refused_and_named() {
        let error = Running::apps(Pool { memories: 100_000, ..Pool::default() }).err().unwrap();
        assert!(error.to_string().contains("400000 GiB"), "{error}");
    }
}
