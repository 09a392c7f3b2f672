//! The engine of the extensions, and the way from compiled code to something that can be called.

use std::sync::Arc;

use crate::addon::Addon;
use crate::aot::{Code, LoadError};
use crate::console::Console;
use crate::engine::{EngineError, Running};
use crate::hook::Hook;
use crate::log_processor::LogProcessor;
use crate::policy::Policy;
use crate::powers::{Allowed, Runner};

/// The engine. One per process; cheap to clone. Extensions are mapped and linked by the method of
/// their kind; what they may not use is not there for them to import.
#[derive(Clone)]
pub struct Extensions {
    runner: Runner,
}

impl Extensions {
    /// Starts the engine.
    ///
    /// # Errors
    /// When this machine cannot run it.
    pub fn new() -> Result<Self, EngineError> {
        Ok(Self { runner: Runner { running: Arc::new(Running::extensions()?) } })
    }

    /// A hook, compiled for [`EngineKind::Extensions`](crate::EngineKind).
    ///
    /// # Errors
    /// `Link` when it is not a component of this world, or needs what it may not use.
    pub fn hook(&self, code: &Code, allowed: &Allowed) -> Result<Hook, LoadError> {
        Hook::load(&self.runner, code, allowed)
    }

    /// A policy.
    ///
    /// # Errors
    /// As `hook`.
    pub fn policy(&self, code: &Code, allowed: &Allowed) -> Result<Policy, LoadError> {
        Policy::load(&self.runner, code, allowed)
    }

    /// A log processor.
    ///
    /// # Errors
    /// As `hook`.
    pub fn log_processor(&self, code: &Code, allowed: &Allowed) -> Result<LogProcessor, LoadError> {
        LogProcessor::load(&self.runner, code, allowed)
    }

    /// A kind of add-on.
    ///
    /// # Errors
    /// As `hook`.
    pub fn addon(&self, code: &Code, allowed: &Allowed) -> Result<Addon, LoadError> {
        Addon::load(&self.runner, code, allowed)
    }

    /// An extension of the console.
    ///
    /// # Errors
    /// As `hook`.
    pub fn console(&self, code: &Code, allowed: &Allowed) -> Result<Console, LoadError> {
        Console::load(&self.runner, code, allowed)
    }
}
