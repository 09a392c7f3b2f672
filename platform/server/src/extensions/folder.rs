//! A folder of components that are installed, and reloaded, as they change.
//!
//! Takes files `*.wasm`; what they are is in them. Events of the folder are hints: a file is read
//! once it has been the same for a while, and only what has other bytes than before is installed.
//! Lying there grants nothing: what asks for more than was granted waits for a person, and what
//! does not start leaves the one before it serving and is told of in its log. A file that goes away
//! removes nothing.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_extensions::extension_manifest;
use berth_model::Digest;
use berth_model::extension::ExtensionId;
use berth_store::By;
use notify::{RecursiveMode, Watcher};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use super::install::COMPONENT_BYTES_MAX;
use super::{ExtensionError, Registry};
use crate::clock::now_ms;

/// Files that are looked at; more of them are not.
const FILES_MAX: usize = 1_000;

/// How the folder is watched, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FolderRules {
    /// A file is read when it has not changed for so long.
    pub settle_ms: u64,
    /// The folder is looked at this often where no event comes.
    pub poll_ms: u64,
}

impl Default for FolderRules {
    fn default() -> Self {
        Self { settle_ms: 100, poll_ms: 30_000 }
    }
}

/// A file as it was last seen.
struct Seen {
    stamp: Stamp,
    /// Whether these bytes were dealt with.
    done: bool,
    /// Of the bytes that were dealt with last.
    digest: Option<Digest>,
    /// Whose they are, as far as they said.
    extension: Option<ExtensionId>,
}

/// What tells that a file is another one, or was written to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            inode: found.ino(),
            bytes: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

impl Registry {
    /// Installs and reloads what lies in a folder, for as long as this future lives.
    pub async fn follow_folder(self, folder: PathBuf, rules: FolderRules) {
        let changed = Arc::new(Notify::new());
        // Dropped, it would watch no more.
        let _watching = watch(&folder, &changed);
        let (settle, poll) =
            (Duration::from_millis(rules.settle_ms), Duration::from_millis(rules.poll_ms));
        let mut seen = BTreeMap::new();
        loop {
            let settled = match self.look(&folder, &mut seen).await {
                Ok(settled) => settled,
                Err(error) => {
                    let folder = folder.display();
                    tracing::error!("extensions in {folder} cannot be looked at: {error}");
                    true
                }
            };
            if settled {
                let _ = tokio::time::timeout(poll, changed.notified()).await;
            } else {
                tokio::time::sleep(settle).await;
            }
        }
    }

    /// Deals with every file that is the same as at the last look; false when another look is
    /// needed soon.
    async fn look(&self, folder: &Path, seen: &mut BTreeMap<PathBuf, Seen>) -> io::Result<bool> {
        let listed = folder.to_owned();
        let files = tokio::task::spawn_blocking(move || list(&listed)).await??;
        seen.retain(|path, _| files.contains_key(path));
        let mut settled = true;
        for (path, stamp) in files {
            let file = seen.entry(path.clone()).or_insert(Seen {
                stamp: Stamp { inode: 0, ..stamp },
                done: false,
                digest: None,
                extension: None,
            });
            if file.stamp != stamp {
                // It changed: it is read when it is the same at the next look.
                (file.stamp, file.done) = (stamp, false);
                settled = false;
            } else if !file.done {
                let reading = path.clone();
                match tokio::task::spawn_blocking(move || read(&reading, stamp)).await? {
                    Ok(Some(bytes)) => {
                        file.done = true;
                        self.offered(&path, bytes, file).await;
                    }
                    // It changed under the reader.
                    Ok(None) => settled = false,
                    Err(error) => {
                        file.done = true;
                        self.told(&path, file.extension.as_ref(), &error.to_string());
                    }
                }
            }
        }
        Ok(settled)
    }

    /// Installs what a file holds, unless that is what is there already.
    async fn offered(&self, path: &Path, bytes: Vec<u8>, file: &mut Seen) {
        let digest = Digest::from_sha256(Sha256::digest(&bytes).into());
        if file.digest.replace(digest) == Some(digest) {
            return;
        }
        if let Ok(manifest) = extension_manifest(&bytes) {
            file.extension = Some(manifest.id);
        }
        if let Err(error) = self.of_folder(bytes, digest, file.extension.as_ref()).await {
            // Touched, it is tried again.
            file.digest = None;
            self.told(path, file.extension.as_ref(), &error.to_string());
        }
    }

    async fn of_folder(
        &self,
        bytes: Vec<u8>,
        digest: Digest,
        id: Option<&ExtensionId>,
    ) -> Result<(), ExtensionError> {
        if let Some(id) = id
            && let Some(row) = self.inner.store.extension(id).await?
            && (row.version.component == digest
                || row.waiting.as_ref().is_some_and(|waiting| waiting.component == digest))
        {
            return Ok(());
        }
        let by = By { name: "folder".to_owned(), ..By::system(now_ms()) };
        let (row, live) = self.propose(bytes, by).await?;
        if !live {
            let text = "a version in the folder asks for more than was granted; it waits for \
                        `berth ext grant`";
            self.inner.journal.line(&row.id, "warning", text);
        }
        Ok(())
    }

    /// Tells that a file is not used; what was there before it goes on.
    fn told(&self, path: &Path, extension: Option<&ExtensionId>, reason: &str) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = berth_model::text::printable(&name, 200);
        tracing::warn!(file = %name, "an extension was not loaded: {reason}");
        if let Some(id) = extension {
            self.inner.journal.line(id, "error", &format!("{name} was not loaded: {reason}"));
        }
    }
}

/// Watches the folder and not its files: a rename over a file is an event of the folder alone.
fn watch(folder: &Path, changed: &Arc<Notify>) -> Option<notify::RecommendedWatcher> {
    let wake = Arc::clone(changed);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // That a file was opened or read is no news: a look does so itself.
        if event.as_ref().map_or(true, |event| !event.kind.is_access()) {
            wake.notify_one();
        }
    });
    watcher
        .and_then(|mut watcher| {
            watcher.watch(folder, RecursiveMode::NonRecursive).map(|()| watcher)
        })
        .inspect_err(|error| {
            let folder = folder.display();
            tracing::error!("changes in {folder} are seen late, for it cannot be watched: {error}");
        })
        .ok()
}

/// The components in a folder: plain files by name.
fn list(folder: &Path) -> io::Result<BTreeMap<PathBuf, Stamp>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|end| end != "wasm") {
            continue;
        }
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                found.insert(path, Stamp::of(&metadata));
            }
            // A link may lead anywhere, and what is no file is no component.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if found.len() > FILES_MAX {
            return Err(io::Error::other(format!("it has more than {FILES_MAX} components")));
        }
    }
    Ok(found)
}

/// The bytes of a file, read once; nothing when it is not, or no longer, what was seen.
fn read(path: &Path, stamp: Stamp) -> io::Result<Option<Vec<u8>>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let opened = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if stamp.bytes > COMPONENT_BYTES_MAX {
        let limit = COMPONENT_BYTES_MAX >> 20;
        return Err(io::Error::other(format!("it is larger than {limit} MiB, which is the limit")));
    }
    let mut bytes = Vec::new();
    file.by_ref().take(COMPONENT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    let same = Stamp::of(&file.metadata()?) == stamp && bytes.len() as u64 == stamp.bytes;
    Ok(same.then_some(bytes))
}
