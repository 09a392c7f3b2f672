//! What stands behind the API in these tests: it does to the store what the rooms would do, and
//! remembers what it was asked.

use std::collections::BTreeMap;
use std::sync::Mutex;

use axum::body::Bytes;
use berth_api::{Check, ExitView, Size};
use berth_model::log::{LogRecord, LogStream as Stream};
use berth_model::plan::Change;
use berth_model::{
    App, AppId, Build, BuildId, Caller, Digest, DrainId, InstanceId, InstanceRecord, InstanceRole,
    InstanceState, VolumeId,
};
use berth_store::{BuildEnd, By, Store};
use berthd::drains::DrainState;
use berthd::http::{
    ActionError, Actions, AddonActions, BuildpackActions, Doing, ExtensionActions, Input, Live,
    LogEntry, LogFilter, LogStream, NewRun, Output, Session, StackPart, VolumeUse,
};
use tokio::sync::{mpsc, watch};

use crate::packs::Packs;
use crate::shelf::Shelf;
use crate::stores::Stores;

pub(crate) struct Rooms {
    store: Store,
    pub(crate) asked: Mutex<Vec<String>>,
    pub(crate) volumes: Mutex<BTreeMap<VolumeId, VolumeUse>>,
    /// How many sessions were dropped.
    pub(crate) ended: watch::Sender<usize>,
    /// While it is true, the router takes no table and no build begins.
    pub(crate) held: watch::Sender<bool>,
    /// How many builds were asked for.
    pub(crate) rebuilds: watch::Sender<usize>,
    extensions: Box<dyn ExtensionActions>,
    buildpacks: Box<dyn BuildpackActions>,
    stores: Stores,
    /// What policies say of the next changes.
    pub(crate) denial: Mutex<Option<String>>,
    /// Why policies were overridden.
    pub(crate) overridden: Mutex<Vec<String>>,
}

impl Rooms {
    pub(crate) fn new(store: Store) -> Self {
        let (shelf, packs) = (Shelf::new(store.clone()), Packs::new(store.clone()));
        Self::with(store, Box::new(shelf), Box::new(packs))
    }

    pub(crate) fn with(
        store: Store,
        extensions: Box<dyn ExtensionActions>,
        buildpacks: Box<dyn BuildpackActions>,
    ) -> Self {
        Self {
            extensions,
            buildpacks,
            stores: Stores::new(store.clone()),
            denial: Mutex::default(),
            overridden: Mutex::default(),
            store,
            asked: Mutex::default(),
            volumes: Mutex::default(),
            ended: watch::Sender::new(0),
            held: watch::Sender::new(false),
            rebuilds: watch::Sender::new(0),
        }
    }

    async fn freed(&self) {
        let _ = self.held.subscribe().wait_for(|held| !held).await;
    }

    fn note(&self, text: impl Into<String>) {
        self.asked.lock().unwrap().push(text.into());
    }

    pub(crate) fn was_asked(&self, text: &str) -> bool {
        self.asked.lock().unwrap().iter().any(|asked| asked == text)
    }

    /// A command that writes its input back, upper case on its errors, and ends with 3.
    fn session(&self) -> Session {
        let (input, mut from_client) = mpsc::channel(4);
        let (to_client, output) = mpsc::channel(4);
        let ended = self.ended.clone();
        tokio::spawn(async move {
            while let Some(input) = from_client.recv().await {
                match input {
                    Input::Bytes(bytes) => {
                        let upper = Bytes::from(bytes.to_ascii_uppercase());
                        let _ = to_client.send(Output::Stdout(bytes)).await;
                        let _ = to_client.send(Output::Stderr(upper)).await;
                    }
                    Input::Resize(size) => {
                        let text = format!("{}x{}", size.rows, size.columns);
                        let _ = to_client.send(Output::Stdout(Bytes::from(text))).await;
                    }
                    Input::End => {
                        let exit = ExitView { code: 3, oom: false, timed_out: false };
                        let _ = to_client.send(Output::Exit(exit)).await;
                    }
                }
            }
            ended.send_modify(|count| *count += 1);
        });
        Session { input, output }
    }

    fn run(&self, app: &App, detach: bool) -> InstanceRecord {
        InstanceRecord {
            id: InstanceId::new(9, [9; 10]),
            app: app.id,
            release: app.current_release.unwrap(),
            deployment: None,
            process: "run".parse().unwrap(),
            slot: 2,
            role: if detach { InstanceRole::Detached } else { InstanceRole::Run },
            restarts: 0,
            state: InstanceState::Planned,
            address: None,
            answering: None,
            exit_code: None,
            error: None,
            created_at_ms: 1,
            ready_at_ms: None,
            draining_at_ms: None,
            stopped_at_ms: None,
        }
    }
}

fn failed<E: std::error::Error + Send + Sync + 'static>(error: E) -> ActionError {
    ActionError::Internal(Box::new(error))
}

fn part() -> StackPart {
    let digest = Some("sha256:00".to_owned());
    StackPart {
        name: "debian-12".into(),
        part: "run".into(),
        digest,
        bytes: Some(1),
        made_at_ms: None,
    }
}

impl Actions for Rooms {
    fn wake(&self, _: AppId) {
        self.note("wake");
    }

    fn judge<'a>(&'a self, _: Option<&'a App>, _: &'a Change, by: &'a By) -> Doing<'a, ()> {
        Box::pin(async move {
            let denial = self.denial.lock().unwrap().clone();
            match (denial, &by.overrides) {
                (Some(denial), None) => Err(ActionError::Refused(denial)),
                (_, reason) => {
                    self.overridden.lock().unwrap().extend(reason.clone());
                    Ok(())
                }
            }
        })
    }

    fn extensions(&self) -> &dyn ExtensionActions {
        &*self.extensions
    }

    fn publish(&self) -> Doing<'_, ()> {
        self.note("publish");
        Box::pin(async {
            self.freed().await;
            Ok(())
        })
    }

    fn settle(&self, _: AppId) -> Doing<'_, ()> {
        self.note("settle");
        Box::pin(async { Ok(()) })
    }

    fn rebuild(&self, app: App, by: By) -> Doing<'_, Build> {
        self.note("rebuild");
        self.rebuilds.send_modify(|count| *count += 1);
        Box::pin(async move {
            self.freed().await;
            let source = Digest::from_sha256([5; 32]);
            self.store.create_build(app.id, "abc", source, None, &by).await.map_err(failed)
        })
    }

    fn cancel_build(&self, build: BuildId) -> Doing<'_, ()> {
        Box::pin(async move {
            let end = BuildEnd::Cancelled("as asked");
            self.store.finish_build(build, end, &super::by()).await.map_err(failed)?;
            self.store.close_build(build).await.map_err(failed)
        })
    }

    fn clean_up(&self, app: App) {
        self.note(format!("clean up {}", app.name));
    }

    fn volumes(&self) -> Doing<'_, BTreeMap<VolumeId, VolumeUse>> {
        Box::pin(async { Ok(self.volumes.lock().unwrap().clone()) })
    }

    fn drop_volumes(&self, _: AppId) -> Doing<'_, ()> {
        self.note("drop volumes");
        Box::pin(async { Ok(()) })
    }

    fn buildpacks(&self) -> &dyn BuildpackActions {
        &*self.buildpacks
    }

    fn addons(&self) -> &dyn AddonActions {
        &self.stores
    }

    fn drain_state(&self, _: DrainId) -> Option<DrainState> {
        None
    }

    fn live(&self, _: AppId) -> Doing<'_, BTreeMap<InstanceId, Live>> {
        let live = Live { attempt: 2, memory_bytes: Some(1024) };
        Box::pin(async move { Ok([(InstanceId::new(1, [1; 10]), live)].into()) })
    }

    fn log(&self, app: App, filter: LogFilter) -> Doing<'_, LogStream> {
        self.note(format!("log {filter:?}"));
        let entry = |seq: u64| LogEntry {
            source: "web.1".into(),
            record: LogRecord {
                app: app.name.clone(),
                process: "web".parse().unwrap(),
                instance: InstanceId::new(1, [1; 10]),
                attempt: 1,
                stream: Stream::Stdout,
                at_ns: super::NOW_MS * 1_000_000,
                seq,
                line: format!("line {seq}"),
                partial: false,
            },
        };
        let entries: Vec<_> = [1, 2].map(|seq| Ok(entry(seq))).into();
        Box::pin(async { Ok(Box::pin(futures_util::stream::iter(entries)) as LogStream) })
    }

    fn start_run(&self, app: App, run: NewRun, _: Caller) -> Doing<'_, InstanceRecord> {
        Box::pin(async move {
            let record = self.run(&app, run.detach);
            self.store.put_instance(&record, &super::by()).await.map_err(failed)?;
            Ok(record)
        })
    }

    fn attach(&self, _: AppId, _: InstanceId) -> Doing<'_, Session> {
        let session = self.session();
        Box::pin(async { Ok(session) })
    }

    fn stop_run(&self, _: AppId, run: InstanceId) -> Doing<'_, ()> {
        self.note(format!("stop {run}"));
        Box::pin(async { Ok(()) })
    }

    fn exec(
        &self,
        _: App,
        instance: InstanceRecord,
        command: Vec<String>,
        terminal: Option<Size>,
    ) -> Doing<'_, Session> {
        self.note(format!("exec {} {command:?} {}", instance.label(), terminal.is_some()));
        let session = self.session();
        Box::pin(async move {
            if command == ["refused"] {
                return Err(ActionError::Refused("the instance is going".into()));
            }
            Ok(session)
        })
    }

    fn stacks(&self) -> Doing<'_, Vec<StackPart>> {
        Box::pin(async { Ok(vec![part()]) })
    }

    fn update_stack(&self, name: String, _: Caller) -> Doing<'_, Vec<StackPart>> {
        Box::pin(async move {
            if name == "debian-12" {
                Ok(vec![part()])
            } else {
                Err(ActionError::Missing(format!("there is no stack {name}")))
            }
        })
    }

    fn checks(&self) -> Doing<'_, Vec<Check>> {
        Box::pin(async {
            Ok(vec![Check { name: "agent".into(), ok: true, detail: "well".into() }])
        })
    }

    fn down(&self, grace_ms: u32) -> Doing<'_, ()> {
        self.note(format!("down {grace_ms}"));
        Box::pin(async { Ok(()) })
    }
}
