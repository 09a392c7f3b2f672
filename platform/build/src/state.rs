//! What a successful build leaves for the next one of the same app.

use std::collections::BTreeMap;

use berth_blobs::BlobStore;
use berth_model::Digest;
use serde::{Deserialize, Serialize};

use crate::environment::Change;

/// Raised when the meaning of the fields changes; another version is as good as none.
const VERSION: u32 = 1;

/// The state as it is stored, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    version: u32,
    /// Digest over the stacks; layers fit no other ones.
    stacks: Digest,
    /// Digest over the configuration that steers build tools.
    config: Digest,
    /// By buildpack and then by name.
    buildpacks: BTreeMap<String, Buildpack>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Buildpack {
    /// The component that made the layers; another one may make others of the same metadata.
    component: Digest,
    layers: BTreeMap<String, Restored>,
}

/// A layer that can be used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restored {
    pub(crate) diff_id: Digest,
    pub(crate) bytes: u64,
    /// Directories at its top that are put on paths.
    pub(crate) tops: Vec<String>,
    /// JSON of the buildpack.
    pub(crate) metadata: String,
    pub(crate) changes: Vec<Change>,
}

impl State {
    /// An empty state for these stacks and this configuration.
    pub(crate) fn new(stacks: Digest, config: Digest) -> Self {
        Self { version: VERSION, stacks, config, buildpacks: BTreeMap::new() }
    }

    /// Adds a layer.
    pub(crate) fn add(
        &mut self,
        buildpack: &str,
        component: Digest,
        layer: &str,
        restored: Restored,
    ) {
        self.buildpacks
            .entry(buildpack.to_owned())
            .or_insert_with(|| Buildpack { component, layers: BTreeMap::new() })
            .layers
            .insert(layer.to_owned(), restored);
    }

    /// The layers that a build with these stacks, configuration and buildpacks can use: their
    /// metadata and their contents, or neither.
    pub(crate) fn usable(
        json: Option<&str>,
        (stacks, config): (Digest, Digest),
        components: &BTreeMap<String, Digest>,
        blobs: &BlobStore,
    ) -> BTreeMap<(String, String), Restored> {
        let Some(state) = json.and_then(|json| serde_json::from_str::<Self>(json).ok()) else {
            return BTreeMap::new();
        };
        if (state.version, state.stacks, state.config) != (VERSION, stacks, config) {
            return BTreeMap::new();
        }
        state
            .buildpacks
            .into_iter()
            .filter(|(id, buildpack)| components.get(id) == Some(&buildpack.component))
            .flat_map(|(id, buildpack)| {
                buildpack.layers.into_iter().map(move |(name, layer)| ((id.clone(), name), layer))
            })
            .filter(|(_, layer)| blobs.len(&layer.diff_id).is_ok_and(|bytes| bytes == layer.bytes))
            .collect()
    }

    /// The JSON to store.
    pub(crate) fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_come_back_only_to_the_same_stacks_configuration_and_component_and_with_their_contents()
     {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(folder.path()).unwrap();
        let (diff_id, bytes) = blobs.put(b"layer".as_slice(), 100).unwrap();
        let digest = |byte| Digest::from_sha256([byte; 32]);
        let layer = Restored {
            diff_id,
            bytes,
            tops: vec!["bin".to_owned()],
            metadata: "{}".to_owned(),
            changes: Vec::new(),
        };
        let mut state = State::new(digest(1), digest(2));
        state.add("python", digest(3), "packages", layer.clone());
        state.add("python", digest(3), "gone", Restored { diff_id: digest(9), ..layer.clone() });
        let json = state.to_json().unwrap();
        let component = |byte| BTreeMap::from([("python".to_owned(), digest(byte))]);
        let usable = |stack, config, part| {
            let found = State::usable(
                Some(&json),
                (digest(stack), digest(config)),
                &component(part),
                &blobs,
            );
            found.into_keys().map(|(_, name)| name).collect::<Vec<_>>()
        };
        assert_eq!(usable(1, 2, 3), ["packages"]);
        assert!(
            usable(4, 2, 3).is_empty() && usable(1, 4, 3).is_empty() && usable(1, 2, 4).is_empty()
        );
        for broken in [None, Some("{}"), Some("not json")] {
            assert!(
                State::usable(broken, (digest(1), digest(2)), &component(3), &blobs).is_empty()
            );
        }
    }
}
