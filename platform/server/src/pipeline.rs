//! The way of a push after git: build, image, release, deployment.
//!
//! Each step leaves its trace before the next begins: the build's row, its terminal state with the
//! image, the release's row with a queued deployment. Up to the release a client that goes away
//! cancels; after it the deployment is the reconciler's, and the client only watches.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use berth_blobs::BlobStore;
use berth_build::manifest::ConfigWish;
use berth_build::{BuildError, Builder};
use berth_container::Stack as Part;
use berth_deploy::{Progress, Reconciler};
use berth_model::image::Image;
use berth_model::plan::Change;
use berth_model::{
    App, AppId, Build, BuildId, Caller, DeploymentId, DeploymentState, Digest, InstanceId,
    LayerRef, Source,
};
use berth_push::PushOutput;
use berth_store::{BuildEnd, By, Stack, Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::build_log::BuildLog;
use crate::clock::now_ms;
use crate::records::StoreRecords;
use crate::router::Router;
use crate::stacks::{Layer, StackError, Stacks};
use crate::wasm_host::WasmApps;
use crate::wishes;

/// The stack that everything is built for.
pub(crate) const STACK: &str = "debian-12";

/// The reconciler of this platform.
pub type Deploys = Reconciler<StoreRecords, WasmApps>;

/// Everything between a source and a running release. Cheap to clone.
#[derive(Clone)]
pub struct Pipeline {
    pub(crate) store: Store,
    pub(crate) blobs: Arc<BlobStore>,
    pub(crate) builder: Builder,
    pub(crate) stacks: Stacks,
    pub(crate) deploys: Deploys,
    pub(crate) router: Router,
    pub(crate) running: Running,
    /// Port of the router, for URLs.
    pub(crate) http_port: u16,
}

/// Builds that can be cancelled.
#[derive(Clone, Default)]
pub struct Running(Arc<Mutex<HashMap<BuildId, CancellationToken>>>);

impl Running {
    fn add(&self, build: BuildId, cancel: CancellationToken) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(build, cancel);
    }

    fn remove(&self, build: BuildId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&build);
    }

    /// Cancels a build; says whether it ran.
    pub fn cancel(&self, build: BuildId) -> bool {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(&build).inspect(|cancel| cancel.cancel()).is_some()
    }
}

/// Why there is no image.
enum Failed {
    Cancelled,
    Build(String),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Build(error.to_string())
    }
}

impl Pipeline {
    /// Something about an app changed: its routes and its instances are looked at.
    pub fn changed(&self, app: AppId) {
        self.deploys.wake(app);
        let router = self.router.clone();
        tokio::spawn(async move {
            if let Err(error) = router.publish().await {
                tracing::warn!("the routes could not be published yet: {error}");
            }
        });
    }

    /// Builds and deploys what was pushed. `Ok` means that the new release answers.
    ///
    /// # Errors
    /// One line for git; the reason stands in the output.
    pub async fn deliver(
        &self,
        caller: &Caller,
        app: AppId,
        source: Source,
        output: PushOutput,
        cancel: CancellationToken,
    ) -> Result<(), String> {
        let by = By::caller(caller, now_ms());
        let row = self.store.create_build(app, &source.commit, source.archive, &by).await;
        let row = row.map_err(|error| refused(&output, &error.to_string()))?;
        self.build_and_deploy(row, source, &by, Some(output), cancel).await
    }

    /// Carries a build whose row is written to its end, and its image to a running release.
    ///
    /// # Errors
    /// One line; the reason stands in the build's log.
    pub async fn build_and_deploy(
        &self,
        row: Build,
        source: Source,
        by: &By,
        output: Option<PushOutput>,
        cancel: CancellationToken,
    ) -> Result<(), String> {
        self.running.add(row.id, cancel.clone());
        let (log, writing) = BuildLog::new(self.store.clone(), row.id, output);
        let result = self.carry(&row, source, by, &log, cancel).await;
        self.running.remove(row.id);
        writing.finish().await;
        result
    }

    async fn carry(
        &self,
        row: &Build,
        source: Source,
        by: &By,
        log: &BuildLog,
        cancel: CancellationToken,
    ) -> Result<(), String> {
        let begun = Instant::now();
        let commit = source.commit.clone();
        let image = match self.build(row, source, log, &cancel).await {
            Ok(image) => image,
            Err(failed) => return Err(self.end_failed(row, failed, log).await),
        };
        log.heading(&format!(
            "Built {} in {:.1} s",
            image.digest.short(),
            begun.elapsed().as_secs_f32()
        ));
        let change =
            Change::Deploy { image: image.digest, manifest: Box::new(image.manifest), commit };
        let made = self
            .store
            .change(Some(row.app), &change, None, &By { at_ms: now_ms(), ..by.clone() })
            .await;
        let made = made.map_err(|error| {
            log.error(&error.to_string());
            "the release could not be made".to_owned()
        })?;
        let (Some(release), Some(deployment)) = (made.release, made.deployment) else {
            log.heading("Everything is deployed already");
            return Ok(());
        };
        log.heading(&format!("Releasing v{}", release.number));
        self.deploys.wake(row.app);
        self.watch(&made.app, deployment.id, release.number, log).await
    }

    /// Waits for the switch, and says what happens until then.
    async fn watch(
        &self,
        app: &App,
        deployment: DeploymentId,
        number: u64,
        log: &BuildLog,
    ) -> Result<(), String> {
        use berth_build::Log as _;
        let mut follower = self.deploys.follow(deployment);
        loop {
            match follower.next().await {
                Some(Progress::Line(line)) => log.line(&line),
                Some(Progress::State(state)) if state.is_switched() => {
                    return self.deployed(app, number, log).await;
                }
                Some(Progress::State(_)) => {}
                Some(Progress::Ended { state: DeploymentState::Done, .. }) => {
                    return self.deployed(app, number, log).await;
                }
                Some(Progress::Ended { state: DeploymentState::Superseded, .. }) => {
                    log.error(&format!("v{number} was superseded by a later release"));
                    return Err("superseded by a later release".to_owned());
                }
                // The reason came as lines before.
                Some(Progress::Ended { .. }) => {
                    return Err("deploy failed; the release before it goes on".to_owned());
                }
                None => {
                    return Err(
                        "the platform stops; the deployment goes on when it is back".to_owned()
                    );
                }
            }
        }
    }

    async fn deployed(&self, app: &App, number: u64, log: &BuildLog) -> Result<(), String> {
        use berth_build::Log as _;
        log.line(&format!("=====> Application deployed: v{number}"));
        for url in self.urls(app).await {
            log.body(&url);
        }
        Ok(())
    }

    /// Where an app answers.
    pub async fn urls(&self, app: &App) -> Vec<String> {
        let added = self.store.domains(app.id).await.unwrap_or_default();
        let default = format!("{}.{}", app.name, self.store.domain());
        std::iter::once(default)
            .chain(added.into_iter().map(|domain| domain.name.to_string()))
            .map(|host| match self.http_port {
                80 => format!("http://{host}"),
                port => format!("http://{host}:{port}"),
            })
            .collect()
    }

    async fn end_failed(&self, row: &Build, failed: Failed, log: &BuildLog) -> String {
        let (end, line) = match &failed {
            Failed::Cancelled => (BuildEnd::Cancelled("it was cancelled"), "build cancelled"),
            Failed::Build(reason) => {
                log.error(reason);
                (BuildEnd::Failed(reason), "build failed")
            }
        };
        if let Err(error) = self.store.finish_build(row.id, end, &By::system(now_ms())).await {
            tracing::error!(build = %row.id, "the end of the build could not be written: {error}");
        }
        line.to_owned()
    }

    async fn build(
        &self,
        row: &Build,
        source: Source,
        log: &BuildLog,
        cancel: &CancellationToken,
    ) -> Result<Image, Failed> {
        let app = self.store.app(row.app).await?;
        let app = app.ok_or_else(|| Failed::Build("the app was destroyed".to_owned()))?;
        let stack = tokio::select! {
            stack = self.stack(log) => stack.map_err(Failed::Build)?,
            () = cancel.cancelled() => return Err(Failed::Cancelled),
        };
        let config = self.store.config(app.id).await?.1;
        let config: BTreeMap<String, String> = config
            .iter()
            .map(|(name, value)| (name.to_string(), value.reveal().to_owned()))
            .collect();
        let (run, build) = (vec![stack.run.clone()], vec![stack.build.clone()]);
        let memo = berth_build::memo_key(
            source.archive,
            &config,
            &self.builder.buildpack_digests(),
            &run,
            &build,
        );
        if let Some(image) = self.remembered(app.id, memo).await? {
            log.heading("Nothing changed since an earlier build; using its image");
            let end = BuildEnd::Succeeded { image: &image, layers: None, memo: Some(memo) };
            self.store.finish_build(row.id, end, &By::system(now_ms())).await?;
            return Ok(image);
        }
        let request = berth_build::Request {
            build: row.id,
            container: new_container()?,
            app: app.id,
            block: app.block,
            source,
            config,
            restored: self.store.layer_metadata(app.id).await?.map(|value| value.to_string()),
            run_stack: run,
            build_stack: build,
        };
        let outcome = match self.builder.build(request, Arc::new(log.clone()), cancel.clone()).await
        {
            Ok(outcome) => outcome,
            Err(BuildError::Cancelled) => return Err(Failed::Cancelled),
            Err(error) => return Err(Failed::Build(with_causes(&error))),
        };
        let blobs = Arc::clone(&self.blobs);
        let written = tokio::task::spawn_blocking(move || {
            let digest = berth_image::write(&blobs, &outcome.output)?;
            let image = berth_image::load(&blobs, digest)?;
            Ok::<_, berth_image::ImageError>((image, outcome.restored, outcome.wishes))
        });
        let (image, restored, wishes) = written
            .await
            .map_err(|error| Failed::Build(error.to_string()))?
            .map_err(|error| Failed::Build(with_causes(&error)))?;
        let layers = serde_json::from_str(&restored).ok();
        self.grant_wishes(app.id, &wishes, log).await?;
        let end = BuildEnd::Succeeded { image: &image, layers: layers.as_ref(), memo: Some(memo) };
        self.store.finish_build(row.id, end, &By::system(now_ms())).await?;
        Ok(image)
    }

    /// Sets what `app.json` wants and the configuration lacks; the release has it.
    async fn grant_wishes(
        &self,
        app: AppId,
        wishes: &[ConfigWish],
        log: &BuildLog,
    ) -> Result<(), Failed> {
        let config = self.store.config(app).await?.1;
        let set = wishes::to_set(wishes, &config).map_err(Failed::Build)?;
        if set.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = set.keys().map(|name| name.as_str()).collect();
        log.heading(&format!("Setting {} as app.json says", names.join(", ")));
        let change = Change::Configure { set, unset: BTreeSet::new(), release: false };
        self.store.change(Some(app), &change, None, &By::system(now_ms())).await?;
        Ok(())
    }

    /// The image of the same inputs, if all its layers are still there.
    async fn remembered(&self, app: AppId, memo: Digest) -> Result<Option<Image>, Failed> {
        let Some(digest) = self.store.memo(app, memo).await? else { return Ok(None) };
        let Some(image) = self.store.image(digest).await? else { return Ok(None) };
        let whole = self.blobs.contains(&digest)
            && image.layers.iter().all(|layer| self.blobs.contains(&layer.diff_id));
        Ok(whole.then_some(image))
    }

    /// The stack, made now where there is none.
    async fn stack(&self, log: &BuildLog) -> Result<Stack, String> {
        let _one = self.stacks.making.lock().await;
        let known = self.store.stack(STACK).await.map_err(|error| error.to_string())?;
        if let Some(stack) = known
            && [&stack.run, &stack.build].iter().all(|layer| self.blobs.contains(&layer.diff_id))
        {
            return Ok(stack);
        }
        if let Some(stack) = self.found_stack().await? {
            return Ok(stack);
        }
        log.heading(&format!("Making the stack {STACK}, once (this takes some minutes)"));
        let told = log.clone();
        self.make_stack(move |line| told.body(line)).await
    }

    /// Makes the stack anew and stores it.
    ///
    /// # Errors
    /// What the agent says.
    pub async fn make_stack(
        &self,
        progress: impl Fn(&str) + Clone + Send + Sync + 'static,
    ) -> Result<Stack, String> {
        let run = self
            .stacks
            .make(Part::Debian12Run, progress.clone())
            .await
            .map_err(|e| e.to_string())?;
        let build =
            self.stacks.make(Part::Debian12Build, progress).await.map_err(|e| e.to_string())?;
        self.keep_stack(run, build).await
    }

    /// The stack as another platform of this machine made it.
    async fn found_stack(&self) -> Result<Option<Stack>, String> {
        let found = async {
            let Some(run) = self.stacks.find(Part::Debian12Run).await? else { return Ok(None) };
            Ok::<_, StackError>(
                self.stacks.find(Part::Debian12Build).await?.map(|build| (run, build)),
            )
        };
        match found.await.map_err(|error| error.to_string())? {
            Some((run, build)) => self.keep_stack(run, build).await.map(Some),
            None => Ok(None),
        }
    }

    async fn keep_stack(&self, run: Layer, build: Layer) -> Result<Stack, String> {
        let stack = Stack {
            name: STACK.to_owned(),
            run: named(run),
            build: named(build),
            packages: BTreeMap::new(),
            created_at_ms: now_ms(),
        };
        self.store
            .put_stack(&stack, &By::system(now_ms()))
            .await
            .map_err(|error| error.to_string())?;
        Ok(stack)
    }
}

fn named(layer: Layer) -> LayerRef {
    LayerRef { diff_id: layer.diff_id, bytes: layer.bytes, name: "stack".to_owned() }
}

fn refused(output: &PushOutput, reason: &str) -> String {
    output.error(reason);
    "refused".to_owned()
}

fn new_container() -> Result<InstanceId, Failed> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|error| Failed::Build(error.to_string()))?;
    Ok(InstanceId::new(now_ms().unsigned_abs(), random))
}

/// An error with what led to it, on lines of their own.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(&format!("\n  {source}"));
        cause = source.source();
    }
    text
}
