//! The logs of extensions on their way to the store: taken without waiting, written in batches.

use std::collections::BTreeMap;

use berth_model::extension::ExtensionId;
use berth_store::Store;
use tokio::sync::mpsc;

use crate::clock::now_ms;

/// Lines that wait; more of them are lost, and said to be.
const WAITING_MAX: usize = 4_096;

struct Line {
    extension: ExtensionId,
    at_ms: i64,
    level: &'static str,
    text: String,
}

/// Takes lines.
pub(super) struct Journal {
    lines: mpsc::Sender<Line>,
}

impl Journal {
    /// Starts the writer, which ends with the journal.
    pub(super) fn start(store: Store) -> Self {
        let (lines, waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(write(store, waiting));
        Self { lines }
    }

    /// Takes a line; it does not wait. Texts are of a guest, and fit to be shown already.
    pub(super) fn line(&self, extension: &ExtensionId, level: &'static str, text: &str) {
        for part in text.split('\n') {
            let line = Line {
                extension: extension.clone(),
                at_ms: now_ms(),
                level,
                text: part.to_owned(),
            };
            if self.lines.try_send(line).is_err() {
                tracing::warn!(%extension, "lines of an extension's log were lost");
                return;
            }
        }
    }
}

async fn write(store: Store, mut waiting: mpsc::Receiver<Line>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, WAITING_MAX).await > 0 {
        let mut by_extension = BTreeMap::<_, Vec<_>>::new();
        for line in batch.drain(..) {
            by_extension
                .entry(line.extension)
                .or_default()
                .push((line.at_ms, line.level, line.text));
        }
        for (extension, lines) in by_extension {
            if let Err(error) = store.add_extension_lines(&extension, &lines).await {
                tracing::warn!(%extension, "lines of an extension's log were lost: {error}");
            }
        }
    }
}
