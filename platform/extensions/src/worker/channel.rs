//! Messages with a descriptor beside them, over a unix stream socket.
//!
//! A message is its length (4 bytes, big-endian), the number of descriptors (1 byte, 0 or 1) and
//! JSON. Reading can be given up at any point and goes on later; writing cannot.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Largest message; an app's environment is by far the largest part of one.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
const HEADER_BYTES: usize = 5;
const PIECE_BYTES: usize = 16 * 1024;
/// Most descriptors that came and whose message did not.
const DESCRIPTORS_MAX: usize = 4;

pub(super) struct Channel {
    stream: Arc<UnixStream>,
    received: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

/// Sends messages.
pub(super) struct Writer {
    stream: Arc<UnixStream>,
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

impl Channel {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream: Arc::new(stream), received: Vec::new(), descriptors: VecDeque::new() }
    }

    /// The sending half, for whoever sends while another receives.
    pub(super) fn writer(&self) -> Writer {
        Writer { stream: Arc::clone(&self.stream) }
    }

    /// Sends one message.
    pub(super) async fn send<T: Serialize>(
        &mut self,
        message: &T,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        self.writer().send(message, descriptor).await
    }

    /// The next message; `None` at the end of the connection.
    pub(super) async fn receive<T: DeserializeOwned>(
        &mut self,
    ) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(Some(message));
            }
            let (piece, descriptors) =
                self.stream.async_io(Interest::READABLE, || receive_piece(&self.stream)).await?;
            if piece.is_empty() {
                return if self.received.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
            self.received.extend_from_slice(&piece);
            self.descriptors.extend(descriptors);
            if self.descriptors.len() > DESCRIPTORS_MAX {
                return Err(invalid("more descriptors than messages"));
            }
        }
    }

    fn take_message<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        let Some((header, rest)) = self.received.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [a, b, c, d, beside] = *header;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(invalid(format!("a message of {length} bytes is over the limit")));
        }
        let Some(text) = rest.get(..length) else {
            return Ok(None);
        };
        // The text may hold secrets, and serde's message quotes what it does not understand.
        let message = serde_json::from_slice(text).map_err(|error| {
            invalid(format!("not a message of this protocol, at byte {}", error.column()))
        })?;
        let descriptor = match beside {
            0 => None,
            1 => Some(
                self.descriptors.pop_front().ok_or_else(|| invalid("a descriptor is missing"))?,
            ),
            _ => return Err(invalid("a message has at most one descriptor")),
        };
        self.received.drain(..HEADER_BYTES + length);
        Ok(Some((message, descriptor)))
    }
}

impl Writer {
    /// Sends one message; two must not be sent at once.
    pub(super) async fn send<T: Serialize>(
        &self,
        message: &T,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        if text.len() > MESSAGE_BYTES_MAX {
            return Err(invalid(format!(
                "a message of {} bytes is over the limit of {MESSAGE_BYTES_MAX}",
                text.len()
            )));
        }
        // The length was just checked against far less than 4 GiB.
        let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
        bytes.push(u8::from(descriptor.is_some()));
        bytes.extend_from_slice(&text);
        let mut sent = 0;
        while sent < bytes.len() {
            let beside = if sent == 0 { descriptor } else { None };
            sent += self
                .stream
                .async_io(Interest::WRITABLE, || send_piece(&self.stream, &bytes[sent..], beside))
                .await?;
        }
        Ok(())
    }
}

fn send_piece(
    stream: &UnixStream,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let beside: Vec<_> = descriptor.into_iter().collect();
    if !beside.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&beside));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(sendmsg(stream, &[io::IoSlice::new(bytes)], &mut ancillary, flags)?)
}

fn receive_piece(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; PIECE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(stream, &mut [io::IoSliceMut::new(&mut bytes)], &mut ancillary, flags)?;
    let descriptors = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        })
        .flatten()
        .collect();
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(invalid("more descriptors than a message may have"));
    }
    bytes.truncate(received.bytes);
    Ok((bytes, descriptors))
}
