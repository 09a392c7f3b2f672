//! The build container: started once, by the first step that needs it, and gone with the build.
//!
//! Commands, file changes and layers go through the agent by descriptor; nothing in here opens a
//! path of the container. Its network is the proxy of this build.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use berth_blobs::{BlobStore, BlobWriter};
use berth_container::{Agent, AgentError, Exit, Part, Payload, Reply, Request, Session, Start};
use berth_model::{Digest, InstanceId};
use rustix::fs::MemfdFlags;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use crate::BuildError;
use crate::dated::Dated;
use crate::proxy::{Bounds, Note, Policy, Proxy, Reach};

/// The platform's program in every container.
const INIT: &str = "/.berth/init";
/// Largest layer, and largest tree of an app.
pub(crate) const LAYER_BYTES_MAX: u64 = 4 << 30;
/// Longest time for a change of files.
const FILES_S_MAX: u64 = 600;
/// What is still in a pipe after its writers were killed is read within this.
const DRAIN: Duration = Duration::from_secs(5);
/// Longest line of output that is kept in memory before it is passed on in pieces.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// A build container that runs.
pub(crate) struct Container {
    agent: Agent,
    instance: InstanceId,
    proxy: Proxy,
}

/// A command for it.
pub(crate) struct Command {
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) working_dir: String,
    pub(crate) time_s_max: u64,
}

/// What becomes of one of a command's outputs.
pub(crate) enum Output {
    /// Each line is passed on.
    Lines(Arc<dyn Fn(&str) + Send + Sync>),
    /// Kept, up to so many bytes; the rest is dropped.
    Keep(usize),
    /// Each piece is passed on as it comes.
    Pieces(TakePiece),
}

/// Takes a piece of an output.
pub(crate) type TakePiece = Box<dyn FnMut(&[u8]) + Send>;

/// How a command ended, and what was kept of its standard output.
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Fills a command's standard input; runs on a blocking thread.
pub(crate) type Fill = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// A directory that became a layer.
pub(crate) struct Sealed {
    pub(crate) diff_id: Digest,
    pub(crate) bytes: u64,
    pub(crate) tops: Vec<String>,
}

impl Container {
    /// Starts it with its proxy, which lets nothing through yet.
    pub(crate) async fn start(
        agent: &Agent,
        start: Start,
        policy: Arc<Policy>,
        bounds: Bounds,
        note: Note,
    ) -> Result<Self, BuildError> {
        let instance = start.instance;
        let (reply, descriptors) = agent.call(&Request::Start(start), &[]).await?;
        let listener = match (reply, descriptors.into_iter().next()) {
            (Reply::Started { .. }, Some(listener)) => TcpListener::from(listener),
            (reply, _) => return Err(unexpected(&reply)),
        };
        let proxy = Proxy::serve(listener, policy, bounds, note);
        match proxy {
            Ok(proxy) => Ok(Self { agent: agent.clone(), instance, proxy }),
            Err(error) => {
                stop(agent, instance).await;
                Err(BuildError::platform("serve the network of the build")(error))
            }
        }
    }

    /// What the next command may reach.
    pub(crate) fn allow(&self, reach: Reach) {
        self.proxy.allow(reach);
    }

    /// Ends it and whatever runs in it.
    pub(crate) async fn stop(&self) {
        stop(&self.agent, self.instance).await;
    }

    /// Runs a command to its end. Dropping the future kills it.
    pub(crate) async fn run(
        &self,
        command: Command,
        stdin: Option<Fill>,
        (stdout, stderr): (Output, Output),
        cancel: &CancellationToken,
    ) -> Result<Ended, BuildError> {
        const RUN: &str = "run a command in the build container";
        let payload = Payload {
            argv: command.argv,
            env: command.env.into_iter().collect(),
            working_dir: command.working_dir,
        };
        let (input, filling) = input(stdin).map_err(BuildError::platform(RUN))?;
        let (out_read, out_write) = io::pipe().map_err(BuildError::platform(RUN))?;
        let (err_read, err_write) = io::pipe().map_err(BuildError::platform(RUN))?;
        let request = Request::Exec {
            instance: self.instance,
            tty: None,
            time_ms_max: u32::try_from(command.time_s_max.saturating_mul(1000)).unwrap_or(u32::MAX),
        };
        let descriptors = [memory(&payload)?, input, out_write.into(), err_write.into()];
        let session = self.agent.session(&request, &descriptors).await?;
        // Our copies of the write ends: the pipes end with the command.
        drop(descriptors);
        let out = receiver(out_read.into()).map_err(BuildError::platform(RUN))?;
        let err = receiver(err_read.into()).map_err(BuildError::platform(RUN))?;
        let ended = async {
            let mut reading =
                std::pin::pin!(async { tokio::join!(read(out, stdout), read(err, stderr)) });
            let mut exiting = std::pin::pin!(exit(session));
            let (exit, (stdout, stderr)) = tokio::select! {
                exit = &mut exiting => {
                    (exit?, tokio::time::timeout(DRAIN, &mut reading).await.unwrap_or_default())
                }
                read = &mut reading => (exiting.await?, read),
            };
            Ok::<_, AgentError>(Ended { exit, stdout, stderr })
        };
        let ended = tokio::select! {
            ended = ended => ended?,
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        };
        if let Some(filling) = filling {
            let filled = filling.await.map_err(BuildError::platform(RUN))?;
            // A command may end before it has read what follows the part that it wanted.
            match filled {
                Err(error) if ended.exit.code == 0 && error.kind() != io::ErrorKind::BrokenPipe => {
                    return Err(BuildError::platform(RUN)(error));
                }
                _ => {}
            }
        }
        Ok(ended)
    }

    /// Puts an archive into a directory of the container.
    pub(crate) async fn extract(
        &self,
        directory: &str,
        fill: Fill,
        cancel: &CancellationToken,
    ) -> Result<(), BuildError> {
        self.file_call(&["extract", directory], Some(fill), cancel).await
    }

    /// Removes a file or directory of the container, if it is there.
    pub(crate) async fn remove(
        &self,
        path: &str,
        cancel: &CancellationToken,
    ) -> Result<(), BuildError> {
        self.file_call(&["remove", path], None, cancel).await
    }

    async fn file_call(
        &self,
        words: &[&str],
        stdin: Option<Fill>,
        cancel: &CancellationToken,
    ) -> Result<(), BuildError> {
        let argv = [INIT, "file"].iter().chain(words).map(|&word| word.to_owned()).collect();
        let command = Command {
            argv,
            env: BTreeMap::new(),
            working_dir: "/".to_owned(),
            time_s_max: FILES_S_MAX,
        };
        let ended = self.run(command, stdin, (Output::Keep(0), Output::Keep(4096)), cancel).await?;
        if ended.exit.code == 0 {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
        Err(BuildError::platform("change files in the build container")(why))
    }

    /// Makes a blob of one directory. `mtime_s` is the time of its entries where it is not the
    /// usual one; `looking_for` are directories (`layers/x/y/bin/`) whose presence matters.
    pub(crate) async fn seal(
        &self,
        part: Part,
        blobs: &BlobStore,
        mtime_s: Option<u64>,
        looking_for: Vec<String>,
        cancel: &CancellationToken,
    ) -> Result<Sealed, BuildError> {
        const STORE: &str = "store a layer";
        let (mut read, write) = io::pipe().map_err(BuildError::platform(STORE))?;
        let writer = blobs.writer(LAYER_BYTES_MAX)?;
        let storing =
            tokio::task::spawn_blocking(move || -> io::Result<(BlobWriter, Vec<String>)> {
                let mut dated = Dated::new(BufWriter::with_capacity(256 << 10, writer), mtime_s)
                    .looking_for(looking_for);
                let mut buffer = vec![0; 256 << 10];
                loop {
                    match io::Read::read(&mut read, &mut buffer)? {
                        0 => break,
                        count => dated.write_all(&buffer[..count])?,
                    }
                }
                let (buffered, found) = dated.finish()?;
                Ok((buffered.into_inner().map_err(io::IntoInnerError::into_error)?, found))
            });
        let request = Request::LayerSeal { instance: self.instance, part };
        let sealing = async {
            let descriptors = [write.into()];
            let session = self.agent.session(&request, &descriptors).await;
            drop(descriptors);
            session?.reply().await
        };
        let sealed = tokio::select! {
            sealed = sealing => sealed,
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        };
        // The agent's refusal says more than the broken archive that follows from it.
        let (reply, _) = sealed?;
        if !matches!(reply, Reply::Sealed { .. }) {
            return Err(unexpected(&reply));
        }
        let (writer, tops) = storing
            .await
            .map_err(BuildError::platform(STORE))?
            .map_err(BuildError::platform(STORE))?;
        let (diff_id, bytes) = tokio::task::spawn_blocking(|| writer.finish())
            .await
            .map_err(BuildError::platform(STORE))??;
        Ok(Sealed { diff_id, bytes, tops })
    }
}

async fn stop(agent: &Agent, instance: InstanceId) {
    if let Err(error) = agent.call(&Request::Stop { instance, grace_ms: 0 }, &[]).await {
        tracing::warn!(%instance, %error, "a build container did not stop; the agent ends it when its time is over");
    }
}

fn unexpected(reply: &Reply) -> BuildError {
    // The variant's name alone: a reply has no secrets, but this must not depend on that.
    let name = format!("{reply:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned();
    AgentError::Protocol(format!("'{name}' is not the reply that was expected")).into()
}

async fn exit(mut session: Session) -> Result<Exit, AgentError> {
    match session.reply().await? {
        (Reply::Exited(exit), _) => Ok(exit),
        (reply, _) => match unexpected(&reply) {
            BuildError::Agent(error) => Err(error),
            other => Err(AgentError::Protocol(other.to_string())),
        },
    }
}

/// The payload in memory, because it holds the app's configuration.
fn memory(payload: &Payload) -> Result<OwnedFd, BuildError> {
    const HAND: &str = "hand a command to the build container";
    let bytes = serde_json::to_vec(payload)
        .map_err(|_| BuildError::platform("write a command")("it is not JSON"))?;
    let memory = rustix::fs::memfd_create("payload", MemfdFlags::CLOEXEC)
        .map_err(BuildError::platform(HAND))?;
    let mut file = std::fs::File::from(memory);
    file.write_all(&bytes).map_err(BuildError::platform(HAND))?;
    io::Seek::rewind(&mut file).map_err(BuildError::platform(HAND))?;
    Ok(file.into())
}

type Filling = tokio::task::JoinHandle<io::Result<()>>;

/// The read end of a command's input, and the thread that fills it.
fn input(stdin: Option<Fill>) -> io::Result<(OwnedFd, Option<Filling>)> {
    let Some(fill) = stdin else {
        return Ok((std::fs::File::open("/dev/null")?.into(), None));
    };
    let (read, write) = io::pipe()?;
    let filling = tokio::task::spawn_blocking(move || {
        let mut write = BufWriter::with_capacity(128 << 10, write);
        fill(&mut write)?;
        write.flush()
    });
    Ok((read.into(), Some(filling)))
}

fn receiver(descriptor: OwnedFd) -> io::Result<pipe::Receiver> {
    let flags = rustix::fs::fcntl_getfl(&descriptor)?;
    rustix::fs::fcntl_setfl(&descriptor, flags | rustix::fs::OFlags::NONBLOCK)?;
    pipe::Receiver::from_owned_fd(descriptor)
}

/// Reads an output to its end; gives what was to be kept.
async fn read(mut from: pipe::Receiver, mut into: Output) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => {
                tracing::warn!(%error, "the output of a build step ended early");
                break;
            }
        };
        match &mut into {
            Output::Pieces(take) => take(&buffer[..count]),
            Output::Keep(bytes_max) => {
                let room = bytes_max.saturating_sub(kept.len()).min(count);
                kept.extend_from_slice(&buffer[..room]);
            }
            Output::Lines(line) => {
                kept.extend_from_slice(&buffer[..count]);
                pass_lines(&mut kept, line);
            }
        }
    }
    if let Output::Lines(line) = &into
        && !kept.is_empty()
    {
        line(&String::from_utf8_lossy(&kept));
        kept.clear();
    }
    kept
}

fn pass_lines(kept: &mut Vec<u8>, line: &Arc<dyn Fn(&str) + Send + Sync>) {
    let mut begin = 0;
    while let Some(at) = kept[begin..].iter().position(|byte| *byte == b'\n') {
        line(&String::from_utf8_lossy(&kept[begin..begin + at]));
        begin += at + 1;
    }
    if kept.len() - begin > PIECE_BYTES_MAX {
        line(&String::from_utf8_lossy(&kept[begin..]));
        begin = kept.len();
    }
    kept.drain(..begin);
}
