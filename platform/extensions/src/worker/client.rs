//! The control process's side of the worker's control socket.

use std::future::Future;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_model::{AppId, InstanceId};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use super::channel::Channel;
use super::{Call, LoadedApp, PROTOCOL, Reply, WorkerError, WorkerStats, values};
use crate::aot::Code;
use crate::app::{AppConfig, ValueAnswer, ValueCall};

/// Longest wait for a reply, but for `drain`.
const REPLY_S_MAX: u64 = 30;

/// The worker of one data folder. It connects when it is called, and again after the worker was
/// started again: what is loaded then, [`WorkerClient::list`] says.
pub struct WorkerClient {
    socket: PathBuf,
    channel: Mutex<Option<Channel>>,
}

impl WorkerClient {
    /// The worker whose control socket is there. Nothing is connected yet.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), channel: Mutex::new(None) }
    }

    /// Loads an instance, in place of one of the same id.
    ///
    /// # Errors
    /// `Refused` with `Load` when the component cannot run here.
    pub async fn load(&self, app: AppConfig, code: &Code) -> Result<(), WorkerError> {
        self.done(Call::Load(Box::new(app)), Some(code.as_fd())).await
    }

    /// Forgets an instance, if it is there.
    ///
    /// # Errors
    /// When the worker cannot be reached.
    pub async fn unload(&self, instance: InstanceId) -> Result<(), WorkerError> {
        self.done(Call::Unload { instance }, None).await
    }

    /// What is loaded; nothing, when the worker was started again.
    ///
    /// # Errors
    /// When the worker cannot be reached.
    pub async fn list(&self) -> Result<Vec<LoadedApp>, WorkerError> {
        match self.call(Call::List {}, None, REPLY_S_MAX).await? {
            Reply::Loaded { apps } => Ok(apps),
            other => Err(unexpected(&other)),
        }
    }

    /// What the worker and each instance used.
    ///
    /// # Errors
    /// When the worker cannot be reached.
    pub async fn stats(&self) -> Result<WorkerStats, WorkerError> {
        match self.call(Call::Stats {}, None, REPLY_S_MAX).await? {
            Reply::Stats(stats) => Ok(stats),
            other => Err(unexpected(&other)),
        }
    }

    /// Lets the requests under way end and then the process; the agent starts it again.
    ///
    /// # Errors
    /// When the worker cannot be reached.
    pub async fn drain(&self, grace_ms: u32) -> Result<(), WorkerError> {
        let reply_s_max = u64::from(grace_ms) / 1000 + REPLY_S_MAX;
        match self.call(Call::Drain { grace_ms }, None, reply_s_max).await? {
            Reply::Done {} => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits until the worker that runs now is gone, on a connection of its own.
    ///
    /// # Errors
    /// When there is no worker to wait for.
    pub async fn until_gone(&self) -> Result<(), WorkerError> {
        let mut channel = within(REPLY_S_MAX, connect(&self.socket)).await?;
        // The worker says nothing unasked, so whatever ends this is the end.
        let _ = channel.receive::<Reply>().await;
        Ok(())
    }

    /// Answers what apps ask of their values, until the worker that runs now is gone.
    ///
    /// # Errors
    /// When there is no worker, or the connection breaks.
    pub async fn answer_values<F, R>(&self, handler: F) -> Result<(), WorkerError>
    where
        F: Fn(AppId, ValueCall) -> R,
        R: Future<Output = ValueAnswer> + Send + 'static,
    {
        let mut channel = within(REPLY_S_MAX, connect(&self.socket)).await?;
        match within(REPLY_S_MAX, one(&mut channel, &Call::Values {}, None)).await? {
            Reply::Done {} => {}
            other => return Err(unexpected(&other)),
        }
        values::answer(&mut channel, handler).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => WorkerError::Protocol(error.to_string()),
            _ => WorkerError::Gone,
        })
    }

    async fn done(&self, call: Call, beside: Option<BorrowedFd<'_>>) -> Result<(), WorkerError> {
        match self.call(call, beside, REPLY_S_MAX).await? {
            Reply::Done {} => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn call(
        &self,
        call: Call,
        beside: Option<BorrowedFd<'_>>,
        reply_s_max: u64,
    ) -> Result<Reply, WorkerError> {
        let mut kept = self.channel.lock().await;
        // A connection whose worker is gone fails at once; a new one is tried then.
        if let Some(channel) = kept.take()
            && let Ok(answer) = self.exchange(&mut kept, channel, &call, beside, reply_s_max).await
        {
            return answer;
        }
        let channel = within(REPLY_S_MAX, connect(&self.socket)).await?;
        self.exchange(&mut kept, channel, &call, beside, reply_s_max).await?
    }

    /// One call on one connection, which is kept only after a whole reply: given up half-way, it
    /// would answer the next call with the reply to this one. The outer error is a connection
    /// that is no more.
    async fn exchange(
        &self,
        kept: &mut Option<Channel>,
        mut channel: Channel,
        call: &Call,
        beside: Option<BorrowedFd<'_>>,
        reply_s_max: u64,
    ) -> Result<Result<Reply, WorkerError>, WorkerError> {
        match within(reply_s_max, one(&mut channel, call, beside)).await {
            Ok(reply) => {
                *kept = Some(channel);
                Ok(match reply {
                    Reply::Failed { code, message } => Err(WorkerError::Refused { code, message }),
                    reply => Ok(reply),
                })
            }
            Err(error @ (WorkerError::Slow(_) | WorkerError::Protocol(_))) => Ok(Err(error)),
            Err(error) => Err(error),
        }
    }
}

async fn connect(socket: &Path) -> Result<Channel, WorkerError> {
    let stream = UnixStream::connect(socket).await.map_err(WorkerError::Unreachable)?;
    let mut channel = Channel::new(stream);
    match one(&mut channel, &Call::Hello { protocol: PROTOCOL }, None).await? {
        Reply::Hello { protocol: PROTOCOL, .. } => Ok(channel),
        Reply::Hello { protocol, build } => Err(WorkerError::Protocol(format!(
            "it speaks version {protocol} (build {build}), this is version {PROTOCOL}"
        ))),
        Reply::Failed { code, message } => Err(WorkerError::Refused { code, message }),
        other => Err(unexpected(&other)),
    }
}

async fn one(
    channel: &mut Channel,
    call: &Call,
    beside: Option<BorrowedFd<'_>>,
) -> Result<Reply, WorkerError> {
    let gone = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::InvalidData => WorkerError::Protocol(error.to_string()),
        _ => WorkerError::Gone,
    };
    channel.send(call, beside).await.map_err(gone)?;
    let (reply, _) = channel.receive().await.map_err(gone)?.ok_or(WorkerError::Gone)?;
    Ok(reply)
}

async fn within<T>(
    seconds: u64,
    work: impl Future<Output = Result<T, WorkerError>>,
) -> Result<T, WorkerError> {
    tokio::time::timeout(Duration::from_secs(seconds), work)
        .await
        .unwrap_or(Err(WorkerError::Slow(seconds)))
}

fn unexpected(reply: &Reply) -> WorkerError {
    WorkerError::Protocol(format!("an unexpected reply: {reply:?}"))
}
