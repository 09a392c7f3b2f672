//! The room's entry: one build from the source to the layers and the manifest.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use berth_blobs::BlobStore;
use berth_container::{Agent, AgentError, FailureCode, Reply, Request as Ask, Role};
use berth_extensions::Limits;
use berth_extensions::buildpack::{BuildpackError, BuildpackHost, Output, Require};
use berth_model::Digest;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::archive::Archive;
use crate::host::Host;
use crate::installed::{Installed, Loaded};
use crate::inventory::Inventory;
use crate::log::{BuildLog, Log};
use crate::manifest::{AppJson, BerthToml, ConfigWish, FILE_BYTES_MAX, ManifestError, ProjectToml};
use crate::plan::Chosen;
use crate::request::{Outcome, Request, Settings, config_digest, stack_digest};
use crate::session::Session;
use crate::state::State as Stored;
use crate::{BuildError, detect, environment, finish};

/// Builds apps. One per process; cheap to clone.
#[derive(Clone)]
pub struct Builder {
    agent: Agent,
    blobs: BlobStore,
    installed: Arc<RwLock<Arc<Installed>>>,
    inventory: Arc<Inventory>,
    settings: Arc<Settings>,
}

impl Builder {
    /// A builder with the installed buildpacks.
    pub fn new(
        agent: Agent,
        blobs: BlobStore,
        buildpacks: Vec<Loaded>,
        inventory: Inventory,
        settings: Settings,
    ) -> Self {
        let installed = Installed { buildpacks, broken: Vec::new(), order: settings.order.clone() };
        Self {
            agent,
            blobs,
            installed: Arc::new(RwLock::new(Arc::new(installed))),
            inventory: Arc::new(inventory),
            settings: Arc::new(settings),
        }
    }

    /// Other buildpacks, for builds that begin from now on.
    pub fn install(&self, installed: Installed) {
        *self.installed.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(installed);
    }

    /// What is installed now.
    pub fn installed(&self) -> Arc<Installed> {
        Arc::clone(&self.installed.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same, with what is installed now whatever is installed later: what a key was made over
    /// must be what builds.
    pub fn pinned(&self) -> Self {
        Self { installed: Arc::new(RwLock::new(self.installed())), ..self.clone() }
    }

    /// Digests of all that the installed buildpacks decide by, for [`crate::memo_key`].
    pub fn buildpack_digests(&self) -> Vec<Digest> {
        self.installed().digests()
    }

    /// Ends the build containers that a platform left which did not come to its own end; call it
    /// before the first build. Gives their number.
    ///
    /// # Errors
    /// The agent does not list its containers. One that cannot be ended is only logged.
    pub async fn end_abandoned(&self) -> Result<usize, BuildError> {
        let mut ended = 0;
        if let (Reply::Instances { instances }, _) = self.agent.call(&Ask::List, &[]).await? {
            for left in instances.iter().filter(|left| left.role == Role::Build) {
                let stop = Ask::Stop { instance: left.instance, grace_ms: 0 };
                match self.agent.call(&stop, &[]).await {
                    Ok(_) => ended += 1,
                    Err(AgentError::Failed { code: FailureCode::NotFound, .. }) => {}
                    // One that stays must not keep a whole platform from its start.
                    Err(error) => tracing::error!(
                        instance = %left.instance,
                        "an old build's container could not be ended: {error}"
                    ),
                }
            }
        }
        Ok(ended)
    }

    /// What the `app.json` of an archived source wants in the configuration, for a build that is
    /// skipped because of its memo key.
    ///
    /// # Errors
    /// The archive is gone or broken, or the file is.
    pub async fn wishes(&self, source: Digest) -> Result<Vec<ConfigWish>, BuildError> {
        let blobs = self.blobs.clone();
        let read = move || {
            let archive = Archive::open(&blobs, &source)?;
            Ok(file(&archive, "app.json", AppJson::parse)?.env)
        };
        let read = tokio::task::spawn_blocking(read).await;
        read.map_err(BuildError::platform("read the source"))?
    }

    /// Builds. Whatever way it ends, the build container is gone afterwards; to end it early,
    /// cancel the token and go on waiting.
    ///
    /// # Errors
    /// [`BuildError`], whose text is for the one who pushed.
    pub async fn build(
        &self,
        request: Request,
        log: Arc<dyn Log>,
        cancel: CancellationToken,
    ) -> Result<Outcome, BuildError> {
        // A token of this build alone: the time limit cancels what still runs.
        let cancel = cancel.child_token();
        let limit = Duration::from_secs(self.settings.build_s_max);
        let prepared = self.prepare(request, log, cancel.clone()).await?;
        let session = Arc::clone(&prepared.session);
        let built = tokio::select! {
            built = tokio::time::timeout(limit, self.run(prepared)) => built,
            () = cancel.cancelled() => Ok(Err(BuildError::Cancelled)),
        };
        cancel.cancel();
        let state = &mut *session.state.lock().await;
        if let Some(starting) = state.starting.take() {
            state.container = starting.await.ok().and_then(Result::ok);
        }
        if let Some(container) = state.container.take() {
            container.stop().await;
        }
        built.unwrap_or(Err(BuildError::TimedOut { minutes: self.settings.build_s_max / 60 }))
    }

    async fn prepare(
        &self,
        request: Request,
        log: Arc<dyn Log>,
        cancel: CancellationToken,
    ) -> Result<Prepared, BuildError> {
        let begun = Instant::now();
        let (blobs, digest) = (self.blobs.clone(), request.source.archive);
        let archive = tokio::task::spawn_blocking(move || Archive::open(&blobs, &digest)).await;
        let archive = archive.map_err(BuildError::platform("read the source"))??;
        let log = BuildLog::new(log, &request.config);
        let files = Files::read(&archive)?;
        let config = files.config(&request, &log)?;
        let stack = request.stack.known();
        let installed = self.installed();
        let restored = Stored::usable(
            request.restored.as_deref(),
            (stack_digest(stack.as_ref()), steering(&config)),
            &installed.buildpacks.iter().map(|loaded| (loaded.id.clone(), loaded.digest)).collect(),
            &self.blobs,
        );
        // Their blobs stay while the build may use them.
        let lease = self.blobs.lease(restored.values().map(|layer| layer.diff_id).chain([digest]));
        let state = crate::session::State { restored, ..crate::session::State::default() };
        let session = Arc::new(Session {
            agent: self.agent.clone(),
            blobs: self.blobs.clone(),
            settings: Arc::clone(&self.settings),
            inventory: Arc::clone(&self.inventory),
            archive,
            log,
            cancel,
            env: config,
            deadline: begun + Duration::from_secs(self.settings.build_s_max),
            state: tokio::sync::Mutex::new(state),
            stack: OnceCell::new_with(stack),
            request,
            _lease: lease,
        });
        Session::took(&mut *session.state.lock().await, "index of the source", begun.elapsed());
        Ok(Prepared { session, files, installed })
    }

    async fn run(&self, prepared: Prepared) -> Result<Outcome, BuildError> {
        let Prepared { session, files, installed } = prepared;
        let chosen = detect::detect(&session, &installed, &files.berth, &files.project).await?;
        let names: Vec<&str> = chosen.iter().map(|chosen| chosen.id.as_str()).collect();
        session.log.heading(&format!("Building with {}", names.join(", ")));
        let mut outputs = Vec::new();
        let mut plan: Vec<Require> = Vec::new();
        for chosen in &chosen {
            let loaded = installed.buildpacks.iter().find(|loaded| loaded.id == chosen.id);
            let loaded = loaded.ok_or_else(|| BuildError::Guest {
                id: chosen.id.clone(),
                problem: "is not installed".to_owned(),
            })?;
            add_requirements(&mut plan, chosen);
            outputs.push((chosen.id.clone(), call(&session, loaded, chosen, &mut plan).await?));
        }
        finish::finish(session, &installed.buildpacks, outputs, files).await
    }
}

/// A build that may begin.
struct Prepared {
    session: Arc<Session>,
    files: Files,
    installed: Arc<Installed>,
}

/// The files in which an app says something of itself.
pub(crate) struct Files {
    pub(crate) berth: BerthToml,
    pub(crate) project: ProjectToml,
    pub(crate) app: AppJson,
}

impl Files {
    fn read(archive: &Archive) -> Result<Self, BuildError> {
        Ok(Self {
            berth: file(archive, "berth.toml", BerthToml::parse)?,
            project: file(archive, "project.toml", ProjectToml::parse)?,
            app: file(archive, "app.json", AppJson::parse)?,
        })
    }

    /// Says what has no effect, checks what is required, and gives the variables of build tools.
    fn config(
        &self,
        request: &Request,
        log: &BuildLog,
    ) -> Result<BTreeMap<String, String>, BuildError> {
        if !self.app.without_effect.is_empty() {
            log.body(&format!("app.json: no effect here: {}", self.app.without_effect.join(", ")));
        }
        for warning in self.app.warnings.iter().chain(&self.project.warnings) {
            log.warning(warning);
        }
        let mut env = self.project.build_env.clone();
        env.extend(self.berth.build_env.clone());
        for wish in &self.app.env {
            match &wish.value {
                Some(value) => drop(env.insert(wish.name.clone(), value.clone())),
                None if wish.required
                    && !wish.secret
                    && !request.config.contains_key(&wish.name) =>
                {
                    return Err(BuildError::ConfigMissing(wish.name.clone()));
                }
                None => {}
            }
        }
        env.extend(request.config.clone());
        Ok(env)
    }
}

fn file<T: Default>(
    archive: &Archive,
    name: &str,
    parse: fn(&str) -> Result<T, ManifestError>,
) -> Result<T, BuildError> {
    match archive.text(name, FILE_BYTES_MAX)? {
        Some(text) => Ok(parse(&text)?),
        None => Ok(T::default()),
    }
}

/// Digest over the variables that change what package managers do.
pub(crate) fn steering(config: &BTreeMap<String, String>) -> Digest {
    config_digest(config.iter().filter(|(name, _)| environment::steers_tools(name)))
}

/// What a buildpack provides and others require joins the plan; once, however many provide it.
fn add_requirements(plan: &mut Vec<Require>, chosen: &Chosen) {
    for require in &chosen.requires {
        let known =
            |known: &Require| known.name == require.name && known.metadata == require.metadata;
        if !plan.iter().any(known) {
            plan.push(Require { name: require.name.clone(), metadata: require.metadata.clone() });
        }
    }
}

async fn call(
    session: &Arc<Session>,
    loaded: &Loaded,
    chosen: &Chosen,
    plan: &mut Vec<Require>,
) -> Result<Output, BuildError> {
    let begun = Instant::now();
    let (mine, others): (Vec<Require>, Vec<Require>) = std::mem::take(plan)
        .into_iter()
        .partition(|require| chosen.provides.contains(&require.name));
    let host: Arc<dyn BuildpackHost> = Arc::new(Host {
        session: Arc::clone(session),
        buildpack: loaded.id.clone(),
        detecting: false,
    });
    let context = detect::context(session, &loaded.id);
    let built = loaded.component.build(&context, &mine, host, Limits::BUILDPACK_BUILD).await;
    let output = built.map_err(|error| match error {
        _ if session.cancel.is_cancelled() => BuildError::Cancelled,
        BuildpackError::Failure(failure) => {
            BuildError::Buildpack { id: loaded.id.clone(), failure: Box::new(failure) }
        }
        BuildpackError::Guest(error) => {
            BuildError::Guest { id: loaded.id.clone(), problem: format!("was ended: {error}") }
        }
        BuildpackError::Host(why) => BuildError::Host(why),
    })?;
    // What was not met passes to the next buildpack that provides it.
    *plan = others;
    plan.extend(mine.into_iter().filter(|require| output.unmet.contains(&require.name)));
    Session::took(
        &mut *session.state.lock().await,
        format!("buildpack {}", loaded.id),
        begun.elapsed(),
    );
    Ok(output)
}
