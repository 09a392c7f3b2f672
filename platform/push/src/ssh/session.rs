//! What a connection may do: log in with a key, open a channel, run one git command on it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use berth_model::Caller;
use bytes::Bytes;
use russh::keys::HashAlg;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, VerifiedPublicKey};
use russh::{
    Channel, ChannelId, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf,
};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::command;
use crate::converse::BoxWriter;
use crate::service::{self, Call, ServiceError};
use crate::{Push, PushHost, Service, SshKey};

/// Channels of one connection; clients that share a connection use one for each command.
const CHANNELS_MAX: usize = 8;
/// Extended data of this type is stderr (RFC 4254, 5.2).
const STDERR: u32 = 1;

/// The handler of one connection.
pub(super) struct Session<H: PushHost> {
    push: Push<H>,
    peer: SocketAddr,
    /// Set when the client has logged in.
    known: CancellationToken,
    /// Commands that run now.
    running: watch::Sender<usize>,
    caller: Option<Caller>,
    /// The last key that is not known; clients try one after the other.
    unknown: Option<SshKey>,
    /// Channels without a command yet, with the protocol version asked for.
    waiting: HashMap<ChannelId, (Channel<Msg>, u8)>,
    open: usize,
    gone: CancellationToken,
    /// Every command learns of the end of the connection.
    _guard: DropGuard,
}

impl<H: PushHost> Session<H> {
    pub(super) fn new(
        push: Push<H>,
        peer: SocketAddr,
        known: CancellationToken,
        running: watch::Sender<usize>,
    ) -> Self {
        let gone = CancellationToken::new();
        let _guard = gone.clone().drop_guard();
        let (caller, unknown, waiting) = (None, None, HashMap::new());
        Self { push, peer, known, running, caller, unknown, waiting, open: 0, gone, _guard }
    }

    /// What a command on a channel needs.
    fn start(&self, caller: &Caller, version: u8) -> Running<H> {
        Running {
            push: self.push.clone(),
            caller: caller.clone(),
            version,
            gone: self.gone.child_token(),
            _counted: Counted::new(self.running.clone()),
        }
    }
}

impl<H: PushHost> Drop for Session<H> {
    fn drop(&mut self) {
        if let Some(key) = self.unknown.take() {
            self.push.inner.host.unknown_key(&key, Some(self.peer.ip()));
        }
    }
}

impl<H: PushHost> Handler for Session<H> {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        let public = key.public_key;
        let mut bare = public.clone();
        bare.set_comment("");
        let Ok(openssh) = bare.to_openssh() else { return Ok(Auth::reject()) };
        let fingerprint = public.fingerprint(HashAlg::Sha256).to_string();
        let key = SshKey { fingerprint, openssh };
        let from = Some(self.peer.ip());
        self.caller = self.push.inner.host.caller_of_key(&key, from).await;
        self.unknown = self.caller.is_none().then_some(key);
        Ok(if self.caller.is_some() { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_succeeded(&mut self, _: &mut russh::server::Session) -> Result<(), Self::Error> {
        self.known.cancel();
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        if self.open >= CHANNELS_MAX {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        self.open += 1;
        self.waiting.insert(channel.id(), (channel, 0));
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        self.waiting.remove(&channel);
        self.open = self.open.saturating_sub(1);
        Ok(())
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        let version = command::version(value).filter(|_| name == "GIT_PROTOCOL");
        match (version, self.waiting.get_mut(&channel)) {
            (Some(asked), Some((_, version))) => {
                *version = asked;
                session.channel_success(channel)
            }
            _ => session.channel_failure(channel),
        }
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        data: &[u8],
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        let (Some((channel, version)), Some(caller)) = (self.waiting.remove(&id), &self.caller)
        else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        let running = self.start(caller, version);
        match command::parse(data) {
            Some((service, name)) => {
                let name = name.to_owned();
                tokio::spawn(async move { running.serve(channel, service, &name).await });
            }
            None => {
                tokio::spawn(running.explain(channel, NO_SHELL.to_owned()));
            }
        }
        Ok(())
    }

    async fn shell_request(
        &mut self,
        id: ChannelId,
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        let (Some((channel, version)), Some(caller)) = (self.waiting.remove(&id), &self.caller)
        else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        let greeting = format!("Hello {}. {NO_SHELL}", caller.name);
        tokio::spawn(self.start(caller, version).explain(channel, greeting));
        Ok(())
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(russh::Pty, u32)],
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        _: &str,
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }
}

const NO_SHELL: &str =
    "This is Berth's git: use 'git push', 'git fetch' or 'git clone'; there is no shell here.";

/// A command on a channel.
struct Running<H> {
    push: Push<H>,
    caller: Caller,
    version: u8,
    gone: CancellationToken,
    _counted: Counted,
}

/// One of the commands that run.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(running: watch::Sender<usize>) -> Self {
        running.send_modify(|count| *count += 1);
        Self(running)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl<H: PushHost> Running<H> {
    async fn serve(self, channel: Channel<Msg>, service: Service, name: &str) {
        let (reader, writer) = channel.split();
        let writer = Arc::new(writer);
        let opened = self.push.inner.host.open(&self.caller, service, name).await;
        let repository = match opened {
            Ok(repository) => repository,
            Err(refusal) => return finish(&writer, Some(&refusal.message), 1).await,
        };
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(read(reader, sender, self.gone.clone()));
        let input = futures_util::stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|bytes: Bytes| (Ok(bytes), receiver))
        });
        let call = Call {
            caller: self.caller,
            repository,
            service,
            stateless: false,
            advertise: false,
            version: self.version,
        };
        let stderr = Arc::clone(&writer);
        let errors = move || -> BoxWriter { Box::new(stderr.make_writer_ext(Some(STDERR))) };
        let output = Box::pin(writer.make_writer());
        let input = std::pin::pin!(input);
        let ended =
            service::run(&self.push, call, input, output, Some(&errors), self.gone.clone()).await;
        match ended {
            Ok(exit) => {
                let code = u32::try_from(exit.code).unwrap_or(1);
                finish(&writer, service::why_killed(&exit), code).await;
            }
            Err(ServiceError::Gone) => finish(&writer, None, 1).await,
            Err(error) => finish(&writer, Some(&error.to_string()), 1).await,
        }
    }

    async fn explain(self, channel: Channel<Msg>, text: String) {
        let (_reader, writer) = channel.split();
        finish(&writer, Some(&text), 1).await;
    }
}

/// Says the last words, the exit status, and closes the channel.
async fn finish(writer: &ChannelWriteHalf<Msg>, text: Option<&str>, code: u32) {
    let last_words = async {
        if let Some(text) = text {
            let (output, mut lines) = crate::PushOutput::new();
            output.error(text);
            output.close();
            let mut stderr = Box::pin(writer.make_writer_ext(Some(STDERR)));
            while let Some(line) = lines.next().await {
                stderr.write_all(format!("{line}\r\n").as_bytes()).await?;
            }
        }
        writer.exit_status(code).await.map_err(std::io::Error::other)?;
        writer.eof().await.map_err(std::io::Error::other)?;
        writer.close().await.map_err(std::io::Error::other)
    };
    // A client that reads nothing is closed all the same when its connection ends.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(10), last_words).await;
}

/// Reads a channel to its end: data for git, and whether the client closed it.
async fn read(mut reader: ChannelReadHalf, sender: mpsc::Sender<Bytes>, gone: CancellationToken) {
    let mut sender = Some(sender);
    while let Some(message) = reader.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                if let Some(open) = &sender
                    && open.send(data).await.is_err()
                {
                    sender = None;
                }
            }
            ChannelMsg::Eof => sender = None,
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    gone.cancel();
}
