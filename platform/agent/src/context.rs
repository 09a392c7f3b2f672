//! What every verb may know: where things lie, which ids and addresses are this data folder's.
//! Paths are made here from ids and digests only; no path ever comes from a caller.

use std::path::{Path, PathBuf};

use berth_container::{Ids, Network};
use berth_model::{AppId, Digest, InstanceId, VolumeId};

use crate::agent_log::AgentLog;
use crate::cgroup::Hierarchy;
use crate::instances::Instances;
use crate::layers::Trees;
use crate::network::Net;
use crate::worker::Workers;

/// User ids in one block.
pub(crate) const BLOCK_IDS: u32 = 65_536;

/// A range of 65,536 host user ids that a user namespace's 0..65535 is mapped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct IdBlock {
    /// The host id of the namespace's id 0.
    pub(crate) base: u32,
}

impl IdBlock {
    /// The host id of an id inside the namespace.
    pub(crate) fn host(self, inside: u16) -> u32 {
        self.base + u32::from(inside)
    }

    /// Whether a host id is one of the block.
    pub(crate) fn has(self, id: u32) -> bool {
        (self.base..self.base + BLOCK_IDS).contains(&id)
    }
}

/// The agent of one data folder.
pub(crate) struct Context {
    /// The data folder.
    pub(crate) data: PathBuf,
    /// `/run/berth/<data-id>`, always a tmpfs.
    pub(crate) run: PathBuf,
    /// Where this build's programs lie.
    pub(crate) bin: PathBuf,
    /// Build id of these programs: the name of that folder.
    pub(crate) build: String,
    /// First host id of the data folder's range.
    pub(crate) uid_base: u32,
    /// Ids of the platform's own processes.
    pub(crate) ids: Ids,
    /// Addresses of the instances.
    pub(crate) network: Network,
    /// Their network.
    pub(crate) net: Net,
    /// Where control groups are made.
    pub(crate) cgroups: Hierarchy,
    /// The containers.
    pub(crate) instances: Instances,
    /// Layers that are being unpacked.
    pub(crate) trees: Trees,
    /// The platform's long-lived programs.
    pub(crate) workers: Workers,
    /// The agent's own log.
    pub(crate) log: AgentLog,
}

impl Context {
    /// Block `number` of the data folder's range: 0 the platform, 1 stacks, then two per app.
    fn block(&self, number: u32) -> IdBlock {
        IdBlock { base: self.uid_base + number * BLOCK_IDS }
    }

    /// Where stacks are made.
    pub(crate) fn stack_block(&self) -> IdBlock {
        self.block(1)
    }

    /// Where an app's containers run. `block` must be below `ids.blocks`.
    pub(crate) fn app_block(&self, block: u16) -> IdBlock {
        self.block(2 + 2 * u32::from(block))
    }

    /// Where an app's builds run. `block` must be below `ids.blocks`.
    pub(crate) fn build_block(&self, block: u16) -> IdBlock {
        self.block(3 + 2 * u32::from(block))
    }

    /// All unpacked layers.
    pub(crate) fn trees(&self) -> PathBuf {
        self.data.join("trees")
    }

    /// The unpacked tree of a layer; its files belong to root, ids as in the tar.
    pub(crate) fn tree(&self, diff_id: &Digest) -> PathBuf {
        self.trees().join(diff_id.hex())
    }

    /// Loop files.
    pub(crate) fn disks(&self) -> PathBuf {
        self.data.join("disks")
    }

    /// The loop file of an app's named build caches.
    pub(crate) fn cache_disk(&self, app: AppId) -> PathBuf {
        self.disks().join(format!("cache-{app}"))
    }

    /// The disk of a volume.
    pub(crate) fn volume_disk(&self, volume: VolumeId) -> PathBuf {
        self.disks().join(format!("volume-{volume}"))
    }

    /// The loop file of a container's own writes.
    pub(crate) fn instance_disk(&self, instance: InstanceId) -> PathBuf {
        self.disks().join(instance.to_string())
    }

    /// The log files of a container.
    pub(crate) fn instance_logs(&self, instance: InstanceId) -> PathBuf {
        self.data.join("logs").join(instance.to_string())
    }

    /// The run folder of a container.
    pub(crate) fn instance_run(&self, instance: InstanceId) -> PathBuf {
        self.run.join("i").join(instance.to_string())
    }

    /// One of the platform's own programs: `berthd`, `berth-agent`, `berth-init`.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The repository of an app.
    pub(crate) fn repository(&self, app: AppId) -> PathBuf {
        self.data.join("git").join(format!("{app}.git"))
    }

    /// The agent's socket.
    pub(crate) fn socket(run: &Path) -> PathBuf {
        run.join("agent.sock")
    }
}
