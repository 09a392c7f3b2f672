//! Compiled components: from the cache, or by the compiler, which the agent runs as a bounded tool.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use berth_blobs::BlobStore;
use berth_container::{Agent, Reply, Request, Tool};
use berth_extensions::{AotCache, AotError, Code, EngineKind};
use berth_model::Digest;

/// Most bytes of what the compiler says of a component.
const COMPLAINT_BYTES_MAX: u64 = 16 * 1024;

/// Compiles components. Cheap to clone.
#[derive(Clone)]
pub struct Compiler {
    pub(crate) agent: Agent,
    pub(crate) cache: Arc<AotCache>,
    pub(crate) blobs: Arc<BlobStore>,
}

impl Compiler {
    /// Compiles what lies in `blobs` where `cache` has not got it.
    pub fn new(agent: Agent, cache: Arc<AotCache>, blobs: Arc<BlobStore>) -> Self {
        Self { agent, cache, blobs }
    }

    /// The compiled form of a component that lies in the blob store.
    ///
    /// # Errors
    /// What the cache, or the compiler, says.
    pub async fn code(&self, engine: EngineKind, component: Digest) -> Result<Code, AotError> {
        self.cache.code(engine, component, |out| self.compile(engine, component, out)).await
    }

    async fn compile(
        &self,
        engine: EngineKind,
        component: Digest,
        out: OwnedFd,
    ) -> Result<(), String> {
        let blobs = Arc::clone(&self.blobs);
        let opened = tokio::task::spawn_blocking(move || blobs.get(&component));
        let wasm = opened.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        let (complaint, stderr) = std::io::pipe().map_err(|e| e.to_string())?;
        let tool = Request::Tool { tool: Tool::Compile { engine } };
        let complaint = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            // Whatever was read before a failure is worth telling.
            let _ = std::io::Read::read_to_string(
                &mut std::io::Read::take(complaint, COMPLAINT_BYTES_MAX),
                &mut text,
            );
            text
        });
        let descriptors = [OwnedFd::from(wasm), out, stderr.into()];
        let reply = self.agent.call(&tool, &descriptors).await;
        drop(descriptors);
        match reply.map_err(|e| e.to_string())?.0 {
            Reply::Exited(exit) if exit.code == 0 => Ok(()),
            Reply::Exited(exit) if exit.oom => {
                Err("it needs more memory to compile than the platform gives".to_owned())
            }
            Reply::Exited(exit) if exit.timed_out => {
                Err("it takes longer to compile than the platform allows".to_owned())
            }
            Reply::Exited(exit) => {
                let text = complaint.await.unwrap_or_default();
                let text = text.trim().trim_start_matches("berthd: ");
                Err(if text.is_empty() {
                    format!("the compiler ended with {}", exit.code)
                } else {
                    text.to_owned()
                })
            }
            other => Err(format!("the agent answered {other:?}")),
        }
    }
}
