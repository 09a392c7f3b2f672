//! Frames on a unix stream socket: four bytes of length, most significant first, then JSON;
//! descriptors travel with a frame's first byte. Both ends use it.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Largest frame: a table of more than 100,000 routes.
pub(crate) const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
const LENGTH_BYTES: usize = 4;
const DESCRIPTORS_MAX: usize = 4;

/// A control connection failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    #[error("the control socket failed")]
    Io(#[from] io::Error),
    #[error("a control frame is not of this protocol: {0}")]
    Frame(String),
    #[error("the peer does not read its control socket")]
    Stuck,
}

pub(crate) struct Channel {
    stream: UnixStream,
    read: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Channel {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, read: Vec::new(), descriptors: VecDeque::new() }
    }

    /// The next message and the descriptors received so far; `None` at the end. Safe to drop and
    /// call again: what was read stays here.
    pub(crate) async fn receive<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<(T, Vec<OwnedFd>)>, ChannelError> {
        loop {
            if let Some(text) = self.frame()? {
                let message = serde_json::from_slice(&text)
                    .map_err(|error| ChannelError::Frame(error.to_string()))?;
                return Ok(Some((message, self.descriptors.drain(..).collect())));
            }
            let Self { stream, read, descriptors } = self;
            stream.readable().await?;
            match stream.try_io(Interest::READABLE, || receive_some(stream, read, descriptors)) {
                Ok(0) if read.is_empty() => return Ok(None),
                Ok(0) => {
                    return Err(ChannelError::Frame(
                        "the peer left in the middle of a frame".into(),
                    ));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends a frame of [`encode`], its descriptors with the first byte.
    pub(crate) async fn send_text(
        &mut self,
        text: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        let mut sent = 0;
        while sent < text.len() {
            self.stream.writable().await?;
            let now = if sent == 0 { descriptors } else { &[] };
            match self
                .stream
                .try_io(Interest::WRITABLE, || send_some(&self.stream, &text[sent..], now))
            {
                Ok(bytes) => sent += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes a complete frame out of what was read.
    fn frame(&mut self) -> Result<Option<Vec<u8>>, ChannelError> {
        let Some(length) = self.read.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(ChannelError::Frame(format!(
                "{length} bytes, more than {FRAME_BYTES_MAX}"
            )));
        }
        let end = LENGTH_BYTES + length;
        if self.read.len() < end {
            return Ok(None);
        }
        let rest = self.read.split_off(end);
        let mut frame = std::mem::replace(&mut self.read, rest);
        frame.drain(..LENGTH_BYTES);
        Ok(Some(frame))
    }
}

/// A message as a frame.
pub(crate) fn encode(message: &impl Serialize) -> Result<Vec<u8>, ChannelError> {
    let mut text = vec![0; LENGTH_BYTES];
    serde_json::to_writer(&mut text, message)
        .map_err(|error| ChannelError::Frame(error.to_string()))?;
    let length = text.len() - LENGTH_BYTES;
    if length > FRAME_BYTES_MAX {
        return Err(ChannelError::Frame(format!("{length} bytes, more than {FRAME_BYTES_MAX}")));
    }
    text[..LENGTH_BYTES].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(text)
}

fn receive_some(
    stream: &UnixStream,
    read: &mut Vec<u8>,
    descriptors: &mut VecDeque<OwnedFd>,
) -> io::Result<usize> {
    let mut bytes = [0; 16 * 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        stream,
        &mut [io::IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    // Descriptors that nobody asked for are closed.
    descriptors.truncate(DESCRIPTORS_MAX);
    read.extend_from_slice(&bytes[..received.bytes]);
    Ok(received.bytes)
}

fn send_some(
    stream: &UnixStream,
    text: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let parts = [io::IoSlice::new(text)];
    Ok(rustix::net::sendmsg(stream, &parts, &mut ancillary, SendFlags::NOSIGNAL)?)
}
