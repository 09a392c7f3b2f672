//! What a build takes and gives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use berth_model::{AppId, BuildId, BuildOutput, Digest, InstanceId, LayerRef, Limits, Source};
use sha2::{Digest as _, Sha256};

use crate::manifest::ConfigWish;
use crate::plan::Group;
use crate::proxy::{Bounds, Policy};

/// One build.
#[derive(Clone)]
pub struct Request {
    /// Its id.
    pub build: BuildId,
    /// Id for the build container, if one is started; used by no other build.
    pub container: InstanceId,
    /// Whose it is.
    pub app: AppId,
    /// The app's block of user ids.
    pub block: u16,
    /// What is built.
    pub source: Source,
    /// The app's configuration. Build tools see it; buildpacks see the names.
    pub config: BTreeMap<String, String>,
    /// What the last successful build of this app left ([`Outcome::restored`]).
    pub restored: Option<String>,
    /// Where the stack comes from.
    pub stack: Arc<dyn StackSource>,
}

/// What apps run on and what build tools run on, each from the lowest layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// The lowest layers of every image with files of its own.
    pub run: Vec<LayerRef>,
    /// The lowest layers of the build container.
    pub build: Vec<LayerRef>,
}

/// Gives a build its stack. A build whose image has no files of its own and whose buildpacks run no
/// tool, as that of a Wasm app, never needs one.
#[async_trait]
pub trait StackSource: Send + Sync {
    /// The stack, where it is there already. What an earlier build left fits that one only.
    fn known(&self) -> Option<Stack>;

    /// The stack, made now where there is none.
    ///
    /// # Errors
    /// Why it cannot be made, for the one who pushed.
    async fn need(&self) -> Result<Stack, String>;
}

#[async_trait]
impl StackSource for Stack {
    fn known(&self) -> Option<Stack> {
        Some(self.clone())
    }

    async fn need(&self) -> Result<Stack, String> {
        Ok(self.clone())
    }
}

/// What a successful build gives.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// For `image`.
    pub output: BuildOutput,
    /// To store for the next build of this app; JSON.
    pub restored: String,
    /// What `app.json` wants in the configuration.
    pub wishes: Vec<ConfigWish>,
    /// Where the time went, in order.
    pub times: Vec<StepTime>,
    /// Whether a build container was started.
    pub container_started: bool,
}

/// One part of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepTime {
    /// What was done, for people.
    pub name: String,
    /// How long it took.
    pub took: Duration,
}

/// What the operator set for all builds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What a build container may use.
    pub limits: Limits,
    /// Longest build, seconds.
    pub build_s_max: u64,
    /// The network of build containers.
    pub network: Arc<Policy>,
    /// Bounds of that network.
    pub network_bounds: Bounds,
    /// Variables of every step, such as the mirrors of registries; the app's configuration wins.
    pub env: BTreeMap<String, String>,
    /// Order groups; without any, the usual ones.
    pub order: Vec<Group>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::build(),
            build_s_max: 30 * 60,
            network: Arc::default(),
            network_bounds: Bounds::default(),
            env: BTreeMap::new(),
            order: Vec::new(),
        }
    }
}

/// A key for a whole build: two builds with the same key give the same image, but for the time of
/// the commit, so the second can be skipped. `buildpacks` is what
/// [`Builder::buildpack_digests`](crate::Builder::buildpack_digests) gives, `stack` the one that is
/// there before the build.
pub fn memo_key(
    archive: Digest,
    config: &BTreeMap<String, String>,
    buildpacks: &[Digest],
    stack: Option<&Stack>,
) -> Digest {
    let mut sum = Sum::default();
    sum.part(b"berth build 1");
    sum.part(archive.bytes());
    sum.part(config_digest(config.iter()).bytes());
    for digest in buildpacks {
        sum.part(digest.bytes());
    }
    sum.part(stack_digest(stack).bytes());
    sum.digest()
}

/// A digest over variables; it leaves the platform no more than the values do.
pub(crate) fn config_digest<'a>(config: impl Iterator<Item = (&'a String, &'a String)>) -> Digest {
    let mut sum = Sum::default();
    for (name, value) in config {
        sum.part(name.as_bytes());
        sum.part(value.as_bytes());
    }
    sum.digest()
}

pub(crate) fn stack_digest(stack: Option<&Stack>) -> Digest {
    let mut sum = Sum::default();
    for layers in stack.into_iter().flat_map(|stack| [&stack.run, &stack.build]) {
        sum.part(&(layers.len() as u64).to_be_bytes());
        for layer in layers {
            sum.part(layer.diff_id.bytes());
        }
    }
    sum.digest()
}

/// SHA-256 over parts, each with its length.
#[derive(Default)]
pub(crate) struct Sum(Sha256);

impl Sum {
    pub(crate) fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    pub(crate) fn digest(self) -> Digest {
        Digest::from_sha256(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memo_key_changes_with_everything_that_a_build_depends_on() {
        let digest = |byte| Digest::from_sha256([byte; 32]);
        let layer =
            |byte| vec![LayerRef { diff_id: digest(byte), bytes: 1, name: "stack".to_owned() }];
        let stack = |run, build| Stack { run: layer(run), build: layer(build) };
        let config = |value: &str| BTreeMap::from([("A".to_owned(), value.to_owned())]);
        let base = memo_key(digest(1), &config("x"), &[digest(2)], Some(&stack(3, 4)));
        assert_eq!(base, memo_key(digest(1), &config("x"), &[digest(2)], Some(&stack(3, 4))));
        for other in [
            memo_key(digest(9), &config("x"), &[digest(2)], Some(&stack(3, 4))),
            memo_key(digest(1), &config("y"), &[digest(2)], Some(&stack(3, 4))),
            memo_key(digest(1), &config("x"), &[digest(9)], Some(&stack(3, 4))),
            memo_key(digest(1), &config("x"), &[digest(2), digest(3)], Some(&stack(3, 4))),
            memo_key(digest(1), &config("x"), &[digest(2)], Some(&stack(9, 4))),
            memo_key(digest(1), &config("x"), &[digest(2)], Some(&stack(4, 3))),
            memo_key(digest(1), &config("x"), &[digest(2)], None),
        ] {
            assert_ne!(base, other);
        }
    }
}
