//! Hosts of instances. There are exactly two kinds: containers behind the agent, and components
//! in the Wasm worker.

pub mod embedded;
pub(crate) mod environment;
pub mod wasm;

use std::collections::BTreeMap;

use berth_model::rollout::Container;
use berth_model::{App, InstanceId, InstanceRecord, InstanceRole, Release, TargetAddress, Volume};

use crate::error::DeployError;
use crate::records::Launch;

pub use embedded::Embedded;
pub use wasm::{Loaded, Wasm, WasmHost, WasmLoad};

/// What is started: an instance of a process, or another command in a container of the release.
#[derive(Clone, Copy)]
pub(crate) struct Order<'a> {
    pub(crate) record: &'a InstanceRecord,
    pub(crate) app: &'a App,
    pub(crate) release: &'a Release,
    pub(crate) launch: &'a Launch,
    /// The app's volumes.
    pub(crate) volumes: &'a [Volume],
}

impl Order<'_> {
    /// The volumes that it mounts: an instance those of its process, a command none.
    pub(crate) fn mounts(&self) -> impl Iterator<Item = &Volume> {
        let own = |volume: &&Volume| {
            self.record.role == InstanceRole::Instance && volume.process == self.record.process
        };
        self.volumes.iter().filter(own)
    }
}

/// How a start went when it did not go well.
#[derive(Debug)]
pub(crate) enum StartError {
    /// Nothing runs under this id, and nothing will.
    Refused(String),
    /// Something was started under this id before.
    Used,
    /// Nothing is known: the connection broke. To be looked at again.
    Unknown(DeployError),
}

impl From<DeployError> for StartError {
    fn from(error: DeployError) -> Self {
        Self::Unknown(error)
    }
}

/// What every host can do.
pub(crate) trait Driver {
    /// Starts what was ordered and says where it is reached.
    fn start(
        &self,
        order: Order<'_>,
    ) -> impl Future<Output = Result<Option<TargetAddress>, StartError>> + Send;

    /// Ends an instance and everything of it; fine when there is nothing.
    fn stop(
        &self,
        instance: InstanceId,
        grace_ms: u32,
    ) -> impl Future<Output = Result<(), DeployError>> + Send;

    /// Everything that runs, or ended and was not cleared.
    fn list(
        &self,
    ) -> impl Future<Output = Result<BTreeMap<InstanceId, Container>, DeployError>> + Send;
}
