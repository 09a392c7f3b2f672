//! What `deploy` must know of an image to run it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, LayerRef, Manifest};

/// An image that is ready to run: its digest and what stands in its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Digest of the OCI manifest.
    pub digest: Digest,
    /// Layers from the lowest to the highest.
    pub layers: Vec<LayerRef>,
    /// Environment of the image configuration.
    pub env: BTreeMap<String, String>,
    /// Read back from the image's label.
    pub manifest: Manifest,
}
