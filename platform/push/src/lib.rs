//! git receive: a pack that arrives over SSH or smart HTTP becomes a [`berth_model::Source`].
//!
//! `git receive-pack` speaks the protocol as a bounded tool; its `proc-receive` hook hands the
//! decision to this room, which checks the refs, archives the tree into the blob store, lets the
//! host build and deploy, and moves the ref itself when the deploy switched. Nothing after this
//! room opens a repository.
//! It must never run git itself, trust what the tool says about a repository, know what a build
//! or a release is, or let a client's connection decide about work that is past its release.

mod commands;
mod converse;
mod decide;
mod error;
mod hook;
mod host;
mod http;
mod limits;
mod output;
mod pkt;
mod repository;
mod service;
mod source;
mod ssh;
mod tool;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use berth_blobs::BlobStore;
use berth_model::AppId;
use tokio::sync::Semaphore;

pub use error::PushError;
pub use host::{PushHost, Pushed, Refusal, Repository, Service, SshKey};
pub use http::http_router;
pub use limits::Limits;
pub use output::{PushLines, PushOutput};
pub use repository::Repositories;
pub use source::SourceError;
pub use ssh::{host_key, serve_ssh};
pub use tool::{GitTool, ToolError};

/// The room: what both transports share. Cheap to clone.
pub struct Push<H> {
    pub(crate) inner: Arc<Inner<H>>,
}

impl<H> Clone for Push<H> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

pub(crate) struct Inner<H> {
    pub(crate) host: H,
    pub(crate) tool: Box<dyn GitTool>,
    pub(crate) repositories: Repositories,
    pub(crate) blobs: BlobStore,
    pub(crate) limits: Limits,
    /// Tools that may run at once, by service.
    pub(crate) receiving: Semaphore,
    pub(crate) uploading: Semaphore,
    /// How many pushes each app receives right now.
    pub(crate) pushes: Mutex<HashMap<AppId, usize>>,
}

impl<H: PushHost> Push<H> {
    /// Puts the room together. `tool` runs git, usually the agent.
    pub fn new(
        host: H,
        tool: impl GitTool,
        repositories: Repositories,
        blobs: BlobStore,
        limits: Limits,
    ) -> Self {
        let receiving = Semaphore::new(limits.receives_max);
        let uploading = Semaphore::new(limits.uploads_max);
        let tool = Box::new(tool);
        Self {
            inner: Arc::new(Inner {
                host,
                tool,
                repositories,
                blobs,
                limits,
                receiving,
                uploading,
                pushes: Mutex::default(),
            }),
        }
    }
}

impl<H: PushHost> Push<H> {
    /// The newest commit of a branch of an app as a [`berth_model::Source`], for a build that
    /// nobody pushes; nothing when there is no such branch.
    ///
    /// # Errors
    /// The repository's, or why the tree cannot be built, in words for people.
    pub async fn source(
        &self,
        app: berth_model::AppId,
        branch: &str,
    ) -> Result<Option<berth_model::Source>, String> {
        let (inner, ref_name) = (Arc::clone(&self.inner), format!("refs/heads/{branch}"));
        let taken = tokio::task::spawn_blocking(move || {
            let repository = inner.repositories.git(app).map_err(|error| error.to_string())?;
            let Some(commit) =
                repository.find_reference(&ref_name).ok().and_then(|found| found.target())
            else {
                return Ok(None);
            };
            let never = tokio_util::sync::CancellationToken::new();
            source::take(&repository, app, commit, &inner.blobs, &inner.limits, &never)
                .map(Some)
                .map_err(|error| error.to_string())
        });
        taken.await.map_err(|error| error.to_string())?
    }
}
