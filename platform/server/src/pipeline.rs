//! The way of a push after git: build, image, release, deployment, and the move of its ref.
//!
//! Each step leaves its trace before the next begins: the build's row, its terminal state with the
//! image, the release's row with a queued deployment, the ref, the end of the log. Up to the release
//! a client that goes away cancels; after it the deployment is the reconciler's, and the client only
//! watches. What a process that was killed left open is brought to its end by the next (`resume`).

mod build;
mod follow;
pub(crate) mod resume;
mod running;
mod stack;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_blobs::BlobStore;
use berth_build::Builder;
use berth_deploy::Reconciler;
use berth_model::plan::Change;
use berth_model::{App, AppId, Build, Caller, Source};
use berth_push::{PushOutput, Pushed, Repositories};
use berth_store::{By, Store};
use futures_util::FutureExt;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::build_log::BuildLog;
use crate::clock::now_ms;
use crate::disk::Disk;
use crate::extensions::Registry;
use crate::records::StoreRecords;
use crate::router::Router;
use crate::stacks::Stacks;
use crate::wasm_host::WasmApps;
use build::Failed;
pub use running::Running;
use running::Tokens;

/// The stack that everything is built for.
pub(crate) const STACK: &str = "debian-12";

/// What must be written is tried again after this, and then after twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// The reconciler of this platform.
pub type Deploys = Reconciler<StoreRecords, WasmApps>;

/// Everything between a source and a running release. Cheap to clone.
#[derive(Clone)]
pub struct Pipeline {
    pub(crate) store: Store,
    pub(crate) blobs: Arc<BlobStore>,
    pub(crate) builder: Builder,
    pub(crate) stacks: Stacks,
    pub(crate) deploys: Deploys,
    pub(crate) router: Router,
    pub(crate) repositories: Repositories,
    pub(crate) running: Running,
    pub(crate) disk: Disk,
    pub(crate) extensions: Registry,
    /// Port of the router, for URLs.
    pub(crate) http_port: u16,
}

impl Pipeline {
    /// Something about an app changed: its routes and its instances are looked at.
    pub fn changed(&self, app: AppId) {
        self.deploys.wake(app);
        let router = self.router.clone();
        tokio::spawn(async move {
            if let Err(error) = router.publish().await {
                tracing::warn!("the routes could not be published yet: {error}");
            }
        });
    }

    /// Asks the policies about a change that is not made yet.
    ///
    /// # Errors
    /// Who does not allow it, and why; a change that cannot be planned.
    pub async fn judge(&self, app: Option<&App>, change: &Change, by: &By) -> Result<(), String> {
        if !self.extensions.has_policies() {
            return Ok(());
        }
        let plan = self.store.plan(app.map(|app| app.id), change).await;
        let plan = plan.map_err(|error| error.to_string())?;
        let judged = self.extensions.judge(app, change, &plan, by).await;
        judged.map(drop).map_err(|denial| denial.to_string())
    }

    /// Builds and deploys what was pushed. `Ok` means that the new release answers, and that the
    /// ref names its commit.
    ///
    /// # Errors
    /// One line for git; the reason stands in the output.
    pub async fn deliver(
        &self,
        caller: &Caller,
        app: AppId,
        pushed: Pushed,
        output: PushOutput,
        cancel: CancellationToken,
    ) -> Result<(), String> {
        let by = By::caller(caller, now_ms());
        let Pushed { source, ref_name, .. } = pushed;
        self.disk.room().map_err(|reason| {
            output.error(&reason);
            "the platform's disk is full".to_owned()
        })?;
        let row = self
            .store
            .create_build(app, &source.commit, source.archive, Some(&ref_name), &by)
            .await;
        let row = row.map_err(|error| refused(&output, &error.to_string()))?;
        self.build_and_deploy(row, source, &by, Some(output), cancel).await
    }

    /// Carries a build whose row is written to its end, and its image to a running release.
    ///
    /// # Errors
    /// One line; the reason stands in the build's log.
    pub async fn build_and_deploy(
        &self,
        row: Build,
        source: Source,
        by: &By,
        output: Option<PushOutput>,
        cancel: CancellationToken,
    ) -> Result<(), String> {
        let running = self.running.add(&row, cancel);
        let (log, writing) = BuildLog::new(self.store.clone(), row.id, output);
        let carried = self.carry(&row, source, by, &log, running.tokens());
        let (result, ended) = match AssertUnwindSafe(carried).catch_unwind().await {
            Ok(Ok(())) => {
                let moved = self.move_ref(&row, &log).await;
                let ended = moved.is_ok();
                (moved, ended)
            }
            Ok(failed) => (failed, true),
            Err(_) => self.end_panicked(&row, &log).await,
        };
        drop(running);
        if ended {
            writing.finish().await;
        } else {
            // Its ref is still to move: at the next start.
            writing.leave_open().await;
        }
        result
    }

    /// What a panic left: a build that failed, or a release, whose deployment goes on without this.
    /// Says whether nothing follows any more.
    async fn end_panicked(&self, row: &Build, log: &BuildLog) -> (Result<(), String>, bool) {
        let now = self.store.build(row.id).await;
        if now.is_ok_and(|now| now.is_some_and(|now| now.deployment.is_some())) {
            log.error("The platform made a mistake, which its own log tells");
            log.error("The release is made, and its deployment goes on; `berth releases` shows it");
            return (Err("released, but its deployment was not watched".to_owned()), false);
        }
        let reason = "the platform made a mistake, which its own log tells; push again";
        (Err(self.end_failed(row, Failed::Build(reason.to_owned()), log).await), true)
    }

    async fn carry(
        &self,
        row: &Build,
        source: Source,
        by: &By,
        log: &BuildLog,
        tokens: &Tokens,
    ) -> Result<(), String> {
        let begun = Instant::now();
        let commit = source.commit.clone();
        if let Err(failed) = self.before_build(row, &commit).await {
            return Err(self.end_failed(row, failed, log).await);
        }
        let image = match self.build(row, source, log, &tokens.cancel).await {
            Ok(image) => image,
            Err(failed) => return Err(self.end_failed(row, failed, log).await),
        };
        log.heading(&format!(
            "Built {} in {:.1} s",
            image.digest.short(),
            begun.elapsed().as_secs_f32()
        ));
        if tokens.cancel.is_cancelled() {
            return Err(self.end_failed(row, Failed::Cancelled, log).await);
        }
        let change =
            Change::Deploy { image: image.digest, manifest: Box::new(image.manifest), commit };
        let by = By { at_ms: now_ms(), ..by.clone() };
        match self.before_release(row, &change, &by).await {
            Ok(remarks) => remarks.iter().for_each(|remark| log.body(remark)),
            Err(failed) => return Err(self.end_failed(row, failed, log).await),
        }
        let made = self.store.release_build(row, &change, &by).await;
        let made = made.map_err(|error| {
            log.error(&error.to_string());
            "the release could not be made".to_owned()
        })?;
        let (Some(release), Some(deployment)) = (made.release, made.deployment) else {
            log.heading("Everything is deployed already");
            return Ok(());
        };
        log.heading(&format!("Releasing v{}", release.number));
        self.deploys.wake(row.app);
        self.watch(&made.app, deployment.id, release.number, log, tokens).await
    }

    /// Asks the hooks that may stop a build.
    async fn before_build(&self, row: &Build, commit: &str) -> Result<(), Failed> {
        let app = self.app_of(row).await?;
        let payload = json!({ "app": app.name, "build": row.id, "commit": commit });
        self.extensions
            .before("before.build", &app, payload)
            .await
            .map_err(|denial| Failed::Denied(denial.to_string()))
    }

    /// Asks the policies about the release, and the hooks that may stop it. Gives remarks.
    async fn before_release(
        &self,
        row: &Build,
        change: &Change,
        by: &By,
    ) -> Result<Vec<String>, Failed> {
        let app = self.app_of(row).await?;
        let plan = self.store.plan(Some(app.id), change).await?;
        let judged = self.extensions.judge(Some(&app), change, &plan, by).await;
        let remarks = judged.map_err(|denial| Failed::Denied(denial.to_string()))?;
        let payload = json!({ "app": app.name, "build": row.id, "changes": plan.changes });
        self.extensions
            .before("before.release", &app, payload)
            .await
            .map_err(|denial| Failed::Denied(denial.to_string()))?;
        Ok(remarks)
    }

    async fn app_of(&self, row: &Build) -> Result<App, Failed> {
        let app = self.store.app(row.app).await?;
        app.ok_or_else(|| Failed::Build("the app was destroyed".to_owned()))
    }

    /// The ref names what answers now. Only while the app's lock is held.
    async fn move_ref(&self, row: &Build, log: &BuildLog) -> Result<(), String> {
        let Some(ref_name) = row.ref_name.clone() else { return Ok(()) };
        let (repositories, app, commit) = (self.repositories.clone(), row.app, row.commit.clone());
        let moving =
            tokio::task::spawn_blocking(move || repositories.settle(app, &ref_name, &commit));
        let error: Box<dyn std::error::Error> = match moving.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.into(),
            Err(panicked) => panicked.into(),
        };
        tracing::error!(app = %row.app, error, "a ref stays");
        log.error("It is deployed, but its ref could not be written; push again");
        Err("deployed, but the ref cannot be written".to_owned())
    }

    /// Where an app answers.
    pub async fn urls(&self, app: &App) -> Vec<String> {
        let added = self.store.domains(app.id).await.unwrap_or_default();
        let default = format!("{}.{}", app.name, self.store.domain());
        std::iter::once(default)
            .chain(added.into_iter().map(|domain| domain.name.to_string()))
            .map(|host| match self.http_port {
                80 => format!("http://{host}"),
                port => format!("http://{host}:{port}"),
            })
            .collect()
    }
}

/// Does again and again, in the background, what could not be written: a full disk has room again
/// some time, and nothing must need a start of the platform then.
pub(crate) fn until_written<F>(what: &'static str, mut write: impl FnMut() -> F + Send + 'static)
where
    F: Future<Output = bool> + Send,
{
    tokio::spawn(async move {
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            if write().await {
                tracing::info!("{what} is written now");
                return;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    });
}

fn refused(output: &PushOutput, reason: &str) -> String {
    output.error(reason);
    "refused".to_owned()
}
