//! What the API asks of the rooms.

mod doctor;
mod sessions;
mod settle;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_api::{Check, Size};
use berth_container::{Agent, Reply, Request, VolumeStatus};
use berth_model::plan::Change;
use berth_model::{
    App, AppId, Build, BuildId, Caller, DrainId, InstanceId, InstanceRecord, VolumeId,
};
use berth_push::Push;
use berth_store::By;
use futures_util::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::addons::Addons;
use crate::buildpacks::Buildpacks;
use crate::collect::Collector;
use crate::drains::{DrainState, Drains};
use crate::git::{GitHost, Locks};
use crate::http::{
    ActionError, Actions, AddonActions, BuildpackActions, Doing, ExtensionActions, Live, LogEntry,
    LogFilter, LogStream, NewRun, Session, StackPart, VolumeUse,
};
use crate::logs::{Filter, Logs};
use crate::pipeline::Pipeline;

/// How long the end of a cancelled build may take.
const CANCEL_MAX: Duration = Duration::from_secs(30);
/// How often a removed volume that an ending instance still has is tried again.
const DROP_LOOKS_MAX: u32 = 400;
/// How often something that another task brings about is looked at.
const LOOK: Duration = Duration::from_millis(25);

/// The rooms together.
pub struct RoomActions {
    pub(crate) pipeline: Pipeline,
    pub(crate) push: Push<GitHost>,
    pub(crate) locks: Locks,
    pub(crate) agent: Agent,
    pub(crate) logs: Logs,
    pub(crate) drains: Drains,
    pub(crate) addons: Addons,
    pub(crate) buildpacks: Buildpacks,
    pub(crate) collector: Arc<Collector>,
    pub(crate) waiting: sessions::Waiting,
    /// Cancelled when the platform is to end.
    pub(crate) down: tokio::sync::watch::Sender<Option<u32>>,
}

async fn rebuild(
    pipeline: Pipeline,
    push: Push<GitHost>,
    locks: Locks,
    app: App,
    by: By,
) -> Result<Build, ActionError> {
    let lock = locks.take(app.id, &app.name, &by.name).map_err(ActionError::Refused)?;
    let nothing = || ActionError::Refused(format!("nothing was pushed to {} yet", app.name));
    let branch = app.settings.deploy_branch.clone().ok_or_else(nothing)?;
    let source = push.source(app.id, &branch).await;
    let source = source.map_err(ActionError::Refused)?.ok_or_else(nothing)?;
    pipeline.disk.room().map_err(ActionError::Unavailable)?;
    let store = &pipeline.store;
    let row = store.create_build(app.id, &source.commit, source.archive, None, &by).await;
    let row = row.map_err(internal)?;
    let build = row.clone();
    tokio::spawn(async move {
        let _lock = lock;
        let by = By { once: None, ..by };
        let cancel = CancellationToken::new();
        // The reason of a failure stands in the build's log and row.
        let _ = pipeline.build_and_deploy(build, source, &by, None, cancel).await;
    });
    Ok(row)
}

fn internal<E: std::error::Error + Send + Sync + 'static>(error: E) -> ActionError {
    ActionError::Internal(Box::new(error))
}

fn boxed(error: Box<dyn std::error::Error + Send + Sync>) -> ActionError {
    ActionError::Internal(error)
}

impl Actions for RoomActions {
    fn wake(&self, app: AppId) {
        self.pipeline.changed(app);
    }

    fn judge<'a>(&'a self, app: Option<&'a App>, change: &'a Change, by: &'a By) -> Doing<'a, ()> {
        Box::pin(
            async move { self.pipeline.judge(app, change, by).await.map_err(ActionError::Refused) },
        )
    }

    fn publish(&self) -> Doing<'_, ()> {
        Box::pin(async move {
            let published = self.pipeline.router.publish().await;
            published.map_err(|error| ActionError::Unavailable(error.to_string()))
        })
    }

    fn settle(&self, app: AppId) -> Doing<'_, ()> {
        Box::pin(settle::settle(&self.pipeline, app))
    }

    fn rebuild(&self, app: App, by: By) -> Doing<'_, Build> {
        let (pipeline, push, locks) =
            (self.pipeline.clone(), self.push.clone(), self.locks.clone());
        // A task of its own: a client that goes away must not leave a row that nobody carries.
        let begun = tokio::spawn(rebuild(pipeline, push, locks, app, by));
        Box::pin(async move { begun.await.map_err(internal)? })
    }

    fn cancel_build(&self, build: BuildId) -> Doing<'_, ()> {
        Box::pin(async move {
            self.pipeline.running.cancel(build);
            let store = &self.pipeline.store;
            let ended = async {
                while let Ok(Some(row)) = store.build(build).await {
                    if row.state.is_terminal() {
                        return;
                    }
                    tokio::time::sleep(LOOK).await;
                }
            };
            tokio::time::timeout(CANCEL_MAX, ended).await.map_err(|_| {
                ActionError::Unavailable(
                    "the build is being cancelled and has not ended yet".to_owned(),
                )
            })
        })
    }

    fn clean_up(&self, app: App) {
        self.pipeline.changed(app.id);
        let collector = Arc::clone(&self.collector);
        tokio::spawn(collector.forget(app));
    }

    fn volumes(&self) -> Doing<'_, BTreeMap<VolumeId, VolumeUse>> {
        Box::pin(async move {
            let (reply, _) = self.agent.call(&Request::VolumeList, &[]).await.map_err(internal)?;
            let Reply::Volumes { volumes } = reply else { return Ok(BTreeMap::new()) };
            let each = volumes.into_iter().map(|VolumeStatus { volume, used_bytes, instance }| {
                (volume, VolumeUse { used_bytes, instance })
            });
            Ok(each.collect())
        })
    }

    fn drop_volumes(&self, app: AppId) -> Doing<'_, ()> {
        Box::pin(async move {
            for _ in 0..DROP_LOOKS_MAX {
                if self.collector.drop_volumes(Some(app)).await.map_err(boxed)? {
                    return Ok(());
                }
                tokio::time::sleep(LOOK).await;
            }
            // Nobody sees it any more; what it held goes with the next collection.
            tracing::warn!(%app, "a removed volume is still in use; it goes later");
            Ok(())
        })
    }

    fn extensions(&self) -> &dyn ExtensionActions {
        &self.pipeline.extensions
    }

    fn buildpacks(&self) -> &dyn BuildpackActions {
        &self.buildpacks
    }

    fn addons(&self) -> &dyn AddonActions {
        &self.addons
    }

    fn drain_state(&self, id: DrainId) -> Option<DrainState> {
        self.drains.state(id)
    }

    fn live(&self, app: AppId) -> Doing<'_, BTreeMap<InstanceId, Live>> {
        Box::pin(async move {
            let (reply, _) = self.agent.call(&Request::List, &[]).await.map_err(internal)?;
            let Reply::Instances { instances } = reply else { return Ok(BTreeMap::new()) };
            let own = instances.into_iter().filter(|status| status.app == app);
            Ok(own
                .map(|status| {
                    let live =
                        Live { attempt: status.attempt, memory_bytes: Some(status.memory_bytes) };
                    (status.instance, live)
                })
                .collect())
        })
    }

    fn log(&self, app: App, filter: LogFilter) -> Doing<'_, LogStream> {
        Box::pin(async move {
            let wanted = Filter {
                process: filter.process,
                lines: usize::try_from(filter.lines).unwrap_or(usize::MAX),
                after: filter.after,
            };
            if filter.follow {
                let lines = ReceiverStream::new(self.logs.follow(app, wanted));
                return Ok(Box::pin(lines.map(Ok)) as LogStream);
            }
            let lines: Vec<LogEntry> = self.logs.tail(&app, &wanted).await.map_err(internal)?;
            Ok(Box::pin(futures_util::stream::iter(lines.into_iter().map(Ok))) as LogStream)
        })
    }

    fn start_run(&self, app: App, run: NewRun, _caller: Caller) -> Doing<'_, InstanceRecord> {
        Box::pin(sessions::start(self, app, run))
    }

    fn attach(&self, app: AppId, run: InstanceId) -> Doing<'_, Session> {
        Box::pin(async move { self.waiting.take(app, run) })
    }

    fn stop_run(&self, app: AppId, run: InstanceId) -> Doing<'_, ()> {
        Box::pin(async move {
            let row = self.pipeline.store.instance(run).await.map_err(internal)?;
            if row.is_none_or(|row| row.app != app) {
                return Err(ActionError::Missing(format!("there is no run {run}")));
            }
            match self.agent.call(&Request::Stop { instance: run, grace_ms: 10_000 }, &[]).await {
                Ok(_) => {}
                Err(berth_container::AgentError::Failed {
                    code: berth_container::FailureCode::NotFound,
                    ..
                }) => {}
                Err(error) => return Err(internal(error)),
            }
            self.pipeline.deploys.wake(app);
            Ok(())
        })
    }

    fn exec(
        &self,
        app: App,
        instance: InstanceRecord,
        command: Vec<String>,
        terminal: Option<Size>,
    ) -> Doing<'_, Session> {
        Box::pin(sessions::exec(self, app, instance, command, terminal))
    }

    fn stacks(&self) -> Doing<'_, Vec<StackPart>> {
        Box::pin(async move {
            let made = self.pipeline.store.stack(crate::pipeline::STACK).await.map_err(internal)?;
            Ok(parts(made.as_ref()))
        })
    }

    fn update_stack(&self, name: String, _caller: Caller) -> Doing<'_, Vec<StackPart>> {
        Box::pin(async move {
            if name != crate::pipeline::STACK {
                return Err(ActionError::Missing(format!(
                    "there is no stack '{name}'; there is {}",
                    crate::pipeline::STACK
                )));
            }
            let _one = self.pipeline.stacks.making.lock().await;
            let made = self.pipeline.make_stack(|line| tracing::info!("stack: {line}")).await;
            Ok(parts(Some(&made.map_err(ActionError::Failed)?)))
        })
    }

    fn checks(&self) -> Doing<'_, Vec<Check>> {
        Box::pin(async move { Ok(doctor::checks(self).await) })
    }

    fn down(&self, grace_ms: u32) -> Doing<'_, ()> {
        Box::pin(async move {
            self.down.send_replace(Some(grace_ms));
            Ok(())
        })
    }
}

fn parts(stack: Option<&berth_store::Stack>) -> Vec<StackPart> {
    let layers =
        [("run", stack.map(|stack| &stack.run)), ("build", stack.map(|stack| &stack.build))];
    layers
        .into_iter()
        .map(|(part, layer)| StackPart {
            name: crate::pipeline::STACK.to_owned(),
            part: part.to_owned(),
            digest: layer.map(|layer| layer.diff_id.to_string()),
            bytes: layer.map(|layer| layer.bytes),
            made_at_ms: stack.map(|stack| stack.created_at_ms),
        })
        .collect()
}
