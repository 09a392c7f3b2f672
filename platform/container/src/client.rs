//! Speaks to the agent from tokio.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use tokio::io::unix::AsyncFd;

use crate::wire::{DESCRIPTORS_MAX, FailureCode, MESSAGE_BYTES_MAX, Reply, Request};

/// The agent could not be reached, or refused.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The socket does not answer.
    #[error("cannot reach berth-agent at {path}")]
    Unreachable {
        /// The agent's socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection ended before the reply.
    #[error("berth-agent closed the connection before it replied")]
    Closed,
    /// The reply is not one of the protocol.
    #[error("berth-agent sent a reply that is not of this protocol: {0}")]
    Protocol(String),
    /// The agent refused or failed.
    #[error("{message}")]
    Failed {
        /// What failed.
        code: FailureCode,
        /// For people.
        message: String,
    },
}

/// The agent of one data folder. Cheap to clone; each call is a connection of its own.
#[derive(Clone, Debug)]
pub struct Agent {
    socket: Arc<Path>,
}

impl Agent {
    /// An agent that listens on `socket`. Nothing is connected yet.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into().into() }
    }

    /// Sends a request and waits for its only reply. Dropping the future cancels the request
    /// where the verb says that closing the connection does.
    ///
    /// # Errors
    /// `Unreachable`, `Closed`, `Protocol`, and `Failed` for a reply of that kind.
    pub async fn call(
        &self,
        request: &Request,
        descriptors: &[OwnedFd],
    ) -> Result<(Reply, Vec<OwnedFd>), AgentError> {
        self.session(request, descriptors).await?.reply().await
    }

    /// Sends a request that has several replies.
    ///
    /// # Errors
    /// `Unreachable` and `Protocol` (a request over the size limit).
    pub async fn session(
        &self,
        request: &Request,
        descriptors: &[OwnedFd],
    ) -> Result<Session, AgentError> {
        let unreachable =
            |source: io::Error| AgentError::Unreachable { path: self.socket.to_path_buf(), source };
        let text = serde_json::to_vec(request).map_err(|e| AgentError::Protocol(e.to_string()))?;
        if text.len() > MESSAGE_BYTES_MAX {
            return Err(AgentError::Protocol(format!(
                "a request of {} bytes is over the limit of {MESSAGE_BYTES_MAX}",
                text.len()
            )));
        }
        let socket = connect(&self.socket).map_err(unreachable)?;
        #[expect(
            deprecated,
            reason = "sound for an OwnedFd, whose descriptor never changes; the successor is unsafe"
        )]
        let socket = AsyncFd::new(socket).map_err(unreachable)?;
        loop {
            let mut ready = socket.writable().await.map_err(unreachable)?;
            match ready.try_io(|fd| send(fd.get_ref(), &text, descriptors)) {
                Ok(sent) => {
                    sent.map_err(unreachable)?;
                    return Ok(Session { socket });
                }
                Err(_would_block) => {}
            }
        }
    }
}

/// A request whose replies are still coming. Dropping it closes the connection.
pub struct Session {
    socket: AsyncFd<OwnedFd>,
}

impl Session {
    /// The next reply and its descriptors.
    ///
    /// # Errors
    /// `Closed` when there is none, `Failed` for a reply of that kind.
    pub async fn reply(&mut self) -> Result<(Reply, Vec<OwnedFd>), AgentError> {
        loop {
            let mut ready = self.socket.readable().await.map_err(|_| AgentError::Closed)?;
            match ready.try_io(|fd| receive(fd.get_ref())) {
                Ok(Ok((bytes, _))) if bytes.is_empty() => return Err(AgentError::Closed),
                Ok(Ok((bytes, mut descriptors))) => {
                    let text = text_of(bytes, &mut descriptors)
                        .map_err(|e| AgentError::Protocol(e.to_string()))?;
                    let reply = serde_json::from_slice(&text)
                        .map_err(|e| AgentError::Protocol(e.to_string()))?;
                    return match reply {
                        Reply::Failed { code, message } => {
                            Err(AgentError::Failed { code, message })
                        }
                        reply => Ok((reply, descriptors)),
                    };
                }
                Ok(Err(_)) => return Err(AgentError::Closed),
                Err(_would_block) => {}
            }
        }
    }
}

fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// A reply over [`MESSAGE_BYTES_MAX`] is sent as this word, its JSON in a memory file as the last
/// descriptor.
pub const LARGE: &[u8] = b"large";
/// Largest reply of that kind.
const LARGE_BYTES_MAX: u64 = 64 << 20;

/// The JSON of a reply, wherever it is.
fn text_of(bytes: Vec<u8>, descriptors: &mut Vec<OwnedFd>) -> io::Result<Vec<u8>> {
    if bytes != LARGE {
        return Ok(bytes);
    }
    let file = descriptors.pop().map(std::fs::File::from);
    let file = file.ok_or_else(|| io::Error::other("a large reply without its file"))?;
    let length = file.metadata()?.len();
    if length > LARGE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a reply over the size limit"));
    }
    let mut text = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut text, 0)?;
    Ok(text)
}

/// Sends one message with its descriptors; also the agent's way to reply.
///
/// # Errors
/// What `sendmsg(2)` says; more than [`DESCRIPTORS_MAX`] descriptors are `InvalidInput`.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
    if descriptors.len() > DESCRIPTORS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&borrowed));
    }
    let parts = [io::IoSlice::new(bytes)];
    rustix::net::sendmsg(socket, &parts, &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message with its descriptors; an empty message is the end of the connection.
///
/// # Errors
/// What `recvmsg(2)` says; a message over [`MESSAGE_BYTES_MAX`] is `InvalidData`.
pub fn receive(socket: impl AsFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; MESSAGE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = {
        let mut parts = [io::IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?
    };
    let descriptors = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        })
        .flatten()
        .collect();
    if received.flags.contains(rustix::net::ReturnFlags::TRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message over the size limit"));
    }
    bytes.truncate(received.bytes);
    Ok((bytes, descriptors))
}
