//! The agent's own log: DATA/agent.log, root 0600, bounded. One line per event, with the time in
//! Unix milliseconds; never a secret, never bytes of a container.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The file is put aside as `agent.log.1` beyond this.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Appends lines; a full disk loses lines and nothing else.
pub(crate) struct AgentLog {
    path: PathBuf,
    file: Mutex<Option<File>>,
}

impl AgentLog {
    /// Opens or makes the file. Without it the agent goes on unlogged.
    pub(crate) fn open(path: &Path) -> Self {
        Self { path: path.to_path_buf(), file: Mutex::new(append(path).ok()) }
    }

    /// Writes one line; line breaks in `text` are escaped.
    pub(crate) fn line(&self, text: impl Display) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let text = text.to_string().replace('\n', "\\n");
        let mut slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let full = slot.as_ref().and_then(|file| file.metadata().ok());
        if full.is_some_and(|meta| meta.len() > BYTES_MAX) {
            let _ = std::fs::rename(&self.path, self.path.with_extension("log.1"));
            *slot = append(&self.path).ok();
        }
        if let Some(file) = slot.as_mut() {
            let _ = writeln!(file, "{at} {text}");
        }
    }
}

fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}
