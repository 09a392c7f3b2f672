//! One build while it runs: the source, the layers, the workspace and the build container, shared
//! by the buildpacks that build one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_blobs::BlobStore;
use berth_container::{Agent, Request as Ask, Role, Start};
use berth_model::{Digest, LayerRef};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::BuildError;
use crate::archive::Archive;
use crate::container::Container;
use crate::environment::{Change, TOPS};
use crate::inventory::Inventory;
use crate::log::BuildLog;
use crate::request::{Request, Settings, Stack, StepTime};
use crate::state::Restored;
use crate::tree::{self, Budget, Files, Workspace, Written};

/// Most layers of one build.
pub(crate) const LAYERS_MAX: usize = 40;

/// What all buildpacks of a build share.
pub(crate) struct Session {
    pub(crate) agent: Agent,
    pub(crate) blobs: BlobStore,
    pub(crate) request: Request,
    pub(crate) settings: Arc<Settings>,
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) archive: Archive,
    pub(crate) log: BuildLog,
    pub(crate) cancel: CancellationToken,
    /// Variables of build tools from `berth.toml` and `project.toml`, then the configuration.
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) deadline: Instant,
    pub(crate) state: tokio::sync::Mutex<State>,
    /// Set once it is known or was needed.
    pub(crate) stack: OnceCell<Stack>,
    /// Keeps the blobs that the build may use again.
    pub(crate) _lease: berth_blobs::Lease,
}

/// What changes while buildpacks build.
#[derive(Default)]
pub(crate) struct State {
    /// Chosen buildpacks, in their order.
    pub(crate) order: Vec<String>,
    /// By buildpack and name.
    pub(crate) layers: BTreeMap<(String, String), Layer>,
    /// Layers of the last build that can be used again.
    pub(crate) restored: BTreeMap<(String, String), Restored>,
    pub(crate) workspace: Workspace,
    pub(crate) workspace_in: InContainer,
    pub(crate) container: Option<Container>,
    /// The container while it starts. A build that ends meanwhile must still end it: it outlives
    /// the connection that asked for it.
    pub(crate) starting: Option<JoinHandle<Result<Container, BuildError>>>,
    /// Layers that the container was started with, or that were dropped after they came into it:
    /// what their directories hold is of no use to a layer that is not restored.
    pub(crate) stale: BTreeSet<(String, String)>,
    pub(crate) budget: Budget,
    pub(crate) times: Vec<StepTime>,
}

/// The app's tree in the build container.
#[derive(Default)]
pub(crate) struct InContainer {
    /// It was put there.
    pub(crate) extracted: bool,
    /// A step changed it, so the layer is made from there.
    pub(crate) filled: bool,
    /// Changes of buildpacks that are not there yet.
    pub(crate) undelivered: Files,
    pub(crate) removed: Vec<String>,
}

/// A layer that a buildpack opened.
pub(crate) struct Layer {
    pub(crate) kinds: Kinds,
    /// What the last build left, as long as it is of use.
    pub(crate) restored: Option<Restored>,
    pub(crate) contents: Contents,
    pub(crate) metadata: String,
    pub(crate) changes: Vec<Change>,
    /// The changes are this build's, not the last one's.
    pub(crate) changes_set: bool,
    /// What was written and is not in the container yet.
    pub(crate) undelivered: Files,
    /// Its directory is in the container.
    pub(crate) in_container: bool,
}

/// Where the contents of a layer are.
pub(crate) enum Contents {
    /// In the blob of the last build.
    Kept,
    /// In memory: a buildpack wrote all of it.
    Written(Files),
    /// In the build container: a step fills it.
    Filled,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kinds {
    pub(crate) launch: bool,
    pub(crate) build: bool,
    pub(crate) cache: bool,
}

/// `/layers/<buildpack>/<layer>`.
pub(crate) fn layer_path(buildpack: &str, layer: &str) -> String {
    format!("/layers/{buildpack}/{layer}")
}

impl Layer {
    /// Directories at its top that are put on paths, while its buildpack still builds.
    pub(crate) fn tops(&self) -> Vec<String> {
        match &self.contents {
            Contents::Kept => {
                self.restored.as_ref().map(|restored| restored.tops.clone()).unwrap_or_default()
            }
            Contents::Written(files) => {
                let has = |top: &str| {
                    files
                        .keys()
                        .any(|path| path.starts_with(top) && path[top.len()..].starts_with('/'))
                };
                TOPS.into_iter().filter(|top| has(top)).map(str::to_owned).collect()
            }
            // Not looked at yet. A directory on a path that is not there does no harm to a tool.
            Contents::Filled => TOPS.map(str::to_owned).to_vec(),
        }
    }
}

impl Session {
    /// Notes how long something took.
    pub(crate) fn took(state: &mut State, name: impl Into<String>, took: Duration) {
        state.times.push(StepTime { name: name.into(), took });
    }

    /// The stack, made now where there is none.
    pub(crate) async fn stack(&self) -> Result<&Stack, BuildError> {
        let needed = self.stack.get_or_try_init(|| async {
            self.request.stack.need().await.map_err(BuildError::Stack)
        });
        tokio::select! {
            stack = needed => stack,
            () = self.cancel.cancelled() => Err(BuildError::Cancelled),
        }
    }

    /// Starts the build container if there is none.
    pub(crate) async fn started<'s>(
        &self,
        state: &'s mut State,
    ) -> Result<&'s Container, BuildError> {
        if state.container.is_none() {
            let begun = Instant::now();
            let kept: Vec<((String, String), Restored)> = state
                .restored
                .iter()
                .filter(|(key, _)| {
                    state
                        .layers
                        .get(*key)
                        .is_none_or(|layer| !matches!(layer.contents, Contents::Written(_)))
                })
                .map(|(key, restored)| (key.clone(), restored.clone()))
                .collect();
            let layers: Vec<Digest> = self
                .stack()
                .await?
                .build
                .iter()
                .map(|layer| layer.diff_id)
                .chain(kept.iter().map(|(_, restored)| restored.diff_id))
                .collect();
            self.unpack(&layers).await?;
            let left = self.deadline.saturating_duration_since(Instant::now());
            let start = Start {
                instance: self.request.container,
                app: self.request.app,
                block: self.request.block,
                role: Role::Build,
                layers,
                limits: self.settings.limits,
                tty: None,
                stdin: false,
                // A little longer than the build: the build says better why it ends.
                time_ms_max: u32::try_from(left.as_millis())
                    .unwrap_or(u32::MAX)
                    .saturating_add(30_000)
                    .min(86_400_000),
                volumes: Vec::new(),
                links: Vec::new(),
            };
            let log = self.log.clone();
            let note = Arc::new(move |line: &str| log.body(line));
            let (policy, bounds) =
                (Arc::clone(&self.settings.network), self.settings.network_bounds);
            let agent = self.agent.clone();
            let start = async move { Container::start(&agent, start, policy, bounds, note).await };
            let starting = state.starting.insert(tokio::spawn(start));
            let started = tokio::select! {
                started = starting => started,
                () = self.cancel.cancelled() => return Err(BuildError::Cancelled),
            };
            state.starting = None;
            let container =
                started.map_err(BuildError::platform("start the build container"))??;
            state.container = Some(container);
            state.stale = kept.into_iter().map(|(key, _)| key).collect();
            Self::took(state, "start of the build container", begun.elapsed());
        }
        state.container.as_ref().ok_or(BuildError::Cancelled)
    }

    /// Makes sure that the agent has the trees of layers.
    async fn unpack(&self, layers: &[Digest]) -> Result<(), BuildError> {
        let there: BTreeSet<Digest> = match self.agent.call(&Ask::LayerList, &[]).await?.0 {
            berth_container::Reply::Layers { diff_ids } => diff_ids.into_iter().collect(),
            _ => BTreeSet::new(),
        };
        for diff_id in layers.iter().filter(|layer| !there.contains(layer)) {
            let tar = self.blobs.get(diff_id)?;
            let (ask, tar) = (Ask::LayerUnpack { diff_id: *diff_id }, [tar.into()]);
            tokio::select! {
                unpacked = self.agent.call(&ask, &tar) => drop(unpacked?),
                () = self.cancel.cancelled() => return Err(BuildError::Cancelled),
            };
        }
        Ok(())
    }

    /// Brings what buildpacks wrote or dropped into the container, which must run.
    pub(crate) async fn deliver(&self, state: &mut State) -> Result<(), BuildError> {
        let State { container: Some(container), layers, stale, .. } = state else { return Ok(()) };
        let mut groups: Vec<(String, Files)> = Vec::new();
        for ((buildpack, name), layer) in layers.iter_mut() {
            let kept = matches!(layer.contents, Contents::Kept);
            if layer.in_container && layer.undelivered.is_empty() || kept {
                continue;
            }
            if layer.restored.is_none() && stale.remove(&(buildpack.clone(), name.clone())) {
                container.remove(&layer_path(buildpack, name), &self.cancel).await?;
            }
            layer.in_container = true;
            groups.push((format!("{buildpack}/{name}/"), std::mem::take(&mut layer.undelivered)));
        }
        if !groups.is_empty() {
            let fill = move |out: &mut dyn std::io::Write| {
                let groups: Vec<(String, &Files)> =
                    groups.iter().map(|(prefix, files)| (prefix.clone(), files)).collect();
                tree::write_files(&groups, out).map(drop)
            };
            container.extract("/layers", Box::new(fill), &self.cancel).await?;
        }
        self.deliver_workspace(state).await
    }

    async fn deliver_workspace(&self, state: &mut State) -> Result<(), BuildError> {
        let State { container: Some(container), workspace_in, .. } = state else { return Ok(()) };
        if !workspace_in.extracted {
            return Ok(());
        }
        for path in std::mem::take(&mut workspace_in.removed) {
            container.remove(&format!("/workspace/{path}"), &self.cancel).await?;
        }
        let files = std::mem::take(&mut workspace_in.undelivered);
        // A link cannot take the place of a directory by itself.
        for (path, written) in &files {
            if matches!(written, Written::Symlink { .. }) {
                container.remove(&format!("/workspace/{path}"), &self.cancel).await?;
            }
        }
        if !files.is_empty() {
            let fill = move |out: &mut dyn std::io::Write| {
                tree::write_files(&[(String::new(), &files)], out).map(drop)
            };
            container.extract("/workspace", Box::new(fill), &self.cancel).await?;
        }
        Ok(())
    }

    /// Puts the whole tree into the container, once.
    pub(crate) async fn extract_source(&self, state: &mut State) -> Result<(), BuildError> {
        let State { container: Some(container), workspace_in, workspace, .. } = state else {
            return Ok(());
        };
        if workspace_in.extracted {
            return Ok(());
        }
        let begun = Instant::now();
        let (archive, changes) = (self.archive.clone(), workspace.clone());
        let fill =
            move |out: &mut dyn std::io::Write| changes.write_tar(&archive, "", out).map(drop);
        container.extract("/workspace", Box::new(fill), &self.cancel).await?;
        state.workspace_in = InContainer { extracted: true, ..InContainer::default() };
        Self::took(state, "copy of the source", begun.elapsed());
        Ok(())
    }
}

/// The name of a layer for people and in an image: `python/packages`.
pub(crate) fn layer_ref(buildpack: &str, name: &str, diff_id: Digest, bytes: u64) -> LayerRef {
    LayerRef { diff_id, bytes, name: format!("{buildpack}/{name}") }
}
