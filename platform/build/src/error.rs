//! Why a build did not give an image.

use berth_blobs::BlobError;
use berth_container::AgentError;
use berth_extensions::buildpack::Failure;

use crate::archive::ArchiveError;
use crate::manifest::ManifestError;

/// The room's errors. A message may have several lines, for the one who pushed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// `berth.toml`, `app.json` or `project.toml` is refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] ArchiveError),
    /// No group of buildpacks fits; the text has every buildpack's reason.
    #[error("{0}")]
    NoBuildpack(String),
    /// The app names a buildpack that is not installed.
    #[error("{file} names the buildpack '{id}', which is not installed. There are: {known}.")]
    UnknownBuildpack {
        /// Where it is named.
        file: &'static str,
        /// Its id.
        id: String,
        /// The installed ones.
        known: String,
    },
    /// A buildpack says why it cannot build.
    #[error("{}", .failure.message)]
    Buildpack {
        /// Which.
        id: String,
        /// What it says.
        failure: Box<Failure>,
    },
    /// A buildpack broke a limit or the rules.
    #[error("the buildpack '{id}' {problem}")]
    Guest {
        /// Which.
        id: String,
        /// What happened.
        problem: String,
    },
    /// The platform could not do what a buildpack asked for.
    #[error("{0}")]
    Host(String),
    /// The app cannot be what it says it is.
    #[error("{0}")]
    Component(String),
    /// The configuration lacks what `app.json` requires.
    #[error(
        "app.json requires the configuration {0}. Set it with 'berth config set {0}=…' and push again."
    )]
    ConfigMissing(String),
    /// There is no stack, and none can be made.
    #[error("{0}")]
    Stack(String),
    /// Somebody ended it.
    #[error("the build was cancelled")]
    Cancelled,
    /// Its time was over.
    #[error("the build took longer than {minutes} minutes and was ended")]
    TimedOut {
        /// The limit.
        minutes: u64,
    },
    /// The agent refused or cannot be reached.
    #[error("the build container failed: {0}")]
    Agent(#[from] AgentError),
    /// The store failed.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// Something of the platform failed.
    #[error("cannot {action}")]
    Platform {
        /// What was tried.
        action: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl BuildError {
    /// Makes a `Platform` error of a cause.
    pub(crate) fn platform<E>(action: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Platform { action, source: source.into() }
    }
}
