//! Images: what a build gave, as an OCI image in the blob store, and back.
//!
//! Takes a `BuildOutput`, whose layers are blobs already, and writes two small JSON documents: the
//! configuration and the manifest, whose digest is the image's. The same output gives the same
//! bytes: every map is sorted, every field is in a fixed place, and the only time in it is the
//! commit's. Layers stay uncompressed, so a DiffID is a blob's digest and nothing is tarred or
//! compressed twice. It never opens a layer and never speaks to a network.

mod document;
mod error;
mod export;
mod load;
mod write;

pub use document::{
    CONFIG_TYPE, LABEL_MANIFEST, LAYER_TYPE, MANIFEST_TYPE, WASM_CONFIG_TYPE, WASM_LAYER_TYPE,
    rfc3339,
};
pub use error::ImageError;
pub use export::{to_folder, to_tar};
pub use load::load;
pub use write::write;
