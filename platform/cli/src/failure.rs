//! How a command fails: its message, a hint, and its exit code.

use std::fmt;

use berth_api::Problem;

/// The operation failed or was refused.
const FAILED: u8 = 1;
/// The command was used wrongly.
const USAGE: u8 = 2;
/// The platform could not be reached; trying again is safe.
const UNREACHABLE: u8 = 3;

/// A command that did not do what it should.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { code: FAILED, message: message.into(), hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, message: message.into(), hint: None }
    }

    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self {
            code: UNREACHABLE,
            message: message.into(),
            hint: Some(
                "is the platform running (`cargo xtask up`, `berthd serve`), and does BERTH_SERVER or \
                 --server name it?"
                    .to_owned(),
            ),
        }
    }

    /// The exit code of a remote command, passed on without a message of our own.
    pub(crate) fn exit(code: i32) -> Self {
        let code = u8::try_from(code).unwrap_or(FAILED);
        Self { code, message: String::new(), hint: None }
    }

    pub(crate) fn problem(problem: &Problem) -> Self {
        let mut message = problem.detail.clone().unwrap_or_else(|| problem.title.clone());
        for error in &problem.errors {
            message.push_str(&format!("\n  {}: {}", error.pointer, error.detail));
        }
        let hint = (problem.status == 401).then(|| {
            "set BERTH_TOKEN to a token of this platform; the administrator's is in the file \
             admin-token of its data folder"
                .to_owned()
        });
        Self { code: FAILED, message, hint }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    pub(crate) fn is_unreachable(&self) -> bool {
        self.code == UNREACHABLE
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.message.is_empty()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}
