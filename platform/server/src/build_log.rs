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
/// Most bytes of them, likewise.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// Where the lines of one build go. Cheap to clone.
#[derive(Clone)]
pub(crate) struct BuildLog {
    shared: Arc<Shared>,
}

struct Shared {
    output: Option<PushOutput>,
    waiting: Mutex<Waiting>,
    more: Notify,
    /// Nobody says anything any more.
    ended: CancellationToken,
}

/// Lines that are not in the store yet.
#[derive(Default)]
struct Waiting {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Waiting {
    fn push(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > WAITING_MAX || self.bytes > WAITING_BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else { return };
            self.bytes -= oldest.len();
        }
    }

    /// Puts lines before those that came after them.
    fn put_back(&mut self, lines: Vec<String>) {
        let after = std::mem::take(self);
        lines.into_iter().chain(after.lines).for_each(|line| self.push(line));
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for BuildLog {
    fn line(&self, text: &str) {
        if let Some(output) = &self.shared.output {
            output.marked(text);
        }
        self.shared.waiting().push(text.to_owned());
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
        let lines: Vec<String> = std::mem::take(&mut *self.shared.waiting()).lines.into();
        if lines.is_empty() {
            return true;
        }
        match store.append_build_log(build, &lines, now_ms()).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%build, "lines of the build's log cannot be written yet: {error}");
                self.shared.waiting().put_back(lines);
                false
            }
        }
    }

    /// Writes the rest and, if asked, closes the build; false when that is to be tried again.
    async fn end(&self, store: &Store, build: BuildId, close: bool) -> bool {
        match store.build(build).await {
            // Forgotten with its app.
            Ok(None) => true,
            _ => {
                self.write(store, build).await && (!close || store.close_build(build).await.is_ok())
            }
        }
    }
}

impl Writing {
    /// Everything that was said is stored, and the build is closed; where the disk is full, as soon
    /// as it is not.
    pub(crate) async fn finish(self) {
        self.end(true).await;
    }

    /// Everything that was said is stored, but the build stays open: the next start of the platform
    /// brings it to its end.
    pub(crate) async fn leave_open(self) {
        self.end(false).await;
    }

    async fn end(self, close: bool) {
        let Self { log, store, build, task } = self;
        log.shared.ended.cancel();
        // A task that panicked has left its lines to the close.
        let _ = task.await;
        if !log.end(&store, build, close).await {
            until_written("a build's log", move || {
                let (log, store) = (log.clone(), store.clone());
                async move { log.end(&store, build, close).await }
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

    #[test]
    fn what_was_said_last_stays_when_too_much_waits() {
        let mut waiting = Waiting::default();
        let lines = (0..WAITING_MAX).map(|n| n.to_string()).collect();
        waiting.push("the reason".to_owned());
        waiting.put_back(lines);
        assert_eq!(waiting.lines.len(), WAITING_MAX);
        assert_eq!(waiting.lines.front().unwrap(), "1");
        assert_eq!(waiting.lines.back().unwrap(), "the reason");
        waiting.put_back(vec!["x".repeat(WAITING_BYTES_MAX)]);
        assert!(waiting.bytes <= WAITING_BYTES_MAX);
        assert_eq!(waiting.lines.front().unwrap(), "1");
        assert_eq!(waiting.bytes, waiting.lines.iter().map(String::len).sum::<usize>());
    }

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
