//! The component of a Wasm app: a file of the commit, or one that a step made in a layer.
//!
//! A layer is read as it would go into an image: from the tar that the agent writes once nothing
//! runs in the container any more. Nothing of it is opened by a path, no link is followed, and
//! nothing but the one file is kept.

use std::io::{BufReader, Read};
use std::sync::Arc;

use berth_blobs::BlobStore;
use berth_blobs::tar::{Caps, Kind, Reader};
use berth_model::{Digest, Runtime};

use crate::BuildError;
use crate::finish::{Ready, seal_layer};
use crate::session::{Session, State};
use crate::tree::is_relative;

/// Largest component, as the app engine takes it.
const BYTES_MAX: u64 = 128 << 20;

/// Makes a blob of what a buildpack names as the component. A relative path is one of the source,
/// an absolute one lies in a layer of the buildpack, which is `ready` then.
///
/// # Errors
/// There is no such file, it is too large, or it is no component that can be an app.
pub(crate) async fn store(
    session: &Arc<Session>,
    state: &State,
    ready: &mut Ready,
    buildpack: &str,
    path: &str,
) -> Result<Runtime, BuildError> {
    let bytes = if path.starts_with('/') {
        made(session, state, ready, buildpack, path).await?
    } else {
        session.archive.read(path, BYTES_MAX)?
    };
    berth_extensions::check_app(&bytes)
        .map_err(|refusal| BuildError::Component(format!("{path}: {refusal}.")))?;
    let blobs = session.blobs.clone();
    let stored = tokio::task::spawn_blocking(move || blobs.put(bytes.as_slice(), BYTES_MAX)).await;
    let (component, _) = stored.map_err(BuildError::platform("store the component"))??;
    Ok(Runtime::Wasm { component })
}

/// The bytes of a file in a layer of the buildpack.
async fn made(
    session: &Arc<Session>,
    state: &State,
    ready: &mut Ready,
    buildpack: &str,
    path: &str,
) -> Result<Vec<u8>, BuildError> {
    let wrong = |problem: &str| BuildError::Guest {
        id: buildpack.to_owned(),
        problem: format!("names the component '{}', {problem}", path.escape_default()),
    };
    let Some(name) = layer_of(buildpack, path) else {
        return Err(wrong("which is no plain path in a layer of its own"));
    };
    let key = (buildpack.to_owned(), name.to_owned());
    let Some(layer) = state.layers.get(&key) else {
        return Err(wrong("whose layer it did not open"));
    };
    let sealed = seal_layer(session, state, &key, layer).await?;
    let layer = sealed.diff_id;
    ready.insert(key, sealed);
    let (blobs, file) = (session.blobs.clone(), path.trim_start_matches('/').to_owned());
    let found = tokio::task::spawn_blocking(move || find(&blobs, &layer, &file)).await;
    match found.map_err(BuildError::platform("read the component"))?? {
        Found::File(bytes) => Ok(bytes),
        Found::TooLarge(bytes) => Err(BuildError::Component(format!(
            "The component has {} MiB. A Wasm app has at most {} MiB.",
            bytes.div_ceil(1 << 20),
            BYTES_MAX >> 20
        ))),
        Found::Other(what) => Err(wrong(&format!("which is {what} and not a file"))),
        Found::Nothing => Err(wrong("which no step made")),
    }
}

/// The buildpack's layer that a path lies in.
fn layer_of<'p>(buildpack: &str, path: &'p str) -> Option<&'p str> {
    let (name, file) = path
        .strip_prefix("/layers/")?
        .strip_prefix(buildpack)?
        .strip_prefix('/')?
        .split_once('/')?;
    (is_relative(name) && is_relative(file)).then_some(name)
}

/// What stands at a path of a layer.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    File(Vec<u8>),
    TooLarge(u64),
    Other(&'static str),
    Nothing,
}

/// Looks for a path in the tar of a layer. Blocks on the file.
fn find(blobs: &BlobStore, layer: &Digest, path: &str) -> Result<Found, BuildError> {
    const READ: &str = "read the layer of the component";
    let tar = BufReader::with_capacity(256 << 10, blobs.get(layer)?);
    let mut reader = Reader::new(tar, Caps::LAYER);
    while let Some(mut entry) = reader.next().map_err(BuildError::platform(READ))? {
        if entry.path != path.as_bytes() {
            continue;
        }
        return Ok(match entry.kind {
            Kind::File { size } if size > BYTES_MAX => Found::TooLarge(size),
            Kind::File { .. } => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).map_err(BuildError::platform(READ))?;
                Found::File(bytes)
            }
            Kind::Directory => Found::Other("a directory"),
            Kind::Symlink { .. } => Found::Other("a symbolic link"),
            Kind::HardLink { .. } => Found::Other("a hard link"),
        });
    }
    Ok(Found::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Files, Written, seal_files};

    #[test]
    fn only_plain_paths_in_layers_of_the_buildpack_itself_are_taken() {
        assert_eq!(layer_of("x", "/layers/x/y/app.wasm"), Some("y"));
        assert_eq!(layer_of("x", "/layers/x/y/deep/app.wasm"), Some("y"));
        for other in [
            "/layers/x/y",
            "/layers/x/y/",
            "/layers/x/../z/app.wasm",
            "/layers/x/y/../../z/w/app.wasm",
            "/layers/x/y//app.wasm",
            "/layers/xx/y/app.wasm",
            "/layers/z/y/app.wasm",
            "/workspace/app.wasm",
            "/etc/passwd",
            "//layers/x/y/app.wasm",
        ] {
            assert_eq!(layer_of("x", other), None, "{other}");
        }
    }

    #[test]
    fn a_file_of_a_layer_is_found_and_a_link_or_directory_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(folder.path()).unwrap();
        let file = |text: &str| Written::File { data: text.into(), executable: true };
        let files = Files::from([
            ("a.wasm".to_owned(), file("component")),
            ("deep/b.wasm".to_owned(), file("other")),
            ("link.wasm".to_owned(), Written::Symlink { target: "a.wasm".to_owned() }),
        ]);
        let layer = seal_files("/layers/x/y", &files, Vec::new(), &blobs).unwrap().diff_id;
        let at = |path: &str| find(&blobs, &layer, path).unwrap();
        assert_eq!(at("layers/x/y/a.wasm"), Found::File(b"component".to_vec()));
        assert_eq!(at("layers/x/y/deep/b.wasm"), Found::File(b"other".to_vec()));
        assert_eq!(at("layers/x/y/link.wasm"), Found::Other("a symbolic link"));
        assert_eq!(at("layers/x/y/deep"), Found::Other("a directory"));
        for nothing in ["a.wasm", "layers/x/y/a", "layers/x/y/../y/a.wasm", ""] {
            assert_eq!(at(nothing), Found::Nothing, "{nothing}");
        }
    }

    #[test]
    fn a_file_over_the_limit_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(folder.path()).unwrap();
        let mut tree = berth_blobs::tar::Tree::new();
        let bytes = BYTES_MAX + 1;
        tree.file(b"big.wasm", berth_blobs::tar::Attributes::PLAIN, bytes, ()).unwrap();
        let mut out = std::io::BufWriter::new(blobs.writer(1 << 30).unwrap());
        out = tree
            .write(out, berth_blobs::tar::Rules::App, |()| {
                Ok(Box::new(std::io::repeat(0).take(bytes)) as Box<dyn Read>)
            })
            .unwrap()
            .0;
        let (layer, _) = out.into_inner().map_err(|_| "flush").unwrap().finish().unwrap();
        assert_eq!(find(&blobs, &layer, "big.wasm").unwrap(), Found::TooLarge(bytes));
    }
}
