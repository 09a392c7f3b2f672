//! What a client's socket and its requests tell each other.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32};

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Between requests.
    Idle = 0,
    /// A head is arriving.
    Head = 1,
    /// A request is being answered.
    Busy = 2,
    /// Answered, with a part of the request's body still unread.
    Spent = 3,
    /// No longer HTTP.
    Tunnel = 4,
}

#[derive(Default)]
pub(crate) struct ClientWatch {
    phase: AtomicU8,
    /// Rises with each change of phase that starts a new wait.
    step: AtomicU32,
    body_open: AtomicBool,
    slow: AtomicBool,
}

impl ClientWatch {
    /// A request was parsed.
    pub(crate) fn begin(&self, has_body: bool) {
        self.body_open.store(has_body, Relaxed);
        self.enter(Phase::Busy);
    }

    /// The request's body was read to its end.
    pub(crate) fn body_read(&self) {
        self.body_open.store(false, Relaxed);
    }

    /// The answer is written.
    pub(crate) fn finish(&self) {
        if self.phase() == Phase::Busy {
            self.enter(if self.is_body_open() { Phase::Spent } else { Phase::Idle });
        }
    }

    /// The answer is a 101.
    pub(crate) fn tunnel(&self) {
        self.enter(Phase::Tunnel);
    }

    /// Whether the client was too slow with the request's body.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow.load(Relaxed)
    }

    pub(super) fn is_body_open(&self) -> bool {
        self.body_open.load(Relaxed)
    }

    pub(super) fn set_slow(&self) {
        self.slow.store(true, Relaxed);
    }

    pub(super) fn step(&self) -> u32 {
        self.step.load(Relaxed)
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        self.step.fetch_add(1, Relaxed);
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Idle,
            1 => Phase::Head,
            2 => Phase::Busy,
            3 => Phase::Spent,
            _ => Phase::Tunnel,
        }
    }
}
