//! What a verb answers when it was refused or failed: a code for the program, a sentence for
//! people. It becomes `Reply::Failed` at the connection and never carries a secret.

use std::fmt::Display;

use berth_container::FailureCode;

/// A refusal or failure of one verb.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// For the caller's program.
    pub(crate) code: FailureCode,
    /// For people: what failed, on what, what to do.
    pub(crate) message: String,
}

impl Failure {
    /// A failure with its sentence.
    pub(crate) fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The request is not one that this agent carries out.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(FailureCode::Refused, message)
    }

    /// What was named does not exist.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(FailureCode::NotFound, message)
    }

    /// The machine refused a step.
    pub(crate) fn machine(message: impl Into<String>) -> Self {
        Self::new(FailureCode::Machine, message)
    }
}

/// Says which step failed when the machine refuses it.
pub(crate) trait Because<T> {
    /// `what`: the step in words, such as `mounting /run/berth/…/net`.
    fn because<W: Display>(self, what: impl FnOnce() -> W) -> Result<T, Failure>;
}

impl<T, E: Display> Because<T> for Result<T, E> {
    fn because<W: Display>(self, what: impl FnOnce() -> W) -> Result<T, Failure> {
        self.map_err(|error| Failure::machine(format!("{} failed: {error}", what())))
    }
}
