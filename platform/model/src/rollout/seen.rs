//! One instance: its row beside what its host tells of it.

use super::{Container, Ending, Phase, WEB};
use crate::{InstanceRecord, InstanceRole, InstanceState};

/// An instance's row and its container.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) row: &'a InstanceRecord,
    pub(super) container: Option<&'a Container>,
    /// Loaded into the Wasm worker, which may forget it and be told again.
    pub(super) wasm: bool,
    /// Its `Stop` is under way: what is seen of it may be gone at any moment.
    pub(super) ending: bool,
}

impl Seen<'_> {
    pub(super) fn is_web(&self) -> bool {
        self.row.process.as_str() == WEB
    }

    pub(super) fn is_instance(&self) -> bool {
        self.row.role == InstanceRole::Instance
    }

    fn is_running(&self) -> bool {
        self.container.is_some_and(|container| container.phase == Phase::Running)
    }

    /// It will never run again under this id.
    pub(super) fn is_dead(&self) -> bool {
        match self.container {
            Some(container) => container.phase == Phase::Exited,
            None => !self.wasm && self.row.state >= InstanceState::Running,
        }
    }

    /// It counts towards its process.
    pub(super) fn is_alive(&self) -> bool {
        self.row.state < InstanceState::Draining && !self.is_dead() && !self.ending
    }

    /// It passed its check in the attempt that runs now.
    pub(super) fn answers(&self) -> bool {
        self.row.state == InstanceState::Ready
            && self.is_running()
            && self.row.answering == self.container.map(|container| container.attempt)
    }

    /// It does what its process is for.
    pub(super) fn is_ready(&self) -> bool {
        if self.is_web() {
            self.answers()
        } else {
            self.row.state == InstanceState::Ready && self.is_running()
        }
    }

    /// How often its process ended, or could not be started.
    pub(super) fn exits(&self) -> u32 {
        let of_row = u32::from(self.row.state == InstanceState::Failed);
        let of_container = self.container.map_or(0, |container| {
            let ended = matches!(container.phase, Phase::Waiting | Phase::Exited);
            container.attempt.saturating_sub(1) + u32::from(ended)
        });
        of_row.max(of_container)
    }

    /// How the row of a dead instance ends.
    pub(super) fn ending(&self) -> Ending {
        let exit_code = self.container.and_then(|container| container.exit_code);
        let error = match (self.container, exit_code) {
            (None, _) => "its container is gone".to_owned(),
            (_, Some(code)) => format!("it ended with exit code {code}"),
            (_, None) => "it ended and nothing is known of how".to_owned(),
        };
        Ending { state: InstanceState::Failed, exit_code, error: Some(error) }
    }

    /// How the row of a command that runs once ends.
    pub(super) fn ending_of_command(&self) -> Ending {
        match self.container.and_then(|container| container.exit_code) {
            Some(0) => Ending { exit_code: Some(0), ..Ending::stopped() },
            _ => self.ending(),
        }
    }
}

impl Ending {
    /// It ended as asked.
    pub fn stopped() -> Self {
        Self { state: InstanceState::Stopped, exit_code: None, error: None }
    }
}
