//! An image as an OCI image layout (`image-layout.md`), in a folder or as a tar.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use berth_blobs::BlobStore;
use berth_blobs::tar::{Attributes, Rules, TarError, Tree};
use berth_model::Digest;
use serde::Serialize;

use crate::ImageError;
use crate::document::{DOCUMENT_BYTES_MAX, Descriptor, MANIFEST_TYPE, Manifest};

const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

#[derive(Serialize)]
struct Index {
    manifests: Vec<Descriptor>,
    #[serde(rename = "mediaType")]
    media_type: &'static str,
    #[serde(rename = "schemaVersion")]
    schema_version: u8,
}

/// Writes the image as an OCI layout into a folder, which is made; `tag` is the name by which other
/// tools find it there. Blocks on files.
///
/// # Errors
/// A blob that is missing, or a folder that cannot be written.
pub fn to_folder(
    blobs: &BlobStore,
    digest: Digest,
    tag: &str,
    folder: &Path,
) -> Result<(), ImageError> {
    let (index, digests) = contents(blobs, digest, tag)?;
    let at = |action| {
        let path = folder.to_owned();
        move |source| ImageError::Export { action, path, source }
    };
    let sha256 = folder.join("blobs/sha256");
    fs::create_dir_all(&sha256).map_err(at("create"))?;
    for digest in digests {
        let mut file = File::create(sha256.join(digest.hex())).map_err(at("create a blob in"))?;
        io::copy(&mut blobs.get(&digest)?, &mut file).map_err(at("write a blob to"))?;
    }
    fs::write(folder.join("oci-layout"), LAYOUT).map_err(at("write oci-layout to"))?;
    fs::write(folder.join("index.json"), index).map_err(at("write index.json to"))
}

/// Writes the same layout as one tar. Blocks on files.
///
/// # Errors
/// A blob that is missing, or a stream that cannot be written.
pub fn to_tar(
    blobs: &BlobStore,
    digest: Digest,
    tag: &str,
    out: impl Write,
) -> Result<(), ImageError> {
    enum Content {
        Text(Vec<u8>),
        Blob(Digest),
    }
    let (index, digests) = contents(blobs, digest, tag)?;
    let broken = |error: TarError| ImageError::Stream(io::Error::other(error));
    let mut tree = Tree::new();
    for (name, text) in [("index.json", index), ("oci-layout", LAYOUT.as_bytes().to_vec())] {
        tree.file(name.as_bytes(), Attributes::PLAIN, text.len() as u64, Content::Text(text))
            .map_err(broken)?;
    }
    for digest in digests {
        let path = format!("blobs/sha256/{}", digest.hex());
        let size = blobs.len(&digest)?;
        tree.file(path.as_bytes(), Attributes::PLAIN, size, Content::Blob(digest))
            .map_err(broken)?;
    }
    let open = |content| -> io::Result<Box<dyn Read>> {
        match content {
            Content::Text(text) => Ok(Box::new(io::Cursor::new(text))),
            Content::Blob(digest) => blobs
                .get(&digest)
                .map(|file| Box::new(file) as Box<dyn Read>)
                .map_err(io::Error::other),
        }
    };
    tree.write(out, Rules::Stack, open).map(|_| ()).map_err(broken)
}

/// The index, and every blob that belongs to the image.
fn contents(
    blobs: &BlobStore,
    digest: Digest,
    tag: &str,
) -> Result<(Vec<u8>, BTreeSet<Digest>), ImageError> {
    let bytes = blobs.read(&digest, DOCUMENT_BYTES_MAX)?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| {
        ImageError::Foreign { digest, why: format!("its manifest is not valid: {error}") }
    })?;
    let index = Index {
        manifests: vec![Descriptor {
            annotations: BTreeMap::from([(
                "org.opencontainers.image.ref.name".to_owned(),
                tag.to_owned(),
            )]),
            digest,
            media_type: MANIFEST_TYPE.to_owned(),
            size: bytes.len() as u64,
        }],
        media_type: INDEX_TYPE,
        schema_version: 2,
    };
    let index = serde_json::to_vec(&index).map_err(ImageError::Document)?;
    let mut digests: BTreeSet<Digest> = manifest.layers.iter().map(|layer| layer.digest).collect();
    digests.extend([digest, manifest.config.digest]);
    Ok((index, digests))
}
