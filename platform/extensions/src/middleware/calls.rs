//! The state of a middleware's store, and what its host functions find there.

use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi::{WasiCtxView, WasiView};

use super::message::{Request, Response};
use super::shared::Shared;
use crate::limits::{Fault, Guest, Sandbox, Stopped};

/// State of a middleware's store.
pub(super) struct State {
    pub(super) sandbox: Sandbox,
    pub(super) shared: Arc<Shared>,
    /// What the call is about; empty outside of one.
    pub(super) request: Request,
    pub(super) response: Response,
}

impl Guest for State {
    fn sandbox(&mut self) -> &mut Sandbox {
        &mut self.sandbox
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.sandbox.view()
    }
}

impl State {
    /// Counts a call into the host.
    pub(super) fn counted(&self) -> wasmtime::Result<()> {
        if self.sandbox.meter.count_host_call() {
            Ok(())
        } else {
            Err(Stopped(Fault::HostCalls).into())
        }
    }
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    super::wit::Middleware::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}
