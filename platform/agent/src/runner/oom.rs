//! Looks for the victim after the kernel said that memory is short.
//!
//! On cgroup v1 the kernel ends one process, and an app may live on half alive; v2 ends them all.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::cgroup::Leaf;

/// How often and how long it is looked.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS_MAX: u32 = 50;

/// What is known of a container's shortness of memory.
pub(crate) struct OomWatch {
    event: Option<OwnedFd>,
    look_at: Option<Instant>,
    looks: u32,
}

impl OomWatch {
    pub(crate) fn of(leaf: &Leaf) -> Self {
        Self { event: leaf.oom_event(), look_at: None, looks: 0 }
    }

    /// Readable when memory is short; none where the kernel does all that is to do.
    pub(crate) fn event(&self) -> Option<BorrowedFd<'_>> {
        self.event.as_ref().map(AsFd::as_fd)
    }

    /// The next moment at which `is_due` has something to say.
    pub(crate) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// The event came.
    pub(crate) fn heard(&mut self) {
        if let Some(event) = &self.event {
            let _ = rustix::io::read(event, &mut [0_u8; 8]);
        }
        self.look_at = Some(Instant::now());
        self.looks = 0;
    }

    /// Whether to look now; `found` says what came of it.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.look_at.is_some_and(|at| at <= now)
    }

    /// A victim was found, or not yet.
    pub(crate) fn looked(&mut self, found: bool, now: Instant) {
        self.looks += 1;
        self.look_at = (!found && self.looks < LOOKS_MAX).then(|| now + LOOK);
    }
}
