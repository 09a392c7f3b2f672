//! What can go wrong between a release and its instances.

use berth_blobs::BlobError;
use berth_container::AgentError;
use berth_model::{AppId, Digest, InstanceId, ReleaseId};

use crate::records::RecordsError;

/// A step, a one-off command or a look at a host failed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The store or the router.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The agent refused, failed or is not there.
    #[error("cannot {what}: {source}")]
    Agent {
        /// What was asked of it.
        what: String,
        /// Why it failed.
        #[source]
        source: AgentError,
    },
    /// A reply of another kind than the request's.
    #[error("cannot {what}: berth-agent sent a reply of another kind")]
    Reply {
        /// What was asked of it.
        what: String,
    },
    /// A layer's tar is not in the blob store.
    #[error("cannot read layer {layer} from the blob store: {source}")]
    Layer {
        /// Which.
        layer: Digest,
        /// Why.
        #[source]
        source: BlobError,
    },
    /// More layers than a container can have.
    #[error("the image has {count} layers, {max} are allowed: build it with fewer layers")]
    TooManyLayers {
        /// How many.
        count: usize,
        /// How many may be.
        max: usize,
    },
    /// The Wasm worker refused, failed or is not there.
    #[error("cannot {what}: {source}")]
    Wasm {
        /// What was asked of it.
        what: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A Wasm app has no command line.
    #[error("release {release} is a Wasm app: it has no processes in which a command could run")]
    NoCommands {
        /// The release.
        release: ReleaseId,
    },
    /// There is no such app.
    #[error("there is no app {app}")]
    NoApp {
        /// Which.
        app: AppId,
    },
    /// Nothing was deployed.
    #[error("app {app} has no release yet: deploy it first")]
    NoRelease {
        /// Which.
        app: AppId,
    },
    /// The release has no such process.
    #[error("the release has no process type '{process}'")]
    NoProcess {
        /// Which.
        process: String,
    },
    /// No instance of that name runs.
    #[error("no instance {label} of the app is running")]
    NotRunning {
        /// Which.
        label: String,
    },
    /// The host refused to start a container.
    #[error("cannot start {label}: {reason}")]
    Refused {
        /// What was to start.
        label: String,
        /// Why not.
        reason: String,
    },
    /// A command without words.
    #[error("the command is empty")]
    EmptyCommand,
    /// Too many one-off commands at one time.
    #[error("the app runs {max} one-off commands already; wait for one to end")]
    TooManyRuns {
        /// How many may run.
        max: usize,
    },
    /// The command's container ended or was ended before the command did.
    #[error("{instance} ended before its command could be waited for")]
    Ended {
        /// Which.
        instance: InstanceId,
    },
    /// A descriptor could not be made or handed over.
    #[error("cannot {what}: {source}")]
    Descriptor {
        /// What it was for.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl DeployError {
    pub(crate) fn descriptor(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Descriptor { what, source }
    }

    pub(crate) fn agent(what: impl Into<String>) -> impl FnOnce(AgentError) -> Self {
        let what = what.into();
        move |source| Self::Agent { what, source }
    }
}

/// A name of our own that its type refuses.
pub(crate) fn name(error: berth_model::NameError) -> DeployError {
    DeployError::Descriptor { what: "name a process", source: std::io::Error::other(error) }
}
