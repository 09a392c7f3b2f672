//! Log drains: follows the logs of an app, or of every app, from a durable position, has extensions
//! change the lines, and sends them to a sink.
//!
//! Takes drains and positions from the store and lines from the log files; gives messages to sinks,
//! at least once and in the order of each instance. The log files are the buffer of a drain: what is
//! in memory is bounded, and a receiver that is away for longer than a log is kept loses the oldest
//! lines, which a line of the drain says. Nothing that a drain says of itself goes into an app's log,
//! so nothing comes back to it. It must never hold up an app.

mod extensions;
mod follow;
mod process;
mod resolve;
mod runner;
mod sink;
mod state;
mod tls;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_model::DrainId;
use berth_model::drain::DRAINS_MAX;
use berth_store::{Drain, Store, StoreError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use process::{NoProcessors, Processed, ProcessorFailure, Processors};
pub use sink::SinkError;
pub use state::DrainState;
pub use tls::authorities;

pub(crate) use resolve::Judge;

use crate::logs::Logs;
use state::Shared;

/// Drains are compared with the store at least so often.
const PERIOD: Duration = Duration::from_secs(10);
/// How long drains may take to send what they hold when the platform ends.
const FLUSH_MAX: Duration = Duration::from_millis(2500);

/// Runs every drain. Cheap to clone.
#[derive(Clone)]
pub struct Drains {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    logs: Logs,
    processors: Arc<dyn Processors>,
    /// This machine's name, for messages.
    host: String,
    /// First address of the instances' /16.
    instances: Option<Ipv4Addr>,
    running: Mutex<BTreeMap<DrainId, Running>>,
}

struct Running {
    state: Shared,
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Drains {
    /// Drains of what `store` knows and `logs` reads. `instances` is the first address of the
    /// instances' /16, which no drain of a team reaches.
    pub fn new(
        store: Store,
        logs: Logs,
        processors: Arc<dyn Processors>,
        instances: Option<Ipv4Addr>,
    ) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let running = Mutex::default();
        Self { inner: Arc::new(Inner { store, logs, processors, host, instances, running }) }
    }

    /// How a drain does; nothing where it does not run.
    pub fn state(&self, id: DrainId) -> Option<DrainState> {
        self.lock().get(&id).map(|running| running.state.read())
    }

    /// Starts and ends drains as the store says, until `end`; then what they hold is sent, for a
    /// bounded time.
    pub async fn run(self, end: CancellationToken) {
        let mut events = self.inner.store.watch_events();
        loop {
            if let Err(error) = self.compare().await {
                tracing::warn!("log drains cannot be read for now: {error}");
            }
            tokio::select! {
                () = end.cancelled() => break,
                changed = events.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
        let running = std::mem::take(&mut *self.lock());
        for drain in running.values() {
            drain.end.cancel();
        }
        let ended = async {
            for drain in running.into_values() {
                let _ = drain.task.await;
            }
        };
        if tokio::time::timeout(FLUSH_MAX, ended).await.is_err() {
            tracing::warn!(
                "a log drain did not take its last lines in time; it gets them after the next start"
            );
        }
    }

    async fn compare(&self) -> Result<(), StoreError> {
        let wanted = self.inner.store.drains(None, None, None, DRAINS_MAX).await?;
        let ids: BTreeSet<DrainId> = wanted.iter().map(|drain| drain.id).collect();
        let mut running = self.lock();
        running.retain(|id, drain| {
            // A task that ended by itself was removed, or panicked: it is started again.
            let keep = ids.contains(id) && !drain.task.is_finished();
            if !keep {
                drain.end.cancel();
            }
            keep
        });
        for drain in wanted {
            running.entry(drain.id).or_insert_with(|| self.start(drain));
        }
        Ok(())
    }

    fn start(&self, drain: Drain) -> Running {
        let (state, end) = (Shared::default(), CancellationToken::new());
        let runner = runner::Runner::new(
            drain,
            self.inner.store.clone(),
            self.inner.logs.clone(),
            Arc::clone(&self.inner.processors),
            (self.inner.host.clone(), self.inner.instances),
            state.clone(),
        );
        let task = tokio::spawn(runner.run(end.clone()));
        Running { state, end, task }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<DrainId, Running>> {
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
