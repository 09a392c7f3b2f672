//! An image out of the blob store, as `deploy` needs it.

use std::collections::BTreeMap;

use berth_blobs::BlobStore;
use berth_model::image::Image;
use berth_model::{Digest, LayerRef, Runtime};
use serde::de::DeserializeOwned;

use crate::ImageError;
use crate::document::{
    CONFIG_TYPE, Config, DOCUMENT_BYTES_MAX, LABEL_MANIFEST, LAYER_TYPE, MANIFEST_TYPE, Manifest,
    WASM_CONFIG_TYPE, WASM_LAYER_TYPE,
};

/// Reads an image that [`crate::write`] wrote. Blocks on files.
///
/// # Errors
/// A blob that is missing, or a document that Berth did not write.
pub fn load(blobs: &BlobStore, digest: Digest) -> Result<Image, ImageError> {
    let foreign = |why: &str| ImageError::Foreign { digest, why: why.to_owned() };
    let manifest: Manifest = read(blobs, digest, digest)?;
    if manifest.media_type != MANIFEST_TYPE || manifest.schema_version != 2 {
        return Err(foreign("its manifest has another media type"));
    }
    let (label, layers, env) = match manifest.config.media_type.as_str() {
        CONFIG_TYPE => {
            let config: Config = read(blobs, digest, manifest.config.digest)?;
            let layers = layers(&manifest, &config).map_err(foreign)?;
            (
                config.config.labels.get(LABEL_MANIFEST).cloned(),
                layers,
                environment(&config.config.env),
            )
        }
        WASM_CONFIG_TYPE => {
            (manifest.annotations.get(LABEL_MANIFEST).cloned(), Vec::new(), BTreeMap::new())
        }
        _ => return Err(foreign("its configuration has another media type")),
    };
    let label = label.ok_or_else(|| foreign("it has no label berth.manifest"))?;
    let processes: berth_model::Manifest = serde_json::from_str(&label)
        .map_err(|error| foreign(&format!("its label berth.manifest is not valid: {error}")))?;
    let component = manifest.layers.first().map(|layer| (layer.media_type.as_str(), layer.digest));
    match &processes.runtime {
        Runtime::Wasm { component: named } if component != Some((WASM_LAYER_TYPE, *named)) => {
            return Err(foreign("its label names another component than its layer"));
        }
        Runtime::Container if layers.is_empty() => return Err(foreign("it has no layers")),
        _ => {}
    }
    Ok(Image { digest, layers, env, manifest: processes })
}

fn layers(manifest: &Manifest, config: &Config) -> Result<Vec<LayerRef>, &'static str> {
    if manifest.layers.len() != config.rootfs.diff_ids.len()
        || manifest.layers.len() != config.history.len()
    {
        return Err("its manifest and its configuration have different layers");
    }
    manifest
        .layers
        .iter()
        .zip(&config.rootfs.diff_ids)
        .zip(&config.history)
        .map(|((layer, diff_id), history)| {
            if layer.media_type != LAYER_TYPE || layer.digest != *diff_id {
                return Err("one of its layers is compressed or of another media type");
            }
            Ok(LayerRef { diff_id: *diff_id, bytes: layer.size, name: history.created_by.clone() })
        })
        .collect()
}

fn environment(env: &[String]) -> BTreeMap<String, String> {
    env.iter()
        .filter_map(|entry| entry.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn read<T: DeserializeOwned>(
    blobs: &BlobStore,
    image: Digest,
    digest: Digest,
) -> Result<T, ImageError> {
    let bytes = blobs.read(&digest, DOCUMENT_BYTES_MAX)?;
    serde_json::from_slice(&bytes).map_err(|error| ImageError::Foreign {
        digest: image,
        why: format!("{digest} is not the JSON it should be: {error}"),
    })
}
