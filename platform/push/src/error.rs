//! What can go wrong in this room outside of a tree (see [`crate::SourceError`] for that).

use std::io;
use std::path::PathBuf;

use berth_model::AppId;

/// Why a repository, the SSH listener or the host key could not be used.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// libgit2 refused.
    #[error("cannot {action} of {app}")]
    Git {
        /// What was tried.
        action: &'static str,
        /// Whose repository.
        app: AppId,
        /// Why.
        #[source]
        source: git2::Error,
    },
    /// libgit2 does not take an option.
    #[error("cannot set up libgit2")]
    Library(#[source] git2::Error),
    /// The host key is not one.
    #[error("{} is not an SSH host key ({why}); remove it to have a new one made", path.display())]
    HostKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The listener failed.
    #[error("cannot accept SSH connections")]
    Listener(#[source] io::Error),
}

impl PushError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
