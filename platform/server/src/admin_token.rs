//! Takes the hash of a new administrator's token that root left, at start and while serving.
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
    let io = |source| TakeError::Io { path: path.to_owned(), source };
    let hash = match std::fs::read_to_string(path) {
        Ok(hash) => hash,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    let hash = hash.trim();
    if hash.len() != HASH_BYTES || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(TakeError::NotAHash(path.to_owned()));
    }
    store.adopt_admin_token(hash, now_ms()).await?;
    tracing::info!("the administrator has a new token");
    std::fs::remove_file(path).map_err(io)
}

/// Takes every new token as it comes, for as long as this process lives.
pub(crate) async fn keep_taking(store: Store, path: PathBuf) {
    let changed = Arc::new(Notify::new());
    let wake = Arc::clone(&changed);
    let folder = path.parent().unwrap_or(&path).to_owned();
    let watcher = notify::recommended_watcher(move |_| wake.notify_one());
    // Dropped, it would watch no more.
    let _watching = watcher
        .and_then(|mut watcher| {
            watcher.watch(&folder, RecursiveMode::NonRecursive).map(|()| watcher)
        })
        .inspect_err(|error| tracing::warn!("a new administrator's token is seen late: {error}"));
    loop {
        if let Err(error) = take(&store, &path).await {
            tracing::error!("{error}");
        }
        let _ = tokio::time::timeout(PERIOD, changed.notified()).await;
    }
}
