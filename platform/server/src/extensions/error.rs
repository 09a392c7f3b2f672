//! Why something about an extension was not done.

use berth_extensions::{AotError, ExtensionRefusal, LoadError};
use berth_model::extension::ExtensionId;
use berth_store::StoreError;

use super::{NotCalled, Review};

/// What is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ExtensionError {
    /// The component is no extension.
    #[error(transparent)]
    Component(#[from] ExtensionRefusal),
    /// It is too large.
    #[error("the component is larger than {} MiB", .bytes_max / 1_048_576)]
    TooLarge {
        /// The limit.
        bytes_max: u64,
    },
    /// Nobody said yes to what it asks for.
    #[error(
        "{} {} asks for what was not granted; review it, and install it with --accept {}",
        .0.manifest.id, .0.manifest.version, .0.hash
    )]
    NeedsApproval(Box<Review>),
    /// What was accepted is not what it asks for.
    #[error("--accept {given} is not what it asks for; review it again")]
    OtherHash {
        /// What was given.
        given: String,
        /// What it asks for.
        review: Box<Review>,
    },
    /// More was granted than it asks for.
    #[error("the grant is more than the extension asks for: {0}")]
    TooMuch(String),
    /// Its configuration does not fit its schema.
    #[error("the configuration of {id} is refused: {reason}")]
    Config {
        /// Which.
        id: ExtensionId,
        /// Where and why.
        reason: String,
    },
    /// There is none of this name.
    #[error("no extension {0} is installed")]
    NotFound(ExtensionId),
    /// It cannot be done as things are.
    #[error("{0}")]
    Conflict(String),
    /// It was not called, or failed.
    #[error(transparent)]
    NotCalled(#[from] NotCalled),
    /// It does not start.
    #[error("the component does not start: {0}")]
    Start(String),
    /// It was not compiled.
    #[error(transparent)]
    Compile(#[from] AotError),
    /// It cannot be run.
    #[error("the component cannot be used: {0}")]
    Load(#[from] LoadError),
    /// The platform failed.
    #[error("the platform could not do it")]
    Store(#[from] StoreError),
    /// The platform failed.
    #[error("the platform could not keep the component")]
    Blobs(#[source] Box<dyn std::error::Error + Send + Sync>),
}
