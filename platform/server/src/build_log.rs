//! The lines of one build: to whoever pushes at once, to the store in small batches.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_build::Log;
use berth_model::BuildId;
use berth_push::PushOutput;
use berth_store::Store;
use tokio::sync::Notify;

use crate::clock::now_ms;

/// Lines are written together when they come within this.
const BATCH: Duration = Duration::from_millis(100);

/// Where the lines of one build go. Cheap to clone.
#[derive(Clone)]
pub(crate) struct BuildLog {
    shared: Arc<Shared>,
}

struct Shared {
    output: Option<PushOutput>,
    waiting: Mutex<Vec<String>>,
    more: Notify,
}

impl Log for BuildLog {
    fn line(&self, text: &str) {
        if let Some(output) = &self.shared.output {
            output.marked(text);
        }
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
        self.shared.more.notify_one();
    }
}

/// Writes what waits; [`Self::finish`] writes the rest.
pub(crate) struct Writing {
    log: BuildLog,
    store: Store,
    build: BuildId,
    task: tokio::task::JoinHandle<()>,
}

impl BuildLog {
    /// A log that also goes to `output`, and what writes it to the store.
    pub(crate) fn new(store: Store, build: BuildId, output: Option<PushOutput>) -> (Self, Writing) {
        let shared = Shared { output, waiting: Mutex::default(), more: Notify::new() };
        let log = Self { shared: Arc::new(shared) };
        let (again, into) = (log.clone(), store.clone());
        let task = tokio::spawn(async move {
            loop {
                again.shared.more.notified().await;
                tokio::time::sleep(BATCH).await;
                again.write(&into, build).await;
            }
        });
        (log.clone(), Writing { log, store, build, task })
    }

    /// A heading.
    pub(crate) fn heading(&self, text: &str) {
        self.line(&format!("-----> {text}"));
    }

    /// What a step says.
    pub(crate) fn body(&self, text: &str) {
        text.lines().for_each(|line| self.line(&format!("       {line}")));
    }

    /// What went wrong.
    pub(crate) fn error(&self, text: &str) {
        text.lines().for_each(|line| self.line(&format!(" !     {line}")));
    }

    async fn write(&self, store: &Store, build: BuildId) {
        let lines = std::mem::take(
            &mut *self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner),
        );
        if lines.is_empty() {
            return;
        }
        if let Err(error) = store.append_build_log(build, &lines, now_ms()).await {
            tracing::error!(%build, "lines of the build's log are lost: {error}");
        }
    }
}

impl Writing {
    /// Everything that was said is stored.
    pub(crate) async fn finish(self) {
        self.task.abort();
        // Aborted between two batches or in one; a batch that was taken must not be lost.
        let _ = self.task.await;
        self.log.write(&self.store, self.build).await;
    }
}
