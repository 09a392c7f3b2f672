//! The image of an add-on: one layer of Debian packages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use berth_model::image::Image;
use berth_model::{BuildOutput, LayerRef, Manifest, PackageName};

use super::{Addons, internal};
use crate::http::ActionError;

/// `created` of the image, so that the same packages are the same image: that of the layer's files.
const CREATED_AT_S: i64 = berth_blobs::tar::MTIME_S as i64;

impl Addons {
    /// The image of these packages; takes some minutes where this machine never made it.
    pub(super) async fn image(
        &self,
        packages: &BTreeSet<PackageName>,
        manifest: Manifest,
    ) -> Result<Image, ActionError> {
        let tell = |line: &str| tracing::info!("add-on: {line}");
        let layer = self.pipeline.stacks.of_addon(packages, tell).await;
        let layer = layer.map_err(|error| ActionError::Failed(error.to_string()))?;
        let output = BuildOutput {
            layers: vec![LayerRef {
                diff_id: layer.diff_id,
                bytes: layer.bytes,
                name: "packages".to_owned(),
            }],
            manifest,
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            created_at_s: CREATED_AT_S,
        };
        let blobs = Arc::clone(&self.pipeline.blobs);
        let written = tokio::task::spawn_blocking(move || {
            let digest = berth_image::write(&blobs, &output)?;
            berth_image::load(&blobs, digest)
        });
        written.await.map_err(internal)?.map_err(internal)
    }
}
