//! The JSON documents of an image, as the OCI image specification 1.1 has them (`manifest.md`,
//! `config.md`). Fields stand in the order of their names and maps are sorted, so that the bytes
//! are a function of the values, whatever features `serde_json` is built with.

use std::collections::BTreeMap;

use berth_model::Digest;
use serde::{Deserialize, Serialize};

/// Media type of a manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of a container image's configuration.
pub const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of an uncompressed layer.
pub const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
/// Media type of a Wasm artifact's configuration (CNCF TAG Runtime, Wasm OCI Artifact layout v0).
pub const WASM_CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
/// Media type of a component.
pub const WASM_LAYER_TYPE: &str = "application/wasm";
/// Label, or for a Wasm artifact annotation, that holds the release's manifest as JSON.
pub const LABEL_MANIFEST: &str = "berth.manifest";
/// Most layers; the container runtime's limit is a little higher.
pub(crate) const LAYERS_MAX: usize = 120;
/// Largest manifest or configuration.
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 4 << 20;

/// What a descriptor names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Descriptor {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) digest: Digest,
    #[serde(rename = "mediaType")]
    pub(crate) media_type: String,
    pub(crate) size: u64,
}

/// An image manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    #[serde(rename = "mediaType")]
    pub(crate) media_type: String,
    #[serde(rename = "schemaVersion")]
    pub(crate) schema_version: u8,
}

/// A container image's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) architecture: String,
    pub(crate) config: Runtime,
    pub(crate) created: String,
    #[serde(default)]
    pub(crate) history: Vec<History>,
    pub(crate) os: String,
    pub(crate) rootfs: RootFs,
}

/// What a container of the image starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Runtime {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cmd: Vec<String>,
    pub(crate) env: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) exposed_ports: BTreeMap<String, Empty>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) user: String,
    pub(crate) working_dir: String,
}

/// `{}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(crate) struct Empty {}

/// Where a layer came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History {
    #[serde(default)]
    pub(crate) created: String,
    #[serde(default)]
    pub(crate) created_by: String,
}

/// The layers by DiffID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootFs {
    pub(crate) diff_ids: Vec<Digest>,
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

/// A Wasm artifact's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WasmConfig {
    pub(crate) architecture: String,
    pub(crate) component: WasmComponent,
    pub(crate) created: String,
    #[serde(rename = "layerDigests")]
    pub(crate) layer_digests: Vec<Digest>,
    pub(crate) os: String,
}

/// What the component is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WasmComponent {
    pub(crate) target: String,
}

/// A time as RFC 3339 has it, `2026-11-20T11:22:33Z`; times outside the years 1970 to 9999 are
/// brought to the nearest end.
pub fn rfc3339(unix_s: i64) -> String {
    const YEAR_9999_END: i64 = 253_402_300_799;
    let unix_s = unix_s.clamp(0, YEAR_9999_END);
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (unix_s, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (-5, "1970-01-01T00:00:00Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(unix_s), text);
        }
    }
}
