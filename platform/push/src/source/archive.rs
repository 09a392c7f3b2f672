//! The archive of a walked tree: canonical tar, straight into the blob store.

use std::io::{self, BufWriter, Cursor, Read, Write};
use std::path::Path;

use berth_blobs::tar::{Attributes, Rules, TarError, Writer};
use berth_blobs::{BlobStore, BlobWriter};
use berth_model::Digest;
use git2::Odb;
use tokio_util::sync::CancellationToken;

use super::walk::{Entry, Kind};
use super::{SourceError, content, lfs, names};
use crate::Limits;

/// Names of LFS pointers that an error lists.
const LISTED_MAX: usize = 5;

pub(super) fn write(
    odb: &Odb<'_>,
    repository: &Path,
    entries: &[Entry],
    blobs: &BlobStore,
    limits: &Limits,
    cancel: &CancellationToken,
) -> Result<Digest, SourceError> {
    // Headers, padding and long names beside the contents.
    let bytes_max = limits.tree_bytes_max + (limits.files_max as u64 + 1) * 8192;
    let blob = blobs.writer(bytes_max).map_err(|e| SourceError::Store(e.into()))?;
    let out = BufWriter::with_capacity(256 << 10, Cancellable { blob, cancel });
    let mut tar = Writer::new(out, Rules::App);
    let mut pointers = Vec::new();
    for entry in entries {
        match &entry.kind {
            Kind::Link { target } => tar.symlink(&entry.path, target, Attributes::EXECUTABLE),
            Kind::File { blob, bytes, executable } => {
                let content: Box<dyn Read> = if *bytes <= lfs::POINTER_BYTES_MAX {
                    let content = content::whole(odb, *blob).map_err(unreadable(entry))?;
                    if lfs::is_pointer(&content) {
                        pointers.push(&entry.path);
                        continue;
                    }
                    Box::new(Cursor::new(content))
                } else {
                    content::open(odb, repository, *blob, *bytes).map_err(unreadable(entry))?
                };
                let attributes =
                    if *executable { Attributes::EXECUTABLE } else { Attributes::PLAIN };
                tar.file(&entry.path, attributes, *bytes, content)
            }
        }
        .map_err(|e| stored(e, cancel))?;
    }
    if !pointers.is_empty() {
        let listed: Vec<_> = pointers.iter().take(LISTED_MAX).map(|p| names::shown(p)).collect();
        let more = if pointers.len() > LISTED_MAX { ", …" } else { "" };
        let paths = format!("{}{more}", listed.join(", "));
        return Err(SourceError::LfsPointers { count: pointers.len(), paths });
    }
    let (out, _) = tar.finish().map_err(|e| stored(e, cancel))?;
    let inner = out.into_inner().map_err(|e| stored(e.into_error().into(), cancel))?;
    inner.blob.finish().map(|(digest, _)| digest).map_err(|e| SourceError::Store(e.into()))
}

fn unreadable(entry: &Entry) -> impl FnOnce(io::Error) -> SourceError {
    let path = names::shown(&entry.path);
    move |e| SourceError::Object { path, why: e.to_string() }
}

fn stored(error: TarError, cancel: &CancellationToken) -> SourceError {
    match error {
        _ if cancel.is_cancelled() => SourceError::Cancelled,
        TarError::Content { path, source } => SourceError::Object { path, why: source.to_string() },
        TarError::Length { path, .. } => {
            SourceError::Object { path, why: "its size is not the announced one".to_owned() }
        }
        TarError::Order { path, .. } => {
            SourceError::Name { path, why: "it is there twice, or as a file and a directory" }
        }
        TarError::Path { path, why } => SourceError::Name { path, why },
        other => SourceError::Store(other.into()),
    }
}

/// Ends a long write when whoever pushed has gone.
struct Cancellable<'a> {
    blob: BlobWriter,
    cancel: &'a CancellationToken,
}

impl Write for Cancellable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        self.blob.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.blob.flush()
    }
}
