//! Takes the hash of a new administrator's token that root left, at start and while serving, and
//! at the first start that of a link to the console.
//!
//! The file is removed when the store has it. `notify` only wakes: what counts is what the folder
//! holds, which is looked at now and then as well.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_store::{Store, StoreError};
use notify::{RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::clock::now_ms;

/// The folder is looked at this often without a signal.
const PERIOD: Duration = Duration::from_secs(30);
/// Pause after a file that could not be taken.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes of a SHA-256 in hex digits.
const HASH_BYTES: usize = 64;

/// A new token could not be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    /// The file system refused.
    #[error("cannot take the new administrator's token from {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Somebody else wrote the file.
    #[error("{0} does not hold the hash of a token; remove it")]
    NotAHash(PathBuf),
    /// The store did not keep it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes the new token, if there is one.
///
/// # Errors
/// `TakeError`; the file is still there then.
pub(crate) async fn take(store: &Store, path: &Path) -> Result<(), TakeError> {
    let Some(hash) = read_hash(path)? else { return Ok(()) };
    store.adopt_admin_token(&hash, now_ms()).await?;
    tracing::info!("the administrator has a new token");
    std::fs::remove_file(path).map_err(|source| TakeError::Io { path: path.to_owned(), source })
}

/// What root left, if it did.
fn read_hash(path: &Path) -> Result<Option<String>, TakeError> {
    let hash = match std::fs::read_to_string(path) {
        Ok(hash) => hash,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(TakeError::Io { path: path.to_owned(), source }),
    };
    let hash = hash.trim();
    if hash.len() != HASH_BYTES || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(TakeError::NotAHash(path.to_owned()));
    }
    Ok(Some(hash.to_owned()))
}

/// Takes the first link to the console, if there is one: it is good for `good_ms` from now.
///
/// # Errors
/// `TakeError`; the file is still there then.
pub(crate) async fn take_link(store: &Store, path: &Path, good_ms: i64) -> Result<(), TakeError> {
    let Some(hash) = read_hash(path)? else { return Ok(()) };
    let at_ms = now_ms();
    store.adopt_admin_link(&hash, at_ms + good_ms, at_ms).await?;
    std::fs::remove_file(path).map_err(|source| TakeError::Io { path: path.to_owned(), source })
}

/// Takes every new token as it comes, for as long as this process lives.
pub(crate) async fn keep_taking(store: Store, path: PathBuf) {
    let changed = Arc::new(Notify::new());
    let wake = Arc::clone(&changed);
    let folder = path.parent().unwrap_or(&path).to_owned();
    let watcher = notify::recommended_watcher(move |event| {
        if is_news(&event) {
            wake.notify_one();
        }
    });
    // Dropped, it would watch no more.
    let _watching = watcher
        .and_then(|mut watcher| {
            watcher.watch(&folder, RecursiveMode::NonRecursive).map(|()| watcher)
        })
        .inspect_err(|error| tracing::warn!("a new administrator's token is seen late: {error}"));
    loop {
        if let Err(error) = take(&store, &path).await {
            tracing::error!("{error}");
            tokio::time::sleep(PAUSE).await;
        }
        let _ = tokio::time::timeout(PERIOD, changed.notified()).await;
    }
}

/// Whether an event of the folder is worth a look. That a file was opened or read is not: a look
/// does so itself.
fn is_news(event: &notify::Result<notify::Event>) -> bool {
    event.as_ref().map_or(true, |event| !event.kind.is_access())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_look_into_the_folder_wakes_nobody_and_a_new_file_does() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join("left");
        std::fs::write(&left, "x").unwrap();
        let (tell, told) = mpsc::channel();
        let mut watcher = notify::recommended_watcher(move |event| {
            let _ = tell.send((is_news(&event), event.unwrap()));
        })
        .unwrap();
        watcher.watch(folder.path(), RecursiveMode::NonRecursive).unwrap();
        std::fs::read_to_string(&left).unwrap();
        let new = folder.path().join("new");
        std::fs::write(&new, "x").unwrap();
        let mut looks = 0;
        // Events come in their order: those of the look before that of the new file.
        loop {
            let (news, event) = told.recv_timeout(Duration::from_secs(10)).unwrap();
            if event.paths.contains(&new) && news {
                break;
            }
            assert!(!news, "{event:?}");
            looks += 1;
        }
        assert!(looks > 0, "a look makes no event");
    }
}
