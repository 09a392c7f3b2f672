//! Brings every app to what is wanted of it, again and again.
//!
//! Level-triggered: a signal says only that an app is worth a look. One task per app reads what is
//! wanted and what runs, asks the planner and takes its steps, until there is nothing to do; then
//! it sleeps until a signal, a time that the planner named, or the period. Containers without a
//! row are stopped. A process that is killed anywhere goes on after its start, because rows are
//! written before anything is done.

mod app;
mod jobs;
mod pass;
mod steps;
mod sweep;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_container::{InstanceStatus, Reply, Request, Role};
use berth_model::rollout::Timeouts;
use berth_model::{AppId, DeploymentId, InstanceId};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::drivers::{Embedded, Wasm, WasmHost};
use crate::progress::{Board, Follower};
use crate::records::Records;

/// Bounds of the reconciler.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Deadlines of deployments.
    pub timeouts: Timeouts,
    /// Every app is looked at this often without a signal, milliseconds.
    pub period_ms: u32,
    /// Apps that are worked on at one time.
    pub passes_max: usize,
    /// Containers that are started at one time.
    pub starts_max: usize,
    /// One-off commands of one app at one time.
    pub runs_max: usize,
    /// SIGKILL follows SIGTERM after this when a one-off command's client is gone, milliseconds.
    pub run_grace_ms: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            period_ms: 30_000,
            passes_max: 16,
            starts_max: 4,
            runs_max: 16,
            run_grace_ms: 5000,
        }
    }
}

/// The reconciler of one platform. Cheap to clone.
pub struct Reconciler<R, W> {
    pub(crate) shared: Arc<Shared<R, W>>,
}

impl<R, W> Clone for Reconciler<R, W> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

pub(crate) struct Shared<R, W> {
    pub(crate) records: R,
    pub(crate) embedded: Embedded,
    pub(crate) wasm: Wasm<W>,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) board: Board,
    pub(crate) passes: Semaphore,
    pub(crate) starts: Semaphore,
    pub(crate) closing: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// The signal of each app that has a task.
    signals: Mutex<HashMap<AppId, Arc<Notify>>>,
    /// One-off commands that a session looks after.
    held: Mutex<BTreeSet<InstanceId>>,
}

impl<R, W> Shared<R, W> {
    fn signals(&self) -> MutexGuard<'_, HashMap<AppId, Arc<Notify>>> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, BTreeSet<InstanceId>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Records, W: WasmHost> Reconciler<R, W> {
    /// A reconciler that does nothing before [`Self::start`] or [`Self::wake`].
    pub fn new(records: R, embedded: Embedded, wasm: W, settings: Settings) -> Self {
        let shared = Shared {
            records,
            embedded,
            wasm: Wasm(wasm),
            settings,
            clock: Clock::new(),
            board: Board::default(),
            passes: Semaphore::new(settings.passes_max.max(1)),
            starts: Semaphore::new(settings.starts_max.max(1)),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            signals: Mutex::default(),
            held: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Looks after all apps from now on, until [`Self::close`]. Adopts what runs.
    pub fn start(&self) {
        let (watching, sweeping) = (self.clone(), self.clone());
        self.shared.tasks.spawn(async move {
            let closing = watching.shared.closing.clone();
            closing.run_until_cancelled(watching.watch()).await;
        });
        self.shared.tasks.spawn(async move {
            let closing = sweeping.shared.closing.clone();
            closing.run_until_cancelled(sweeping.sweep_again_and_again()).await;
        });
    }

    /// Stops looking after apps. What runs goes on; steps under way may be left undone, as after a
    /// crash.
    pub fn close(&self) {
        self.shared.closing.cancel();
        self.shared.tasks.close();
    }

    /// Returns when nothing is done any more after [`Self::close`].
    pub async fn closed(&self) {
        self.shared.tasks.wait().await;
    }

    /// Something of the app has changed.
    pub fn wake(&self, app: AppId) {
        let mut signals = self.shared.signals();
        let signal = signals.entry(app).or_insert_with(|| {
            let signal = Arc::new(Notify::new());
            let task = app::look_after(Arc::clone(&self.shared), app, Arc::clone(&signal));
            let closing = self.shared.closing.clone();
            self.shared.tasks.spawn(async move { closing.run_until_cancelled(task).await });
            signal
        });
        signal.notify_one();
    }

    /// What a deployment tells, from its beginning. A deployment that ended before this process
    /// started tells nothing: look at its row first.
    pub fn follow(&self, deployment: DeploymentId) -> Follower {
        self.shared.board.follow(deployment)
    }

    /// Wakes the apps whose containers change, for as long as the agent tells.
    async fn watch(&self) {
        let mut pause = Duration::from_millis(100);
        loop {
            if let Ok(mut session) = self.shared.embedded.agent.session(&Request::Watch, &[]).await
            {
                let mut known = BTreeMap::new();
                while let Ok((Reply::Instances { instances }, _)) = session.reply().await {
                    pause = Duration::from_millis(100);
                    self.wake_changed(&mut known, instances);
                }
            }
            tracing::warn!("berth-agent does not tell of containers; asking again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    fn wake_changed(
        &self,
        known: &mut BTreeMap<InstanceId, (AppId, String)>,
        instances: Vec<InstanceStatus>,
    ) {
        let now: BTreeMap<_, _> = instances
            .into_iter()
            .filter(|status| status.role != Role::Build)
            .map(|status| {
                let state = format!("{:?} {} {:?}", status.state, status.attempt, status.last_exit);
                (status.instance, (status.app, state))
            })
            .collect();
        let changed = now.iter().filter(|(id, state)| known.get(id) != Some(state));
        let gone = known.iter().filter(|(id, _)| !now.contains_key(id));
        let apps: BTreeSet<AppId> = changed.chain(gone).map(|(_, (app, _))| *app).collect();
        for app in apps {
            self.wake(app);
        }
        *known = now;
    }
}
