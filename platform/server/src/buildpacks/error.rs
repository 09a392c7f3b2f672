//! Why something about a buildpack was not done.

use berth_extensions::{AotError, BuildpackRefusal, LoadError};
use berth_model::BuildpackId;
use berth_store::StoreError;

/// What is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum BuildpackError {
    /// The component is no buildpack.
    #[error(transparent)]
    Component(#[from] BuildpackRefusal),
    /// It is too large.
    #[error("the component is larger than {} MiB", .bytes_max / 1_048_576)]
    TooLarge {
        /// The limit.
        bytes_max: u64,
    },
    /// Another one of its id was added before.
    #[error(
        "there is a buildpack {id} {version} already; give this one another id in buildpack.toml, \
         or put it in the place of that one with --replace"
    )]
    Taken {
        /// Its id.
        id: BuildpackId,
        /// The version of the one that is there.
        version: String,
    },
    /// One of its id ships with Berth.
    #[error(
        "a buildpack {0} ships with Berth; give this one another id in buildpack.toml, or put it \
         in the place of that one with --replace"
    )]
    Ships(BuildpackId),
    /// No more fit.
    #[error("{0} buildpacks were added, which is the limit; remove one first")]
    Full(usize),
    /// It was not added.
    #[error(
        "the buildpack {0} ships with Berth and cannot be removed; `berth buildpack order` can leave \
         it out"
    )]
    NotAdded(BuildpackId),
    /// There is none of this name.
    #[error("there is no buildpack '{0}'")]
    NotFound(String),
    /// An order cannot be.
    #[error("the order: {0}")]
    Order(String),
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
