//! A build's output as configuration and manifest in the blob store.

use std::collections::BTreeMap;

use berth_blobs::BlobStore;
use berth_model::{BuildOutput, Digest, LayerRef, ProcessName, Runtime};
use serde::Serialize;

use crate::ImageError;
use crate::document::{
    CONFIG_TYPE, Config, DOCUMENT_BYTES_MAX, Descriptor, Empty, History, LABEL_MANIFEST,
    LAYER_TYPE, LAYERS_MAX, MANIFEST_TYPE, Manifest, RootFs, Runtime as RunConfig,
    WASM_CONFIG_TYPE, WASM_LAYER_TYPE, WasmComponent, WasmConfig, rfc3339,
};

/// The port that `web` listens on, for people who run the image elsewhere.
const PORT: &str = "5000/tcp";
/// The app's user and group.
const USER: &str = "1000:1000";

/// Writes the image of a build and gives the digest of its manifest. Writing the same output again
/// gives the same digest. Blocks on files.
///
/// # Errors
/// A layer that is missing or has another size, too many layers, or a store that cannot write.
pub fn write(blobs: &BlobStore, output: &BuildOutput) -> Result<Digest, ImageError> {
    let label = serde_json::to_string(&output.manifest).map_err(ImageError::Document)?;
    let manifest = match &output.manifest.runtime {
        Runtime::Container => container(blobs, output, label)?,
        Runtime::Wasm { component } => wasm(blobs, output, *component, label)?,
    };
    Ok(put(blobs, &manifest)?.0)
}

fn container(
    blobs: &BlobStore,
    output: &BuildOutput,
    label: String,
) -> Result<Manifest, ImageError> {
    if !(1..=LAYERS_MAX).contains(&output.layers.len()) {
        return Err(ImageError::LayerCount(output.layers.len()));
    }
    let layers =
        output.layers.iter().map(|layer| descriptor(blobs, layer)).collect::<Result<_, _>>()?;
    let created = rfc3339(output.created_at_s);
    let mut labels = output.labels.clone();
    labels.insert(LABEL_MANIFEST.to_owned(), label);
    let web = web().and_then(|web| output.manifest.processes.get(&web));
    let config = Config {
        architecture: "amd64".to_owned(),
        config: RunConfig {
            cmd: web.map(|process| process.command.clone()).unwrap_or_default(),
            env: output.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            exposed_ports: web.map(|_| (PORT.to_owned(), Empty {})).into_iter().collect(),
            labels,
            user: USER.to_owned(),
            working_dir: web
                .map_or_else(|| "/workspace".to_owned(), |process| process.working_dir.clone()),
        },
        created: created.clone(),
        history: output
            .layers
            .iter()
            .map(|layer| History { created: created.clone(), created_by: layer.name.clone() })
            .collect(),
        os: "linux".to_owned(),
        rootfs: RootFs {
            diff_ids: output.layers.iter().map(|layer| layer.diff_id).collect(),
            kind: "layers".to_owned(),
        },
    };
    let (digest, size) = put(blobs, &config)?;
    Ok(manifest(descriptor_of(CONFIG_TYPE, digest, size), layers, BTreeMap::new()))
}

fn wasm(
    blobs: &BlobStore,
    output: &BuildOutput,
    component: Digest,
    label: String,
) -> Result<Manifest, ImageError> {
    let size = blobs.len(&component)?;
    let config = WasmConfig {
        architecture: "wasm".to_owned(),
        component: WasmComponent { target: "wasi:http/proxy@0.2.0".to_owned() },
        created: rfc3339(output.created_at_s),
        layer_digests: vec![component],
        os: "wasip2".to_owned(),
    };
    let (digest, config_size) = put(blobs, &config)?;
    let mut annotations = output.labels.clone();
    annotations.insert(LABEL_MANIFEST.to_owned(), label);
    let layers = vec![descriptor_of(WASM_LAYER_TYPE, component, size)];
    Ok(manifest(descriptor_of(WASM_CONFIG_TYPE, digest, config_size), layers, annotations))
}

fn manifest(
    config: Descriptor,
    layers: Vec<Descriptor>,
    annotations: BTreeMap<String, String>,
) -> Manifest {
    Manifest {
        annotations,
        config,
        layers,
        media_type: MANIFEST_TYPE.to_owned(),
        schema_version: 2,
    }
}

fn descriptor(blobs: &BlobStore, layer: &LayerRef) -> Result<Descriptor, ImageError> {
    let actual = blobs.len(&layer.diff_id)?;
    if actual != layer.bytes {
        let (name, diff_id, expected) = (layer.name.clone(), layer.diff_id, layer.bytes);
        return Err(ImageError::LayerSize { name, diff_id, expected, actual });
    }
    Ok(descriptor_of(LAYER_TYPE, layer.diff_id, layer.bytes))
}

fn descriptor_of(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor { annotations: BTreeMap::new(), digest, media_type: media_type.to_owned(), size }
}

fn put(blobs: &BlobStore, document: &impl Serialize) -> Result<(Digest, u64), ImageError> {
    let bytes = serde_json::to_vec(document).map_err(ImageError::Document)?;
    Ok(blobs.put(bytes.as_slice(), DOCUMENT_BYTES_MAX)?)
}

fn web() -> Option<ProcessName> {
    "web".parse().ok()
}
