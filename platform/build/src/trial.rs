//! A build without a build container, for those who write buildpacks: the source, the layers and
//! the rules are those of a build, but tools are not run. How each of them ends is given before.

mod host;
mod source;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use berth_blobs::BlobStore;
use berth_container::Agent;
use berth_extensions::Limits;
use berth_extensions::buildpack::{
    Buildpack, BuildpackError, BuildpackHost, Output, Require, Verdict,
};
use berth_model::{AppId, BuildId, InstanceId, Source};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::archive::Archive;
use crate::host::Host;
use crate::inventory::Inventory;
use crate::log::BuildLog;
use crate::request::{Request, Settings, Stack, StackSource};
use crate::session::{Session, State};
use crate::state::Restored;
use crate::{BuildError, detect};
use host::TrialHost;

/// A tool that a buildpack is expected to run, and how it ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tool {
    /// What is run; nothing means whatever comes.
    pub argv: Vec<String>,
    /// Its exit code.
    pub exit_code: i32,
    /// Its standard output, where the buildpack wants it back.
    pub stdout: String,
}

/// What a trial begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// Names of the app's configuration.
    pub config: Vec<String>,
    /// Layers that an earlier build left, with their metadata in JSON.
    pub restored: BTreeMap<String, String>,
    /// The tools that are run, in order.
    pub tools: Vec<Tool>,
}

/// What a buildpack did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// What it asked the host to do, in order: `run make`, `write conf/nginx.conf`.
    pub calls: Vec<String>,
    /// The build log.
    pub log: Vec<String>,
    /// What it wrote, by layer (or `workspace`) and path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Tools that were not run, or not expected.
    pub problems: Vec<String>,
}

/// A buildpack's look at one app.
pub struct Trial {
    session: Arc<Session>,
    id: String,
    host: Arc<TrialHost>,
    seen: Arc<Mutex<Seen>>,
}

/// Nothing here has a stack.
struct NoStack;

#[async_trait]
impl StackSource for NoStack {
    fn known(&self) -> Option<Stack> {
        None
    }

    async fn need(&self) -> Result<Stack, String> {
        Err("a trial has no stack".to_owned())
    }
}

impl Trial {
    /// A trial of the app in a folder. `scratch` is a folder for what it needs meanwhile, which the
    /// caller removes.
    ///
    /// # Errors
    /// The folder cannot be read, or has more than a fixture has.
    pub fn new(id: &str, app: &Path, given: Given, scratch: &Path) -> Result<Self, BuildError> {
        let blobs = BlobStore::open(scratch.join("blobs"))?;
        let digest = source::archive(app, &blobs)?;
        let (nothing, _) = blobs.put(std::io::empty(), 0)?;
        let restored = given.restored.into_iter().map(|(layer, metadata)| {
            let (tops, changes) = (Vec::new(), Vec::new());
            let left = Restored { diff_id: nothing, bytes: 0, tops, metadata, changes };
            ((id.to_owned(), layer), left)
        });
        let state = State { restored: restored.collect(), ..State::default() };
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let lines = Arc::clone(&seen);
        let log = move |line: &str| host::locked(&lines).log.push(line.to_owned());
        let app = AppId::new(0, [0; 10]);
        let env: BTreeMap<String, String> =
            given.config.into_iter().map(|name| (name, String::new())).collect();
        let session = Arc::new(Session {
            agent: Agent::at(scratch.join("no-agent.sock")),
            settings: Arc::new(Settings::default()),
            inventory: Arc::new(
                Inventory::load(None).map_err(BuildError::platform("read the inventory"))?,
            ),
            archive: Archive::open(&blobs, &digest)?,
            log: BuildLog::new(Arc::new(log), &env),
            cancel: CancellationToken::new(),
            deadline: Instant::now() + Duration::from_secs(Settings::default().build_s_max),
            state: tokio::sync::Mutex::new(state),
            stack: OnceCell::new(),
            request: Request {
                build: BuildId::new(0, [0; 10]),
                container: InstanceId::new(0, [0; 10]),
                app,
                block: 0,
                source: Source {
                    app,
                    commit: "0".repeat(40),
                    tree: "0".repeat(40),
                    committed_at_s: 0,
                    archive: digest,
                },
                config: env.clone(),
                restored: None,
                stack: Arc::new(NoStack),
            },
            env,
            _lease: blobs.lease([digest]),
            blobs,
        });
        let host = Arc::new(TrialHost {
            host: Host {
                session: Arc::clone(&session),
                buildpack: id.to_owned(),
                detecting: false,
            },
            tools: Mutex::new(VecDeque::from(given.tools)),
            seen: Arc::clone(&seen),
        });
        Ok(Self { session, id: id.to_owned(), host, seen })
    }

    /// Asks whether the buildpack fits.
    ///
    /// # Errors
    /// As [`Buildpack::detect`].
    pub async fn detect(&self, buildpack: &Buildpack) -> Result<Verdict, BuildpackError> {
        let host: Arc<dyn BuildpackHost> = Arc::new(Host {
            session: Arc::clone(&self.session),
            buildpack: self.id.clone(),
            detecting: true,
        });
        let context = detect::context(&self.session, &self.id);
        buildpack.detect(&context, host, Limits::BUILDPACK_DETECT).await
    }

    /// Has it build, with what others require of it.
    ///
    /// # Errors
    /// As [`Buildpack::build`].
    pub async fn build(
        &self,
        buildpack: &Buildpack,
        requires: &[Require],
    ) -> Result<Output, BuildpackError> {
        let host: Arc<dyn BuildpackHost> = Arc::clone(&self.host) as _;
        let context = detect::context(&self.session, &self.id);
        let built = buildpack.build(&context, requires, host, Limits::BUILDPACK_BUILD).await;
        for tool in host::locked(&self.host.tools).drain(..) {
            let what = if tool.argv.is_empty() { "a step".to_owned() } else { tool.argv.join(" ") };
            host::locked(&self.seen)
                .problems
                .push(format!("'{what}' is in the case but was not run"));
        }
        built
    }

    /// What it did so far.
    pub fn seen(&self) -> Seen {
        host::locked(&self.seen).clone()
    }
}
