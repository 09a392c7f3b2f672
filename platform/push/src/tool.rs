//! Running git: always somewhere else, under another id, with descriptors for everything it needs.

use std::os::fd::OwnedFd;

use berth_container::{Agent, AgentError, Exit, Reply, Request, Tool};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

/// Why git could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The agent refused, or is away.
    #[error("git cannot be started: {0}")]
    Agent(#[from] AgentError),
    /// Another runner failed.
    #[error("git cannot be started")]
    Io(#[from] std::io::Error),
    /// The agent's answer was not about the end of a tool.
    #[error("berth-agent gave an unexpected reply to a request for a tool")]
    Reply,
}

/// Runs [`Tool::ReceivePack`] and [`Tool::UploadPack`].
pub trait GitTool: Send + Sync + 'static {
    /// Runs a tool to its end. Descriptors: stdin, stdout, stderr and, for `ReceivePack`, the
    /// control channel of its hooks. The runner keeps none of them open in this process once the
    /// tool was started. Dropping the future kills the tool with all its children.
    fn run(
        &self,
        tool: Tool,
        descriptors: Vec<OwnedFd>,
    ) -> BoxFuture<'static, Result<Exit, ToolError>>;
}

impl GitTool for Agent {
    fn run(
        &self,
        tool: Tool,
        descriptors: Vec<OwnedFd>,
    ) -> BoxFuture<'static, Result<Exit, ToolError>> {
        let agent = self.clone();
        async move {
            let mut session = agent.session(&Request::Tool { tool }, &descriptors).await?;
            // Our ends see an end of file only when the tool's are the last ones.
            drop(descriptors);
            match session.reply().await? {
                (Reply::Exited(exit), _) => Ok(exit),
                _ => Err(ToolError::Reply),
            }
        }
        .boxed()
    }
}
