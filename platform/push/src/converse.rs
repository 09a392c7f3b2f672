//! One push from the hook's first word to its last, beside the client's connection.
//!
//! It runs as a task of its own: a client that goes away cancels the build, but what is past its
//! release goes on, moves its ref and needs nobody to listen.

use std::io;
use std::time::Duration;

use berth_model::Caller;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio_util::sync::CancellationToken;

use crate::decide::Round;
use crate::output::PushLines;
use crate::service::Shallow;
use crate::{Push, PushHost, PushOutput, Repository, hook};

/// How long a client may take to read the last lines after the decision.
const LAST_LINES_MAX: Duration = Duration::from_secs(20);

/// A writer to the client.
pub(crate) type BoxWriter = Box<dyn AsyncWrite + Send + Unpin>;

/// What a conversation is about.
pub(crate) struct Conversation<H> {
    pub(crate) push: Push<H>,
    pub(crate) caller: Caller,
    pub(crate) repository: Repository,
    /// The other end of the hook's descriptor.
    pub(crate) relay: UnixStream,
    /// The client's own stderr; without it lines go through git's side band.
    pub(crate) errors: Option<BoxWriter>,
    pub(crate) shallow: Shallow,
    /// Set here when the hook runs: git has the whole pack.
    pub(crate) started: CancellationToken,
    /// Set when the client has gone; also set here when that is noticed first.
    pub(crate) gone: CancellationToken,
}

impl<H: PushHost> Conversation<H> {
    pub(crate) async fn run(self) {
        let app = self.repository.app;
        if let Err(error) = self.hold().await {
            tracing::warn!(%app, %error, "the conversation with git's hook broke off");
        }
    }

    async fn hold(self) -> io::Result<()> {
        let (mut reader, mut writer) = self.relay.into_split();
        let started = || self.started.cancel();
        let Some(request) = hook::hear(&mut reader, &mut writer, started).await? else {
            return Ok(());
        };
        let (output, lines) = PushOutput::new();
        let round = Round {
            push: self.push,
            caller: self.caller,
            repository: self.repository,
            output: output.clone(),
            cancel: self.gone.clone(),
            shallow: self.shallow.commits(),
        };
        let decision = round.decide(&request);
        let carrying = carry(lines, self.errors, writer);
        let leaving = hook::gone(&mut reader);
        tokio::pin!(decision, carrying, leaving);
        let (mut carried, mut left) = (None, false);
        let verdicts = loop {
            tokio::select! {
                verdicts = &mut decision => break verdicts,
                done = &mut carrying, if carried.is_none() => {
                    self.gone.cancel();
                    carried = Some(done);
                }
                () = &mut leaving, if !left => {
                    self.gone.cancel();
                    left = true;
                }
            }
        };
        output.close();
        let carried = match carried {
            Some(carried) => carried,
            None => tokio::time::timeout(LAST_LINES_MAX, carrying).await?,
        };
        hook::report(&mut carried?, &request.commands, &verdicts).await
    }
}

/// Carries lines to the client until there are no more, and gives the hook's writer back.
async fn carry(
    mut lines: PushLines,
    mut errors: Option<BoxWriter>,
    mut writer: OwnedWriteHalf,
) -> io::Result<OwnedWriteHalf> {
    while let Some(line) = lines.next().await {
        match &mut errors {
            Some(errors) => errors.write_all(format!("{line}\n").as_bytes()).await?,
            None => hook::tell(&mut writer, &line).await?,
        }
    }
    Ok(writer)
}
