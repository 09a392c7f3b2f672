//! The JSON of an artifact, as the Wasm OCI artifact layout has it: a config of a type of its own
//! and one layer, the component. What is written is the same bytes for the same component.

use std::collections::BTreeMap;

use berth_model::extension::ExtensionManifest;
use berth_model::text::printable;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::contents::Contents;
use super::digest;

/// Type of the layer.
pub(super) const COMPONENT: &str = "application/wasm";
/// Type of the manifest.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Types of what may lie where an artifact is looked for. Who does not name them is told that
/// nothing is there.
pub(super) const ANY_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// Most characters of a description in a manifest's annotations.
const DESCRIPTION_MAX: usize = 1_000;

/// Names a blob.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    media_type: String,
    pub(super) digest: String,
    /// Bytes.
    pub(super) size: u64,
}

impl Descriptor {
    pub(super) fn of(media_type: &str, blob: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: digest(blob).to_string(),
            size: blob.len() as u64,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'c> {
    /// The layout wants a time; the beginning of time keeps digests the same.
    created: &'static str,
    architecture: &'static str,
    os: &'static str,
    layer_digests: [&'c str; 1],
    component: Outside<'c>,
}

#[derive(Serialize)]
struct Outside<'c> {
    exports: &'c [String],
    imports: &'c [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u8,
    media_type: &'static str,
    config: Descriptor,
    layers: [Descriptor; 1],
    annotations: BTreeMap<&'static str, String>,
}

/// What is read of a manifest of anybody's.
#[derive(Deserialize)]
struct Found {
    layers: Option<Vec<Descriptor>>,
    manifests: Option<IgnoredAny>,
}

/// The config of a component that is the layer.
pub(super) fn config(layer: &Descriptor, contents: &Contents) -> Vec<u8> {
    json(&Config {
        created: "1970-01-01T00:00:00Z",
        architecture: "wasm",
        os: "wasip2",
        layer_digests: [&layer.digest],
        component: Outside { exports: &contents.exports, imports: &contents.imports },
    })
}

/// The manifest of an artifact.
pub(super) fn manifest(config: &[u8], layer: Descriptor, of: &ExtensionManifest) -> Vec<u8> {
    let mut annotations = BTreeMap::from([
        ("org.opencontainers.image.title", of.id.to_string()),
        ("org.opencontainers.image.version", of.version.clone()),
    ]);
    if !of.description.is_empty() {
        let description = of.description.chars().take(DESCRIPTION_MAX).collect();
        annotations.insert("org.opencontainers.image.description", description);
    }
    json(&Manifest {
        schema_version: 2,
        media_type: MANIFEST,
        config: Descriptor::of(CONFIG, config),
        layers: [layer],
        annotations,
    })
}

/// Nothing in these forms can fail to be written.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// The layer of a manifest that is the component.
///
/// # Errors
/// Why what the manifest names is no extension.
pub(super) fn only_component(manifest: &[u8]) -> Result<Descriptor, String> {
    let found: Found = serde_json::from_slice(manifest)
        .map_err(|_| "what lies there is no manifest of an image".to_owned())?;
    if found.manifests.is_some() {
        return Err("it is an image for several platforms".to_owned());
    }
    let mut layers = found.layers.unwrap_or_default();
    let count = layers.len();
    let (Some(layer), 1) = (layers.pop(), count) else {
        return Err(format!("it has {count} layers, not one"));
    };
    if layer.media_type != COMPONENT {
        return Err(format!("its layer is {}, not {COMPONENT}", printable(&layer.media_type, 80)));
    }
    Ok(layer)
}
