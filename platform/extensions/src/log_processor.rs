//! Hosts the world `berth:log-processor`.
//!
//! Takes a batch of lines; gives what the extension made of them: lines, or messages in their final
//! form. What it gives is bounded by what it was given. Each call has an instance of its own.

use crate::aot::{Code, LoadError};
use crate::powers::{Allowed, CallError, Called, Failure, Runner, Session, State};

pub use wit::exports::berth::log_processor::processor::{Entry, Output};

mod wit {
    wasmtime::component::bindgen!({
        inline: "
            package berth:host@0.1.0;
            world log-processor { export berth:log-processor/processor@0.1.0; }
        ",
        path: ["../wit/types", "../wit/log", "../wit/config", "../wit/clock", "../wit/metrics",
            "../wit/log-processor"],
        world: "berth:host/log-processor",
        exports: { default: async },
        require_store_data_send: true,
        with: { "berth:types/types": crate::powers::wit::berth::types::types },
    });
}

/// What an extension may give beyond twice what it got, bytes: small batches may grow more.
const OUTPUT_BYTES_FREE: usize = 64 * 1024;

/// A log processor that can be called.
pub struct LogProcessor {
    runner: Runner,
    world: wit::LogProcessorPre<State>,
}

impl LogProcessor {
    pub(crate) fn load(runner: &Runner, code: &Code, allowed: &Allowed) -> Result<Self, LoadError> {
        let instance = runner.load(code, allowed)?;
        let world = wit::LogProcessorPre::new(instance)
            .map_err(|error| LoadError::Link(format!("{error:#}")))?;
        Ok(Self { runner: runner.clone(), world })
    }

    /// Makes an instance and drops it: whether the component starts at all.
    pub async fn start(&self, session: Session) -> Called<()> {
        self.runner
            .call(session, async |store| {
                self.world.instantiate_async(store).await?;
                Ok(Ok(()))
            })
            .await
    }

    /// Has it change a batch.
    pub async fn process(&self, batch: &[Entry], session: Session) -> Called<Output> {
        let most = 2 * batch.iter().map(entry_bytes).sum::<usize>() + OUTPUT_BYTES_FREE;
        let mut called = self
            .runner
            .call(session, async |store| {
                let world = self.world.instantiate_async(&mut *store).await?;
                world.berth_log_processor_processor().call_process(store, batch).await
            })
            .await;
        let given = match &called.result {
            Ok(Output::Entries(entries)) => entries.iter().map(entry_bytes).sum(),
            Ok(Output::Frames(frames)) => frames.iter().map(|frame| frame.len() + 64).sum(),
            Err(_) => 0,
        };
        if given > most {
            called.result = Err(CallError::Failure(Failure {
                code: "too-large".to_owned(),
                message: format!(
                    "the processor made {given} bytes of a batch that allows {most}; give less"
                ),
                retry: false,
                extra: Vec::new(),
            }));
        }
        called
    }
}

/// Bytes of an entry, what holds it included.
fn entry_bytes(entry: &Entry) -> usize {
    let extra: usize = entry.extra.iter().map(|(name, value)| name.len() + value.len()).sum();
    128 + entry.app.len()
        + entry.process.len()
        + entry.instance.len()
        + entry.stream.len()
        + entry.line.len()
        + extra
}
