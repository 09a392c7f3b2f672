//! The stack that apps are built for and run on: known, found on the machine, or made.

use std::collections::BTreeMap;

use async_trait::async_trait;
use berth_build::StackSource;
use berth_container::Stack as Part;
use berth_model::LayerRef;
use berth_store::{By, Stack, StoreError};

use super::{Pipeline, STACK};
use crate::build_log::BuildLog;
use crate::clock::now_ms;
use crate::stacks::{Layer, StackError};

/// The stack of one build.
pub(super) struct BuildStack {
    pipeline: Pipeline,
    log: BuildLog,
    known: Option<Stack>,
}

#[async_trait]
impl StackSource for BuildStack {
    fn known(&self) -> Option<berth_build::Stack> {
        self.known.as_ref().map(layers)
    }

    async fn need(&self) -> Result<berth_build::Stack, String> {
        self.pipeline.stack(&self.log).await.map(|stack| layers(&stack))
    }
}

impl Pipeline {
    /// The stack for a build that may need it.
    pub(super) async fn stack_for(&self, log: &BuildLog) -> Result<BuildStack, StoreError> {
        let known = self.known_stack().await?;
        Ok(BuildStack { pipeline: self.clone(), log: log.clone(), known })
    }

    /// The stack as it was made before, if all of it is still there.
    async fn known_stack(&self) -> Result<Option<Stack>, StoreError> {
        let known = self.store.stack(STACK).await?;
        let here = |layer: &LayerRef| self.blobs.contains(&layer.diff_id);
        Ok(known.filter(|stack| here(&stack.run) && here(&stack.build)))
    }

    /// The stack, made now where there is none.
    async fn stack(&self, log: &BuildLog) -> Result<Stack, String> {
        let _one = self.stacks.making.lock().await;
        if let Some(stack) = self.known_stack().await.map_err(|error| error.to_string())? {
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

fn layers(stack: &Stack) -> berth_build::Stack {
    berth_build::Stack { run: vec![stack.run.clone()], build: vec![stack.build.clone()] }
}

fn named(layer: Layer) -> LayerRef {
    LayerRef { diff_id: layer.diff_id, bytes: layer.bytes, name: "stack".to_owned() }
}
