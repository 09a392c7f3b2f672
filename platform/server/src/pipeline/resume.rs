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
                    let lock = match locks.take(app.id, &app.name, "a start of the platform") {
                        Ok(lock) => lock,
                        Err(held) => {
                            tracing::warn!(build = %build.id, "a build stays open: {held}");
                            continue;
                        }
                    };
                    let pipeline = self.clone();
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

    /// Waits for a deployment that a process before this one began. A build that cannot be read
    /// stays open, for the next start.
    async fn go_on(&self, build: Build, deployment: Deployment, _lock: Lock) {
        let read = async {
            let app = self.store.app(build.app).await?;
            let release = self.store.release(deployment.release).await?;
            Ok::<_, StoreError>((app.zip(release), is_overtaken(&self.store, &build).await?))
        };
        let (found, overtaken) = match read.await {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(build = %build.id, "a build stays open: {error}");
                return;
            }
        };
        let running = self.running.add(&build, CancellationToken::new());
        let (log, writing) = BuildLog::new(self.store.clone(), build.id, None);
        let mut moved = Ok(());
        if let Some((app, release)) = found {
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
            if result.is_ok() && !overtaken {
                moved = self.move_ref(&build, &log).await;
            }
        }
        drop(running);
        // What stood against it is in the log.
        if moved.is_ok() {
            writing.finish().await;
        } else {
            writing.leave_open().await;
        }
    }
}

/// Whether a later build of the app was switched to: its ref must not go back to this one.
async fn is_overtaken(store: &Store, build: &Build) -> Result<bool, StoreError> {
    let builds = store.builds(build.app, None, u32::MAX).await?;
    let later = builds.into_iter().take_while(|other| other.id > build.id);
    for deployment in later.filter_map(|later| later.deployment) {
        if store.deployment(deployment).await?.is_some_and(|found| found.state.is_switched()) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use berth_model::image::Image;
    use berth_model::plan::Change;
    use berth_model::{DeploymentState, Digest, Manifest, Process, Runtime};
    use berth_store::By;

    use super::*;

    /// A build with a queued deployment.
    async fn released(store: &Store, app: AppId, n: u8) -> Build {
        // Ids have the time: each build its own.
        let by = By::system(n.into());
        let commit = format!("{n:02x}").repeat(20);
        let digest = Digest::from_sha256([n; 32]);
        let build = store.create_build(app, &commit, digest, None, &by).await.unwrap();
        let image = image(n);
        let end = berth_store::BuildEnd::Succeeded { image: &image, layers: None, memo: None };
        store.finish_build(build.id, end, &by).await.unwrap();
        let manifest = Box::new(image.manifest);
        let change = Change::Deploy { image: image.digest, manifest, commit };
        store.release_build(&build, &change, &by).await.unwrap();
        store.build(build.id).await.unwrap().unwrap()
    }

    fn image(n: u8) -> Image {
        let process = |command: &str| Process {
            command: vec![command.into()],
            working_dir: "/workspace".into(),
            check: None,
        };
        Image {
            digest: Digest::from_sha256([n; 32]),
            layers: Vec::new(),
            env: BTreeMap::new(),
            manifest: Manifest {
                processes: ["web", "worker"]
                    .map(|name| (name.parse().unwrap(), process(name)))
                    .into(),
                release: None,
                runtime: Runtime::Container,
                formation: BTreeMap::new(),
                wasm: berth_model::manifest::WasmSettings::default(),
            },
        }
    }

    #[tokio::test]
    async fn a_build_is_overtaken_by_a_later_one_that_was_switched_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("berth.sqlite");
        let store = Store::open(&path, &[7; 32], "localhost").await.unwrap();
        let by = By::system(1);
        let create = Change::Create { name: "app".parse().unwrap(), team: store.default_team() };
        let app = store.change(None, &create, None, &by).await.unwrap().app.id;
        let end = async |build: &Build, state| {
            let id = build.deployment.unwrap();
            store.switch_deployment(id, &by).await.unwrap();
            store.finish_deployment(id, state, None, &by).await.unwrap();
        };
        let first = released(&store, app, 1).await;
        end(&first, DeploymentState::Done).await;
        assert!(!is_overtaken(&store, &first).await.unwrap());
        let failed = released(&store, app, 2).await;
        end(&failed, DeploymentState::Failed).await;
        assert!(!is_overtaken(&store, &first).await.unwrap(), "the first still answers");
        let last = released(&store, app, 3).await;
        end(&last, DeploymentState::Done).await;
        assert!(is_overtaken(&store, &first).await.unwrap());
        assert!(!is_overtaken(&store, &last).await.unwrap());
    }
}
