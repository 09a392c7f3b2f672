//! Stacks: made by the agent at the first need, kept as layers in the blob store.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use berth_blobs::{BlobError, BlobStore};
use berth_build::proxy::{Bounds, Policy, Proxy, Reach};
use berth_container::{Agent, AgentError, FailureCode, Reply, Request, Stack as Part};
use berth_model::{Digest, PackageName};
use tokio::sync::Mutex;

/// Most bytes of a stack's layer.
const LAYER_BYTES_MAX: u64 = 8 << 30;
/// Most bytes of one line of progress.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// A stack could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// The agent failed.
    #[error("the stack cannot be made: {0}")]
    Agent(#[from] AgentError),
    /// The blob store failed.
    #[error("the stack's layer cannot be stored: {0}")]
    Blobs(#[from] BlobError),
    /// The agent did something else than it should.
    #[error("the stack cannot be made: {0}")]
    Protocol(String),
}

/// A layer of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Its DiffID.
    pub diff_id: Digest,
    /// Bytes of its tar.
    pub bytes: u64,
}

/// Makes stacks.
#[derive(Clone)]
pub struct Stacks {
    pub(crate) agent: Agent,
    pub(crate) blobs: Arc<BlobStore>,
    pub(crate) policy: Arc<Policy>,
    /// Held by whoever looks for a stack to make it where there is none.
    pub(crate) making: Arc<Mutex<()>>,
}

impl Stacks {
    /// One part of a stack as it was made on this machine before; nothing where it was not.
    ///
    /// # Errors
    /// What the agent or the blob store says.
    pub async fn find(&self, part: Part) -> Result<Option<Layer>, StackError> {
        self.found(Request::StackFind { stack: part }).await
    }

    /// What an add-on of these packages runs on: found on this machine, or made now.
    ///
    /// # Errors
    /// What the agent or the blob store says.
    pub async fn of_addon(
        &self,
        packages: &BTreeSet<PackageName>,
        progress: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Layer, StackError> {
        let _one = self.making.lock().await;
        let packages = packages.clone();
        let find = Request::AddonStackFind { packages: packages.clone() };
        match self.found(find).await? {
            Some(layer) => Ok(layer),
            None => self.made(Request::AddonStack { packages }, progress).await,
        }
    }

    async fn found(&self, request: Request) -> Result<Option<Layer>, StackError> {
        let piped = |error: std::io::Error| StackError::Protocol(error.to_string());
        let (tar, tar_out) = std::io::pipe().map_err(piped)?;
        let blobs = Arc::clone(&self.blobs);
        let mut writer = blobs.writer(LAYER_BYTES_MAX)?;
        let copying = tokio::task::spawn_blocking(move || {
            let mut tar = tar;
            std::io::copy(&mut tar, &mut writer).map(|_| writer)
        });
        let found = {
            let descriptors = [OwnedFd::from(tar_out)];
            self.agent.call(&request, &descriptors).await
        };
        let writer = copying
            .await
            .map_err(|error| StackError::Protocol(error.to_string()))?
            .map_err(piped)?;
        match found {
            Ok(_) => {
                let (diff_id, bytes) = writer.finish()?;
                Ok(Some(Layer { diff_id, bytes }))
            }
            Err(AgentError::Failed { code: FailureCode::NotFound, .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes one part of a stack; `progress` gets a line for whatever takes a while.
    ///
    /// # Errors
    /// What the agent or the blob store says.
    pub async fn make(
        &self,
        part: Part,
        progress: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Layer, StackError> {
        self.made(Request::Stack { stack: part }, progress).await
    }

    async fn made(
        &self,
        request: Request,
        progress: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Layer, StackError> {
        let piped = |error: std::io::Error| StackError::Protocol(error.to_string());
        let (tar, tar_out) = std::io::pipe().map_err(piped)?;
        let (lines, lines_out) = std::io::pipe().map_err(piped)?;
        let blobs = Arc::clone(&self.blobs);
        let layer = tokio::task::spawn_blocking(move || blobs.put(tar, LAYER_BYTES_MAX));
        let telling = tokio::task::spawn_blocking(move || tell(lines, progress));
        let descriptors = [OwnedFd::from(tar_out), OwnedFd::from(lines_out)];
        let mut session = self.agent.session(&request, &descriptors).await?;
        drop(descriptors);
        let mut proxy = None;
        loop {
            match session.reply().await? {
                (Reply::Attached {}, sockets) => {
                    let socket = sockets.into_iter().next();
                    let socket = socket
                        .ok_or_else(|| StackError::Protocol("no proxy socket came".to_owned()))?;
                    let served = Proxy::serve(
                        TcpListener::from(socket),
                        Arc::clone(&self.policy),
                        Bounds::default(),
                        Arc::new(|line: &str| tracing::info!("stack: {line}")),
                    )
                    .map_err(piped)?;
                    served.allow(Reach::Roles(["debian".to_owned()].into()));
                    proxy = Some(served);
                }
                (Reply::Done {}, _) => break,
                (other, _) => {
                    return Err(StackError::Protocol(format!("the agent answered {other:?}")));
                }
            }
        }
        drop(proxy);
        let joined = |error: tokio::task::JoinError| StackError::Protocol(error.to_string());
        telling.await.map_err(joined)?;
        let (diff_id, bytes) = layer.await.map_err(joined)??;
        Ok(Layer { diff_id, bytes })
    }
}

/// Gives every line to `progress`, until the other end is closed.
fn tell(lines: impl Read, progress: impl Fn(&str)) {
    let mut lines = BufReader::new(lines);
    loop {
        let mut line = Vec::new();
        match lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => progress(String::from_utf8_lossy(&line).trim_end()),
        }
    }
}
