//! The source of a trial: a folder, as a push of it would archive it.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use berth_blobs::BlobStore;
use berth_blobs::tar::{Attributes, Rules, TarError, Tree};
use berth_model::Digest;

use crate::BuildError;

/// More than a fixture has.
const FILES_MAX: usize = 10_000;
const BYTES_MAX: u64 = 256 << 20;

/// Archives a folder into blobs.
pub(super) fn archive(folder: &Path, blobs: &BlobStore) -> Result<Digest, BuildError> {
    let failed = |error: std::io::Error| BuildError::Platform {
        action: "read the app of the trial",
        source: error.into(),
    };
    let mut tree = Tree::new();
    let mut folders = vec![folder.to_owned()];
    let mut files = 0;
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Ok(name) = path.strip_prefix(folder) else { continue };
            let name = name.as_os_str().as_bytes();
            let metadata = fs::symlink_metadata(&path).map_err(failed)?;
            files += 1;
            if files > FILES_MAX {
                let text = format!("it has more than {FILES_MAX} files");
                return Err(failed(std::io::Error::other(text)));
            }
            if metadata.is_dir() {
                if name != b".git" {
                    folders.push(path);
                }
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path).map_err(failed)?;
                let target = target.as_os_str().as_bytes();
                tree.symlink(name, target, Attributes::PLAIN).map_err(unfit)?;
            } else if metadata.is_file() {
                let executable = metadata.permissions().mode() & 0o100 != 0;
                let mode = if executable { Attributes::EXECUTABLE } else { Attributes::PLAIN };
                tree.file(name, mode, metadata.len(), path.clone()).map_err(unfit)?;
            }
        }
    }
    let mut out = blobs.writer(BYTES_MAX)?;
    tree.write(&mut out, Rules::App, File::open).map_err(unfit)?;
    Ok(out.finish()?.0)
}

fn unfit(error: TarError) -> BuildError {
    BuildError::platform("archive the app of the trial")(error)
}
