//! What the reconciler reads and writes durably, and how routes are published.
//!
//! The server implements [`Records`] over the store and the router's connection. Every write is
//! one transaction with its event row and is idempotent: writing what is there already succeeds.
//! States only go forward; an implementation refuses (or ignores) a write that goes back.
//! Times are Unix milliseconds, given by the caller.

use std::collections::BTreeSet;
use std::future::Future;

use berth_model::{
    App, AppId, Deployment, DeploymentId, DeploymentState, InstanceId, InstanceRecord, Release,
    ReleaseId, Volume, VolumeId, image::Image,
};

/// The store or the router could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {source}")]
pub struct RecordsError {
    /// What was asked: `read app app_0…`, `publish routes`.
    pub what: String,
    /// Why it failed.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl RecordsError {
    /// An error of doing `what`.
    pub fn new(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { what: what.into(), source: source.into() }
    }
}

/// Everything the planner must know of one app, read in one transaction.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The app.
    pub app: App,
    /// The release of `app.current_release`: what serves, or is being switched to.
    pub current: Option<Release>,
    /// Deployments that are not finished, oldest first, each with its release.
    pub deployments: Vec<(Deployment, Release)>,
    /// Instances that are not in a terminal state, or still hold an address, or were created by one
    /// of `deployments`.
    pub instances: Vec<InstanceRecord>,
    /// The app's volumes.
    pub volumes: Vec<Volume>,
}

/// What is needed to start a container of a release; read only when one is started.
#[derive(Clone)]
pub struct Launch {
    /// The image: layers, environment, manifest.
    pub image: Image,
    /// The app's configuration of the release's version, decrypted.
    pub config: Vec<(String, String)>,
}

/// What the router serves of one app.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routing {
    /// Targets of the app in the newest table that the router acknowledged. Nothing: no table was
    /// acknowledged since the server started.
    pub targets: Option<BTreeSet<InstanceId>>,
    /// Instances that have left the table and have no request in flight any more. One that comes
    /// into a table again leaves this set: it will have new requests.
    pub drained: BTreeSet<InstanceId>,
}

/// The durable side of deployments.
pub trait Records: Send + Sync + 'static {
    /// Every app that exists, and every destroyed one that is not forgotten yet.
    fn apps(&self) -> impl Future<Output = Result<Vec<AppId>, RecordsError>> + Send;

    /// One app; nothing when it was destroyed.
    fn snapshot(
        &self,
        app: AppId,
    ) -> impl Future<Output = Result<Option<Snapshot>, RecordsError>> + Send;

    /// Instances of a destroyed app that are not in a terminal state, or still hold an address.
    fn leftovers(
        &self,
        app: AppId,
    ) -> impl Future<Output = Result<Vec<InstanceRecord>, RecordsError>> + Send;

    /// What a release's containers are started from.
    fn launch(
        &self,
        release: ReleaseId,
    ) -> impl Future<Output = Result<Launch, RecordsError>> + Send;

    /// One instance row, in whatever state.
    fn instance(
        &self,
        instance: InstanceId,
    ) -> impl Future<Output = Result<Option<InstanceRecord>, RecordsError>> + Send;

    /// Inserts an instance row, or replaces the one with its id.
    fn put_instance(
        &self,
        record: &InstanceRecord,
    ) -> impl Future<Output = Result<(), RecordsError>> + Send;

    /// Writes down that an instance ran with these volumes: their disks exist, and are never made
    /// anew.
    fn volumes_made(
        &self,
        volumes: &[VolumeId],
    ) -> impl Future<Output = Result<(), RecordsError>> + Send;

    /// Moves a deployment forward to a state that is not terminal, and not `Switching`. Sets
    /// `changed_at_ms`.
    fn advance(
        &self,
        deployment: DeploymentId,
        to: DeploymentState,
        at_ms: i64,
    ) -> impl Future<Output = Result<(), RecordsError>> + Send;

    /// The durable switch, in one transaction: the deployment becomes `Switching`, its `previous`
    /// the app's `current_release`, and the app's `current_release` the deployment's release.
    fn switch(
        &self,
        deployment: DeploymentId,
        at_ms: i64,
    ) -> impl Future<Output = Result<(), RecordsError>> + Send;

    /// Ends a deployment: `Done`, `Failed` or `Superseded`.
    fn finish(
        &self,
        deployment: DeploymentId,
        state: DeploymentState,
        error: Option<String>,
        at_ms: i64,
    ) -> impl Future<Output = Result<(), RecordsError>> + Send;

    /// In one transaction: the deployment becomes `RolledBack` with its error, and a new one of
    /// its `previous` release is queued with `rollback` set.
    fn roll_back(
        &self,
        deployment: DeploymentId,
        error: String,
        at_ms: i64,
    ) -> impl Future<Output = Result<(), RecordsError>> + Send;

    /// Derives the table from the rows (`berth_model::rollout::targets` for each app), writes and
    /// publishes it under a new generation, and returns when the router acknowledged that one or a
    /// newer one. Fails after a few seconds without an acknowledgement.
    fn publish(&self, app: AppId) -> impl Future<Output = Result<(), RecordsError>> + Send;

    /// What the router serves of the app, from memory.
    fn routing(&self, app: AppId) -> Routing;

    /// Asks the router to finish what is in flight on an instance that the table left, within
    /// `limit_ms`. Does not wait; the end appears in [`Routing::drained`] and wakes the app.
    fn drain(&self, instance: InstanceId, limit_ms: u32);
}
