//! What a guest may use, and the enforcement of it.
//!
//! Takes a [`Limits`] (there is no unlimited one) and gives a store that holds a guest to it:
//! memory and tables are summed over the whole component, processor time is measured on the thread
//! that runs the guest, wall time is bounded round the whole call, and host calls, handles and
//! output are counted. A guest that goes over a limit ends with a [`Fault`]; it must never take
//! the host with it.

mod memory;
mod meter;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use berth_model::extension::{Kind, LimitsAsked};
use serde::{Deserialize, Serialize};
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, Trap, UpdateDeadline, WasmBacktrace};
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView};

pub use memory::MemoryBudget;
pub(crate) use memory::{MemoryLimiter, Refused};
pub(crate) use meter::Meter;

/// What one call of a guest may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of all linear memories together.
    pub memory_bytes_max: u64,
    /// Linear memories.
    pub memories_max: u32,
    /// Tables.
    pub tables_max: u32,
    /// Elements of all tables together.
    pub table_elements_max: u32,
    /// Core instances in the component.
    pub instances_max: u32,
    /// Processor time, milliseconds.
    pub cpu_ms_max: u32,
    /// Units of fuel, about one per instruction, where the engine counts them: they make the end
    /// of a verdict reproducible, which processor time does not. Where nothing is judged they are
    /// without end, and time alone counts.
    pub fuel_max: u64,
    /// Time to the head of the response, milliseconds; apps only.
    pub reply_ms_max: u32,
    /// Time of the whole call, milliseconds; a buildpack's tools do not count.
    pub wall_ms_max: u32,
    /// Bytes of log lines, standard output and standard error.
    pub output_bytes_max: u64,
    /// Bytes that a guest may hand over in one host call.
    pub call_bytes_max: u32,
    /// Calls from the guest into the host.
    pub host_calls_max: u64,
    /// Handles (streams, bodies, layers, and those to what the guest itself defines) at once.
    pub handles_max: u32,
}

const MIB: u64 = 1024 * 1024;
/// So much that it ends a policy before its processor time does.
const POLICY_FUEL_PER_MS: u64 = 2_000_000;

impl Limits {
    /// A buildpack that looks at a source. Fuel ends it long before the time does, so a verdict
    /// does not depend on the machine.
    pub const BUILDPACK_DETECT: Self = Self {
        cpu_ms_max: 60_000,
        fuel_max: 5_000_000_000,
        reply_ms_max: 120_000,
        wall_ms_max: 120_000,
        output_bytes_max: MIB,
        ..Self::BUILDPACK_BUILD
    };

    /// A buildpack that builds.
    pub const BUILDPACK_BUILD: Self = Self {
        memory_bytes_max: 256 * MIB,
        memories_max: 4,
        tables_max: 8,
        table_elements_max: 100_000,
        instances_max: 64,
        cpu_ms_max: 60_000,
        fuel_max: 500_000_000_000,
        reply_ms_max: 900_000,
        wall_ms_max: 900_000,
        output_bytes_max: 4 * MIB,
        call_bytes_max: 16 * 1024 * 1024,
        host_calls_max: 10_000,
        handles_max: 1024,
    };

    /// One call of a middleware, which a request waits for. Reading a header is a host call.
    pub const MIDDLEWARE: Self = Self::of_kind(Kind::Middleware);

    /// One request to an app.
    pub const APP: Self = Self {
        memory_bytes_max: 64 * MIB,
        memories_max: 4,
        tables_max: 8,
        table_elements_max: 32_768,
        instances_max: 64,
        cpu_ms_max: 5_000,
        fuel_max: u64::MAX,
        reply_ms_max: 30_000,
        wall_ms_max: 900_000,
        output_bytes_max: 256 * 1024,
        call_bytes_max: 4 * 1024 * 1024,
        host_calls_max: 10_000_000,
        handles_max: 1024,
    };
}

impl Limits {
    /// What one call of an extension may use, by kind. A manifest may ask for less or more; an
    /// operator's ceiling is twice this, see [`Limits::asked`].
    pub const fn of_kind(kind: Kind) -> Self {
        let (memory_mib, cpu_ms, wall_ms, output_bytes, host_calls) = match kind {
            Kind::Middleware => (16, 5, 50, 64 * 1024, 256),
            Kind::Policy => (32, 100, 2_000, 64 * 1024, 64),
            Kind::LogProcessor => (32, 50, 1_000, 64 * 1024, 16),
            Kind::Hook => (64, 1_000, 30_000, 256 * 1024, 256),
            Kind::Addon => (256, 60_000, 900_000, 4 * MIB, 10_000),
            Kind::Console => (64, 200, 3_000, MIB, 64),
        };
        Self {
            memory_bytes_max: memory_mib * MIB,
            memories_max: 4,
            tables_max: 8,
            table_elements_max: 100_000,
            instances_max: 64,
            cpu_ms_max: cpu_ms,
            fuel_max: match kind {
                Kind::Policy => POLICY_FUEL_PER_MS * cpu_ms as u64,
                _ => u64::MAX,
            },
            reply_ms_max: wall_ms,
            wall_ms_max: wall_ms,
            output_bytes_max: output_bytes,
            call_bytes_max: 4 * 1024 * 1024,
            host_calls_max: host_calls,
            handles_max: 1024,
        }
    }

    /// What an extension of a kind may use that asks for this: never more than four times the
    /// memory and twice the time of its kind.
    pub fn asked(kind: Kind, asked: &LimitsAsked) -> Self {
        let usual = Self::of_kind(kind);
        let memory = asked.memory.map_or(usual.memory_bytes_max, |size| size.0);
        let cpu_ms_max = asked.cpu_ms.unwrap_or(usual.cpu_ms_max).clamp(1, usual.cpu_ms_max * 2);
        Self {
            memory_bytes_max: memory.clamp(MIB, usual.memory_bytes_max * 4),
            cpu_ms_max,
            fuel_max: match kind {
                Kind::Policy => POLICY_FUEL_PER_MS * u64::from(cpu_ms_max),
                _ => usual.fuel_max,
            },
            wall_ms_max: asked.wall_ms.unwrap_or(usual.wall_ms_max).clamp(1, usual.wall_ms_max * 2),
            ..usual
        }
    }
}

/// Why a guest was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It did what WebAssembly forbids: `unreachable`, a bad access, too deep a recursion.
    Trap,
    /// Its wall time was over.
    Timeout,
    /// Its processor time or fuel was used up.
    Cpu,
    /// It asked for more memory, table elements or handles than it may have.
    Memory,
    /// It called the host too often.
    HostCalls,
    /// It wrote too much.
    Output,
    /// It gave what is not of the form of its kind.
    Invalid,
}

impl Fault {
    /// The stable text form.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::HostCalls => "host_calls",
            Self::Output => "output",
            Self::Invalid => "invalid",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The end of a guest that did not come back by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct GuestError {
    /// Which limit or rule ended it.
    pub fault: Fault,
    /// For people, of several lines when there is a backtrace.
    pub message: String,
}

/// Raised inside a guest to end it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the guest went over its limit: {0}")]
pub(crate) struct Stopped(pub(crate) Fault);

/// What every store holds beside the state of its world.
pub(crate) struct Sandbox {
    pub(crate) meter: Arc<Meter>,
    pub(crate) memory: MemoryLimiter,
    pub(crate) table: ResourceTable,
    pub(crate) wasi: WasiCtx,
}

impl Sandbox {
    pub(crate) fn new(meter: Arc<Meter>, memory: MemoryLimiter, wasi: WasiCtx) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(meter.limits().handles_max as usize);
        Self { meter, memory, table, wasi }
    }

    /// The way of every WASI call to its state, and so the place where it is counted. A call that
    /// is one too many is noticed at the next tick of the epoch.
    pub(crate) fn view(&mut self) -> WasiCtxView<'_> {
        self.meter.count_host_call();
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// The state of a store.
pub(crate) trait Guest: Send + 'static {
    fn sandbox(&mut self) -> &mut Sandbox;
}

/// A store that holds its guest to the limits, before anything is instantiated in it: a start
/// function can already loop.
pub(crate) fn armed_store<T: Guest>(engine: &Engine, state: T) -> Store<T> {
    let mut store = Store::new(engine, state);
    let limits = *store.data_mut().sandbox().meter.limits();
    store.limiter(|state| &mut state.sandbox().memory);
    store.set_hostcall_fuel(limits.call_bytes_max as usize);
    // A guest makes handles to resources of its own without any host call.
    store.set_max_component_handles(limits.handles_max as usize);
    // An engine without fuel refuses; it has nothing to count.
    let _ = store.set_fuel(limits.fuel_max);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut context| {
        match context.data_mut().sandbox().meter.overrun() {
            Some(fault) => Err(Stopped(fault).into()),
            // A plain yield would be polled again first (wasmtime#10667).
            None => Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))),
        }
    });
    store
}

/// Prepares a store for another call, under the same limits as the first.
pub(crate) fn rearm<T: Guest>(store: &mut Store<T>) {
    let limits = *store.data_mut().sandbox().meter.limits();
    store.set_hostcall_fuel(limits.call_bytes_max as usize);
    // An engine without fuel refuses; it has nothing to count.
    let _ = store.set_fuel(limits.fuel_max);
    store.set_epoch_deadline(1);
}

/// Longest message about a guest.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// Says why a call ended. `memory_refused` is what the limiter saw: a guest that was refused
/// memory mostly ends itself by a trap of its own.
pub(crate) fn explain(error: &wasmtime::Error, meter: &Meter, memory_refused: bool) -> GuestError {
    let fault = match error.downcast_ref::<Stopped>() {
        Some(Stopped(fault)) => *fault,
        None if error.downcast_ref::<Trap>() == Some(&Trap::OutOfFuel) => Fault::Cpu,
        None if memory_refused => Fault::Memory,
        // A refusal that a WASI implementation turned into an error of its own.
        None => meter.overrun().unwrap_or(Fault::Trap),
    };
    let message = match fault {
        Fault::Trap => trap_message(error),
        fault => limit_message(fault, meter.limits()),
    };
    GuestError { fault, message }
}

/// The message about a limit that was reached.
pub(crate) fn limit_message(fault: Fault, limits: &Limits) -> String {
    match fault {
        Fault::Trap => "the component trapped".to_owned(),
        Fault::Timeout => {
            format!("the component did not finish within {} ms", limits.wall_ms_max)
        }
        Fault::Cpu if limits.fuel_max == u64::MAX => {
            format!("the component used up its processor time of {} ms", limits.cpu_ms_max)
        }
        Fault::Cpu => format!(
            "the component used up its processor time ({} ms, or {} units of fuel)",
            limits.cpu_ms_max, limits.fuel_max
        ),
        Fault::Memory => format!(
            "the component asked for more than its memory of {} MiB (or {} table elements, or {} \
             handles)",
            limits.memory_bytes_max / MIB,
            limits.table_elements_max,
            limits.handles_max
        ),
        Fault::HostCalls => {
            format!("the component made more than {} host calls", limits.host_calls_max)
        }
        Fault::Output => {
            format!("the component wrote more than {} bytes of output", limits.output_bytes_max)
        }
        Fault::Invalid => "what the component gave is not valid".to_owned(),
    }
}

fn trap_message(error: &wasmtime::Error) -> String {
    let cause = match error.downcast_ref::<I32Exit>() {
        Some(I32Exit(code)) => format!("it ended itself with exit code {code}"),
        None => error.root_cause().to_string(),
    };
    let mut message = format!("the component trapped: {cause}");
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        for frame in backtrace.to_string().lines().take(25) {
            message.push('\n');
            message.push_str(frame);
        }
    }
    crate::lines::printable(&message, MESSAGE_BYTES_MAX)
}
