//! The body of the child that compiles: a component in, machine code out.
//!
//! The component is hostile and compiling it may take any time or memory, so the caller bounds
//! the process; this bounds the input and refuses early what no engine would run.

use std::io::{self, Read, Write};

use berth_container::Engine as EngineKind;

use crate::engine::{self, EngineError};
use crate::inspect::{self, NotAComponent};

/// A component was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It could not be read.
    #[error("cannot read the component")]
    Read(#[source] io::Error),
    /// It is too large.
    #[error(
        "the component is larger than {} MiB, which is the limit; strip it of debug information \
         (wasm-tools strip) or make it smaller", .bytes_max / 1_048_576
    )]
    TooLarge {
        /// The limit.
        bytes_max: u64,
    },
    /// It is something else.
    #[error(transparent)]
    NotAComponent(#[from] NotAComponent),
    /// It is not valid, or uses what is switched off.
    #[error("the component is not accepted: {0}")]
    Invalid(String),
    /// The compiler does not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The code could not be written.
    #[error("cannot write the compiled component")]
    Write(#[source] io::Error),
}

/// Largest component of an engine, bytes. Those of interpreted languages bring their interpreter
/// with them: JavaScript some 12 MiB, Python some 18 MiB and whatever it imports.
pub const fn component_bytes_max(kind: EngineKind) -> u64 {
    match kind {
        EngineKind::Extensions | EngineKind::Apps => 64 * 1024 * 1024,
    }
}

/// Compiles a component for an engine of this machine. The code is not authenticated: only
/// [`AotCache`](super::AotCache) may take it.
///
/// # Errors
/// `TooLarge` beyond [`component_bytes_max`], `NotAComponent`, `Invalid` with the validator's
/// words, and what reading and writing say.
pub fn compile(kind: EngineKind, wasm: impl Read, mut out: impl Write) -> Result<(), CompileError> {
    let bytes_max = component_bytes_max(kind);
    let mut component = Vec::new();
    wasm.take(bytes_max + 1).read_to_end(&mut component).map_err(CompileError::Read)?;
    if component.len() as u64 > bytes_max {
        return Err(CompileError::TooLarge { bytes_max });
    }
    inspect::shape(&component)?;
    let code = engine::compiling(kind)?
        .precompile_component(&component)
        .map_err(|error| CompileError::Invalid(format!("{error:#}")))?;
    out.write_all(&code).and_then(|()| out.flush()).map_err(CompileError::Write)
}
