//! The lines of one build: to whoever pushes at once, to the store in small batches.
//!
//! Lines that cannot be written, because the disk is full, wait and are written when they can be.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_build::Log;
use berth_model::BuildId;
use berth_push::PushOutput;
use berth_store::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::pipeline::until_written;

/// Lines are written together when they come within this.
const BATCH: Duration = Duration::from_millis(100);
/// Most lines that wait; the oldest are lost first.
const WAITING_MAX: usize = 50_000;

/// Where the lines of one build go. Cheap to clone.
#[derive(Clone)]
pub(crate) struct BuildLog {
    shared: Arc<Shared>,
}

struct Shared {
    output: Option<PushOutput>,
    waiting: Mutex<VecDeque<String>>,
    more: Notify,
    /// Nobody says anything any more.
    ended: CancellationToken,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for BuildLog {
    fn line(&self, text: &str) {
        if let Some(output) = &self.shared.output {
            output.marked(text);
        }
        {
            let mut waiting = self.shared.waiting();
            if waiting.len() == WAITING_MAX {
                waiting.pop_front();
            }
            waiting.push_back(text.to_owned());
        }
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
        let shared = Shared {
            output,
            waiting: Mutex::default(),
            more: Notify::new(),
            ended: CancellationToken::new(),
        };
        let log = Self { shared: Arc::new(shared) };
        let (again, into) = (log.clone(), store.clone());
        let task = tokio::spawn(async move { again.write_batches(&into, build).await });
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

    /// Until the end. A batch is never cut off: it would be lost.
    async fn write_batches(&self, store: &Store, build: BuildId) {
        let ended = &self.shared.ended;
        while ended.run_until_cancelled(self.shared.more.notified()).await.is_some() {
            let _ = tokio::time::timeout(BATCH, ended.cancelled()).await;
            self.write(store, build).await;
        }
    }

    /// Writes what waits; false when it still waits.
    async fn write(&self, store: &Store, build: BuildId) -> bool {
        let lines: Vec<String> = std::mem::take(&mut *self.shared.waiting()).into();
        if lines.is_empty() {
            return true;
        }
        match store.append_build_log(build, &lines, now_ms()).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%build, "lines of the build's log cannot be written yet: {error}");
                let mut waiting = self.shared.waiting();
                let after = std::mem::take(&mut *waiting);
                waiting.extend(lines.into_iter().chain(after).take(WAITING_MAX));
                false
            }
        }
    }

    /// Writes the rest and closes the build; false when that is to be tried again.
    async fn close(&self, store: &Store, build: BuildId) -> bool {
        match store.build(build).await {
            // Forgotten with its app.
            Ok(None) => true,
            _ => self.write(store, build).await && store.close_build(build).await.is_ok(),
        }
    }
}

impl Writing {
    /// Everything that was said is stored, and the build is closed; where the disk is full, as soon
    /// as it is not.
    pub(crate) async fn finish(self) {
        let Self { log, store, build, task } = self;
        log.shared.ended.cancel();
        // A task that panicked has left its lines to the close.
        let _ = task.await;
        if !log.close(&store, build).await {
            until_written("a build's log", move || {
                let (log, store) = (log.clone(), store.clone());
                async move { log.close(&store, build).await }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use berth_model::Digest;
    use berth_model::plan::Change;
    use berth_store::By;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_line_is_lost_however_early_the_log_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("berth.sqlite");
        let store = Store::open(&path, &[7; 32], "localhost").await.unwrap();
        let by = By::system(1);
        let create = Change::Create { name: "app".parse().unwrap(), team: store.default_team() };
        let app = store.change(None, &create, None, &by).await.unwrap().app.id;
        for n in 0..20 {
            let source = Digest::from_sha256([1; 32]);
            let build = store.create_build(app, "c", source, None, &by).await.unwrap().id;
            let (log, writing) = BuildLog::new(store.clone(), build, None);
            let mut changed = store.watch_build_logs();
            changed.mark_unchanged();
            log.heading("one");
            // The end comes before, in and after the first batch.
            if n % 2 == 0 {
                changed.changed().await.unwrap();
            }
            log.body("two\nthree");
            log.error("four");
            writing.finish().await;
            let lines = store.build_log(build, 0, 10).await.unwrap();
            let lines: Vec<_> = lines.iter().map(|line| line.line.trim_start()).collect();
            assert_eq!(lines, ["-----> one", "two", "three", "!     four"]);
            assert!(!store.build(build).await.unwrap().unwrap().open);
        }
    }
}
