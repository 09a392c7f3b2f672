//! What the handlers ask of the rest of the server.
//!
//! Object safe, so that the router is one type whatever stands behind it. The caller was authorised
//! before any of these is called.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use axum::body::Bytes;
use berth_api::{Check, ExitView, Size};
use berth_model::log::LogRecord;
use berth_model::plan::Change;
use berth_model::{
    App, AppId, Build, BuildId, Caller, DrainId, InstanceId, InstanceRecord, ProcessName, VolumeId,
};
use berth_store::By;
use futures_util::Stream;
use tokio::sync::mpsc;

use super::addons::AddonActions;
use super::buildpacks::BuildpackActions;
use super::extensions::ExtensionActions;
use crate::drains::DrainState;

/// The future of an action.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, ActionError>> + Send + 'a>>;
/// Lines of a log as they come.
pub type LogStream = Pin<Box<dyn Stream<Item = Result<LogEntry, ActionError>> + Send>>;

/// An action was not done. Texts are shown to the caller.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// As things are, it cannot be done; the text says why and what to do.
    #[error("{0}")]
    Refused(String),
    /// What it is about does not exist.
    #[error("{0}")]
    Missing(String),
    /// It failed for a reason of the app, which the text gives.
    #[error("{0}")]
    Failed(String),
    /// It may work later.
    #[error("{0}")]
    Unavailable(String),
    /// It failed for a reason of the platform, which is for the operator's log only.
    #[error("the platform could not do it")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What is known of a running instance beyond its row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Live {
    /// Which start of its process, from 1.
    pub attempt: u32,
    /// Memory in use, bytes.
    pub memory_bytes: Option<u64>,
}

/// A one-off command to start.
#[derive(Clone, PartialEq, Eq)]
pub struct NewRun {
    /// The command and its arguments, not empty.
    pub command: Vec<String>,
    /// Goes on without a client.
    pub detach: bool,
    /// Ended after this many seconds.
    pub timeout_s: Option<u32>,
    /// With a terminal of this size.
    pub terminal: Option<Size>,
}

/// Which lines of an app's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter {
    /// Only this process type.
    pub process: Option<ProcessName>,
    /// How many of the last lines.
    pub lines: u32,
    /// Go on with new ones as they come; otherwise the stream ends.
    pub follow: bool,
    /// Lines of this instance up to this one are known to the client already.
    pub after: Option<(InstanceId, u64)>,
}

/// A line of an app's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// The instance's name: `web.1`.
    pub source: String,
    /// The line.
    pub record: LogRecord,
}

/// A command's streams. Dropping it ends a command that is not detached.
pub struct Session {
    /// To the command.
    pub input: mpsc::Sender<Input>,
    /// From the command; `Exit` or `Error` is the last.
    pub output: mpsc::Receiver<Output>,
}

/// What a client sends to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Bytes(Bytes),
    /// The end of standard input.
    End,
    /// Another size of the terminal.
    Resize(Size),
}

/// What a command sends to its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Standard output, or everything where there is a terminal.
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
    /// It ended.
    Exit(ExitView),
    /// It was lost; the text says how.
    Error(String),
}

/// One part of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackPart {
    /// Name of the stack: `debian-12`.
    pub name: String,
    /// `run` or `build`.
    pub part: String,
    /// Digest of its layer; nothing until it is first needed.
    pub digest: Option<String>,
    /// Bytes of its layer.
    pub bytes: Option<u64>,
    /// Unix milliseconds.
    pub made_at_ms: Option<i64>,
}

/// What the machine knows of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeUse {
    /// Bytes that it takes on the disk.
    pub used_bytes: u64,
    /// The instance that has it.
    pub instance: Option<InstanceId>,
}

/// What lies in other rooms.
pub trait Actions: Send + Sync + 'static {
    /// An app was changed: whoever brings it about looks at it now.
    fn wake(&self, app: AppId);

    /// Asks the policies about a change that is not made yet; at once where there is none.
    /// `Refused` says who does not allow it, and why.
    fn judge<'a>(&'a self, app: Option<&'a App>, change: &'a Change, by: &'a By) -> Doing<'a, ()>;

    /// Brings every app's routes to the router, and returns when it serves them.
    fn publish(&self) -> Doing<'_, ()>;

    /// Waits until what runs of the app is what is wanted of it; at once when it is. `Failed` when
    /// it will not come about, with the reason.
    fn settle(&self, app: AppId) -> Doing<'_, ()>;

    /// Builds the newest commit of the app's deploy branch again and deploys it. Returns when the
    /// build's row is written. `Refused` when another push or build has the app.
    fn rebuild(&self, app: App, by: By) -> Doing<'_, Build>;

    /// Ends a running build and waits until its row says so. One that ended already is fine.
    fn cancel_build(&self, build: BuildId) -> Doing<'_, ()>;

    /// Removes everything on the machine that belonged to a destroyed app, then forgets it. Does
    /// not wait.
    fn clean_up(&self, app: App);

    /// What is known of every volume that has a disk.
    fn volumes(&self) -> Doing<'_, BTreeMap<VolumeId, VolumeUse>>;

    /// Removes the disks of an app's removed volumes. One that an ending instance still has goes
    /// later.
    fn drop_volumes(&self, app: AppId) -> Doing<'_, ()>;

    /// What is decided of extensions.
    fn extensions(&self) -> &dyn ExtensionActions;

    /// What is decided of buildpacks.
    fn buildpacks(&self) -> &dyn BuildpackActions;

    /// What is done to add-ons.
    fn addons(&self) -> &dyn AddonActions;

    /// How a log drain does; nothing where it does not run.
    fn drain_state(&self, id: DrainId) -> Option<DrainState>;

    /// What is known of an app's running instances.
    fn live(&self, app: AppId) -> Doing<'_, BTreeMap<InstanceId, Live>>;

    /// Lines of an app's log, oldest first.
    fn log(&self, app: App, filter: LogFilter) -> Doing<'_, LogStream>;

    /// Starts a one-off command. Without `detach` it waits for [`Actions::attach`], for ten
    /// seconds.
    fn start_run(&self, app: App, run: NewRun, caller: Caller) -> Doing<'_, InstanceRecord>;

    /// The session of a one-off command that waits for it.
    fn attach(&self, app: AppId, run: InstanceId) -> Doing<'_, Session>;

    /// Ends a one-off command. One that is over is fine.
    fn stop_run(&self, app: AppId, run: InstanceId) -> Doing<'_, ()>;

    /// Runs a command in a running instance.
    fn exec(
        &self,
        app: App,
        instance: InstanceRecord,
        command: Vec<String>,
        terminal: Option<Size>,
    ) -> Doing<'_, Session>;

    /// Every part of every stack.
    fn stacks(&self) -> Doing<'_, Vec<StackPart>>;

    /// Makes a stack anew and gives its parts when it is made. `Missing` for an unknown name.
    fn update_stack(&self, name: String, caller: Caller) -> Doing<'_, Vec<StackPart>>;

    /// Whether the parts of the platform are well.
    fn checks(&self) -> Doing<'_, Vec<Check>>;

    /// Begins to stop everything; every instance gets `grace_ms` to end.
    fn down(&self, grace_ms: u32) -> Doing<'_, ()>;
}
