//! Containers on this machine, through the agent.
//!
//! Brings layers from the blob store to the agent's trees, starts and stops containers, and tells
//! what runs. What runs is always asked for, never remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use berth_blobs::BlobStore;
use berth_container::{
    APP_PORT, Agent, AgentError, ContainerState, FailureCode, InstanceStatus, LAYERS_MAX, Payload,
    Reach, Reply, Request, Role, Start, VolumeMount,
};
use berth_model::addon::Link;
use berth_model::rollout::{Container, Phase};
use berth_model::{App, AppId, Digest, InstanceId, InstanceRole, LayerRef, TargetAddress, Volume};
use futures_util::StreamExt;
use rustix::fs::MemfdFlags;
use tokio::sync::Mutex;

use super::environment::payload;
use super::{Driver, Order, StartError};
use crate::clock::wall_ms;
use crate::error::DeployError;

/// Layers that are unpacked at one time.
const UNPACK_MAX: usize = 2;

/// The agent of this data folder and the blobs that it unpacks.
#[derive(Debug)]
pub struct Embedded {
    pub(crate) agent: Agent,
    blobs: Arc<BlobStore>,
    census: Mutex<Option<Census>>,
}

/// What ran when the agent was last asked.
#[derive(Debug, Clone)]
struct Census {
    asked: Instant,
    statuses: Arc<Vec<InstanceStatus>>,
}

impl Embedded {
    /// A driver over the agent. Nothing is asked of it yet.
    pub fn new(agent: Agent, blobs: Arc<BlobStore>) -> Self {
        Self { agent, blobs, census: Mutex::new(None) }
    }

    /// All containers of the data folder, asked for after this call began; callers that wait at
    /// the same time share one answer.
    pub(crate) async fn statuses(&self) -> Result<Arc<Vec<InstanceStatus>>, DeployError> {
        let arrived = Instant::now();
        let mut census = self.census.lock().await;
        if let Some(known) = census.as_ref().filter(|known| known.asked >= arrived) {
            return Ok(Arc::clone(&known.statuses));
        }
        let asked = Instant::now();
        let what = "list containers";
        let (reply, _) = self.call(what, &Request::List, &[]).await?;
        let Reply::Instances { instances } = reply else {
            return Err(DeployError::Reply { what: what.to_owned() });
        };
        let statuses = Arc::new(instances);
        *census = Some(Census { asked, statuses: Arc::clone(&statuses) });
        Ok(statuses)
    }

    /// Whether every layer has been unpacked.
    pub(crate) async fn has_layers(&self, layers: &[LayerRef]) -> Result<bool, DeployError> {
        Ok(self.missing(layers).await?.is_empty())
    }

    async fn missing(&self, layers: &[LayerRef]) -> Result<Vec<Digest>, DeployError> {
        if layers.len() > LAYERS_MAX {
            return Err(DeployError::TooManyLayers { count: layers.len(), max: LAYERS_MAX });
        }
        let what = "list layers";
        let (reply, _) = self.call(what, &Request::LayerList, &[]).await?;
        let Reply::Layers { diff_ids } = reply else {
            return Err(DeployError::Reply { what: what.to_owned() });
        };
        let there: BTreeSet<_> = diff_ids.into_iter().collect();
        let mut missing: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
        missing.retain(|layer| !there.contains(layer));
        missing.sort();
        missing.dedup();
        Ok(missing)
    }

    /// Unpacks the layers that are not there.
    pub(crate) async fn fetch(&self, layers: &[LayerRef]) -> Result<(), DeployError> {
        let missing = self.missing(layers).await?;
        let _lease = self.blobs.lease(missing.iter().copied());
        let mut unpacks = futures_util::stream::iter(missing)
            .map(|layer| self.unpack(layer))
            .buffer_unordered(UNPACK_MAX);
        while let Some(unpacked) = unpacks.next().await {
            unpacked?;
        }
        Ok(())
    }

    async fn unpack(&self, layer: Digest) -> Result<(), DeployError> {
        let blobs = Arc::clone(&self.blobs);
        let opened = tokio::task::spawn_blocking(move || blobs.get(&layer)).await;
        let file = opened
            .map_err(|error| DeployError::Descriptor {
                what: "open a layer",
                source: std::io::Error::other(error),
            })?
            .map_err(|source| DeployError::Layer { layer, source })?;
        let what = format!("unpack layer {layer}");
        self.call(&what, &Request::LayerUnpack { diff_id: layer }, &[file.into()]).await?;
        Ok(())
    }

    pub(crate) async fn call(
        &self,
        what: &str,
        request: &Request,
        descriptors: &[OwnedFd],
    ) -> Result<(Reply, Vec<OwnedFd>), DeployError> {
        self.agent.call(request, descriptors).await.map_err(DeployError::agent(what))
    }

    /// Starts a container whose main process is `process`.
    pub(crate) async fn start_with(
        &self,
        order: Order<'_>,
        process: &Payload,
        time_ms_max: u32,
    ) -> Result<Option<TargetAddress>, StartError> {
        let Order { record, app, launch, .. } = order;
        let start = Request::Start(Start {
            instance: record.id,
            app: app.id,
            block: app.block,
            role: match record.role {
                InstanceRole::Instance => Role::Instance,
                InstanceRole::Release | InstanceRole::Run | InstanceRole::Detached => Role::Run,
            },
            layers: launch.image.layers.iter().map(|layer| layer.diff_id).collect(),
            limits: app.settings.limits.get(&record.process).copied().unwrap_or_default(),
            tty: None,
            stdin: false,
            time_ms_max,
            volumes: order.mounts().map(mount).collect(),
            links: app.settings.links.iter().map(|(app, link)| reach(*app, link)).collect(),
        });
        let mut fetched = false;
        loop {
            let descriptor = payload_descriptor(process)?;
            match self.agent.call(&start, &[descriptor]).await {
                Ok((Reply::Started { address }, _)) => {
                    return Ok(address.map(|ip| TargetAddress::Tcp((ip, port(app)).into())));
                }
                Ok(_) => {
                    let what = format!("start {}", record.id);
                    return Err(StartError::Unknown(DeployError::Reply { what }));
                }
                // A tree that was lost costs one unpack.
                Err(AgentError::Failed { code: FailureCode::NotFound, .. }) if !fetched => {
                    fetched = true;
                    match self.fetch(&launch.image.layers).await {
                        Ok(()) => {}
                        Err(error @ DeployError::TooManyLayers { .. }) => {
                            return Err(StartError::Refused(error.to_string()));
                        }
                        Err(error) => return Err(StartError::Unknown(error)),
                    }
                }
                Err(AgentError::Failed { code: FailureCode::Conflict, .. }) => {
                    return Err(StartError::Used);
                }
                Err(AgentError::Failed { message, .. }) => {
                    return Err(StartError::Refused(message));
                }
                Err(source) => {
                    let what = format!("start {}", record.id);
                    return Err(StartError::Unknown(DeployError::Agent { what, source }));
                }
            }
        }
    }

    /// The address may be given out again; fine when it was already.
    pub(crate) async fn free_address(&self, instance: InstanceId) -> Result<(), DeployError> {
        let freed = self.agent.call(&Request::AddressFree { instance }, &[]).await;
        match freed {
            Ok(_) | Err(AgentError::Failed { code: FailureCode::NotFound, .. }) => Ok(()),
            Err(source) => {
                Err(DeployError::Agent { what: format!("free the address of {instance}"), source })
            }
        }
    }
}

impl Driver for Embedded {
    async fn start(&self, order: Order<'_>) -> Result<Option<TargetAddress>, StartError> {
        let Some(process) = order.release.manifest.processes.get(&order.record.process) else {
            let error = DeployError::NoProcess { process: order.record.process.to_string() };
            return Err(StartError::Refused(error.to_string()));
        };
        let payload = payload(order, process.command.clone(), &process.working_dir, &[]);
        self.start_with(order, &payload, 0).await
    }

    async fn stop(&self, instance: InstanceId, grace_ms: u32) -> Result<(), DeployError> {
        let stopped = self.agent.call(&Request::Stop { instance, grace_ms }, &[]).await;
        match stopped {
            Ok(_) | Err(AgentError::Failed { code: FailureCode::NotFound, .. }) => Ok(()),
            Err(source) => Err(DeployError::Agent { what: format!("stop {instance}"), source }),
        }
    }

    async fn list(&self) -> Result<BTreeMap<InstanceId, Container>, DeployError> {
        let statuses = self.statuses().await?;
        Ok(statuses.iter().map(|status| (status.instance, container(status, APP_PORT))).collect())
    }
}

fn mount(volume: &Volume) -> VolumeMount {
    let Volume { id, size_mib, made, .. } = *volume;
    VolumeMount { volume: id, size_mib, path: volume.path.clone(), fresh: !made }
}

fn reach(app: AppId, link: &Link) -> Reach {
    Reach { app, port: link.port }
}

/// Where the instances of an app listen.
pub(crate) fn port(app: &App) -> u16 {
    app.settings.addon.as_ref().map_or(APP_PORT, |addon| addon.port)
}

/// What the planner needs to know of a container that listens on `port`.
pub(crate) fn container(status: &InstanceStatus, port: u16) -> Container {
    let running_ms = wall_ms().saturating_sub(status.started_at_ms);
    Container {
        phase: match status.state {
            ContainerState::Starting => Phase::Starting,
            ContainerState::Running => Phase::Running,
            ContainerState::Waiting => Phase::Waiting,
            ContainerState::Exited => Phase::Exited,
        },
        attempt: status.attempt,
        exit_code: status.last_exit.as_ref().map(|exit| exit.code),
        running_ms: u64::try_from(running_ms).unwrap_or(0),
        address: status.address.map(|ip| TargetAddress::Tcp((ip, port).into())),
    }
}

/// A payload as a descriptor that is read to its end. It lies in memory: it holds secrets.
pub(crate) fn payload_descriptor(payload: &Payload) -> Result<OwnedFd, DeployError> {
    let failed = || DeployError::descriptor("hand over a command");
    let text = serde_json::to_vec(payload).map_err(|error| failed()(error.into()))?;
    let descriptor = rustix::fs::memfd_create("payload", MemfdFlags::CLOEXEC)
        .map_err(|error| failed()(error.into()))?;
    let mut file = std::fs::File::from(descriptor);
    file.write_all(&text).and_then(|()| file.rewind()).map_err(failed())?;
    Ok(file.into())
}
