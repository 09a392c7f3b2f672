//! From a source to an image: the build, or the memory of an earlier one of the same inputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_build::manifest::ConfigWish;
use berth_build::{BuildError, StackSource as _};
use berth_model::image::Image;
use berth_model::{AppId, Build, BuildId, Digest, InstanceId, Source};
use berth_store::{BuildEnd, By, StoreError};
use tokio_util::sync::CancellationToken;

use super::{Pipeline, until_written};
use crate::build_log::BuildLog;
use crate::clock::now_ms;
use crate::wishes;

/// Why there is no image.
pub(super) enum Failed {
    Cancelled,
    /// A policy or a hook does not allow it.
    Denied(String),
    Build(String),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Build(error.to_string())
    }
}

impl Pipeline {
    /// Writes down that there is no image, and why; gives the line for git.
    pub(super) async fn end_failed(&self, row: &Build, failed: Failed, log: &BuildLog) -> String {
        let line = match &failed {
            Failed::Cancelled => {
                log.error("The build was cancelled");
                "build cancelled"
            }
            Failed::Denied(reason) => {
                log.error(reason);
                "not allowed"
            }
            Failed::Build(reason) => {
                log.error(reason);
                "build failed"
            }
        };
        if !self.write_end(row.id, &failed).await {
            let (pipeline, build) = (self.clone(), row.id);
            let failed = Arc::new(failed);
            until_written("the end of a build", move || {
                let (pipeline, failed) = (pipeline.clone(), Arc::clone(&failed));
                async move { pipeline.write_end(build, &failed).await }
            });
        }
        line.to_owned()
    }

    /// Whether it is written; false when it is to be tried again.
    async fn write_end(&self, build: BuildId, failed: &Failed) -> bool {
        let end = match failed {
            Failed::Cancelled => BuildEnd::Cancelled("it was cancelled"),
            Failed::Denied(reason) | Failed::Build(reason) => BuildEnd::Failed(reason),
        };
        match self.store.finish_build(build, end, &By::system(now_ms())).await {
            // Forgotten with its app.
            Ok(_) | Err(StoreError::Missing { .. }) => true,
            Err(error) => {
                tracing::error!(%build, "the end of the build could not be written: {error}");
                false
            }
        }
    }

    pub(super) async fn build(
        &self,
        row: &Build,
        source: Source,
        log: &BuildLog,
        cancel: &CancellationToken,
    ) -> Result<Image, Failed> {
        let app = self.store.app(row.app).await?;
        let app = app.ok_or_else(|| Failed::Build("the app was destroyed".to_owned()))?;
        let stack = self.stack_for(log).await?;
        let config = self.store.config(app.id).await?.1;
        let config: BTreeMap<String, String> = config
            .iter()
            .map(|(name, value)| (name.to_string(), value.reveal().to_owned()))
            .collect();
        // Buildpacks that are added meanwhile are for the next build.
        let builder = self.builder.pinned();
        let memo = berth_build::memo_key(
            source.archive,
            &config,
            &builder.buildpack_digests(),
            stack.known().as_ref(),
        );
        if let Some(image) = self.remembered(app.id, memo).await? {
            log.heading("Nothing changed since an earlier build; using its image");
            let wishes = builder.wishes(source.archive).await;
            let wishes = wishes.map_err(|error| Failed::Build(with_causes(&error)))?;
            self.grant_wishes(app.id, &wishes, log).await?;
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
            stack: Arc::new(stack),
        };
        let outcome = match builder.build(request, Arc::new(log.clone()), cancel.clone()).await {
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
        let names =
            wishes::grant(&self.store, app, wishes, now_ms()).await.map_err(Failed::Build)?;
        if !names.is_empty() {
            log.heading(&format!("Setting {} as app.json says", names.join(", ")));
        }
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
