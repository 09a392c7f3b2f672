//! Why an image could not be written, read or exported.

use std::path::PathBuf;

use berth_blobs::BlobError;
use berth_model::Digest;

/// The room's errors.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A blob of the image is missing or cannot be read or written.
    #[error("cannot use the blobs of the image")]
    Blobs(#[from] BlobError),
    /// A layer that a build named is not what it said.
    #[error("layer '{name}' ({diff_id}) should have {expected} bytes and has {actual}")]
    LayerSize {
        /// Its name.
        name: String,
        /// Its digest.
        diff_id: Digest,
        /// What the build said.
        expected: u64,
        /// What the blob store says.
        actual: u64,
    },
    /// A container without layers, or with more than an image can have.
    #[error("an image of {0} layers cannot be run; it needs 1 to {max}", max = crate::document::LAYERS_MAX)]
    LayerCount(usize),
    /// The manifest or the configuration is not one that Berth wrote.
    #[error("{digest} is not an image of Berth: {why}")]
    Foreign {
        /// The image.
        digest: Digest,
        /// What is wrong with it.
        why: String,
    },
    /// JSON could not be written.
    #[error("cannot write a document of the image")]
    Document(#[source] serde_json::Error),
    /// The export's place could not be written.
    #[error("cannot {action} {}", path.display())]
    Export {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The stream that an export is written to ended.
    #[error("cannot write the exported image")]
    Stream(#[source] std::io::Error),
}
