//! At start: what a process that was killed left open is brought to its end.
//!
//! Before its release a build was abandoned and its log ends here. After it the deployment goes on
//! by itself; here its end is waited for, the ref is moved, and the log gets its last lines.

use std::collections::BTreeSet;

use berth_model::{AppId, Build, BuildState, Deployment};
use berth_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use super::Pipeline;
use crate::build_log::BuildLog;
use crate::clock::now_ms;
use crate::git::{Lock, Locks};

/// Ends the builds that were running. Gives their number.
///
/// # Errors
/// What the database says.
pub(crate) async fn abandon(store: &Store) -> Result<usize, StoreError> {
    let abandoned = store.abandon_running_builds(now_ms()).await?;
    for build in &abandoned {
        let line = " !     The platform stopped while this was built; push again".to_owned();
        store.append_build_log(*build, &[line], now_ms()).await?;
    }
    Ok(abandoned.len())
}

impl Pipeline {
    /// Brings every open build to its end: those that only have to be closed at once, the others in
    /// the background, each with the lock of its app. Call it before anything is pushed.
    ///
    /// # Errors
    /// What the database says.
    pub async fn resume(&self, locks: &Locks) -> Result<(), StoreError> {
        let mut seen = BTreeSet::<AppId>::new();
        // Of several of one app the newest says what its ref is to name.
        for build in self.store.open_builds().await?.into_iter().rev() {
            let app = self.store.app(build.app).await?;
            let deployment = match build.deployment {
                Some(id) => self.store.deployment(id).await?,
                None => None,
            };
            match (app, deployment) {
                (Some(app), Some(deployment)) if seen.insert(app.id) => {
                    let lock = locks.take(app.id, &app.name, "a start of the platform");
                    let (pipeline, lock) = (self.clone(), lock.ok());
                    tokio::spawn(async move { pipeline.go_on(build, deployment, lock).await });
                }
                (Some(_), None) if build.state == BuildState::Succeeded => {
                    let line = " !     The platform stopped before the release; push again";
                    self.store.append_build_log(build.id, &[line.to_owned()], now_ms()).await?;
                    self.store.close_build(build.id).await?;
                }
                _ => self.store.close_build(build.id).await?,
            }
        }
        Ok(())
    }

    /// Waits for a deployment that a process before this one began.
    async fn go_on(&self, build: Build, deployment: Deployment, _lock: Option<Lock>) {
        let running = self.running.add(&build, CancellationToken::new());
        let (log, writing) = BuildLog::new(self.store.clone(), build.id, None);
        let (app, release) =
            (self.store.app(build.app).await, self.store.release(deployment.release).await);
        if let (Ok(Some(app)), Ok(Some(release))) = (app, release) {
            log.heading("The platform was started again and goes on");
            let state = deployment.state;
            let result = if state.is_switched() {
                self.deployed(&app, release.number, &log).await
            } else if state.is_terminal() {
                log.error(deployment.error.as_deref().unwrap_or(state.as_str()));
                Err("deploy failed".to_owned())
            } else {
                self.watch(&app, deployment.id, release.number, &log, running.tokens()).await
            };
            if result.is_ok() {
                // What stood against it is in the log.
                let _ = self.move_ref(&build, &log).await;
            }
        }
        drop(running);
        writing.finish().await;
    }
}
