//! One connection of a caller: replies go out, and a caller who goes away is noticed, because
//! closing a connection cancels most of what it started.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use berth_container::client::{LARGE, send};
use berth_container::{MESSAGE_BYTES_MAX, Reply};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The caller closed the connection (or sent more than its one request, which is refused).
    Closed,
    /// The watched descriptor is readable.
    Ready,
    /// The deadline passed.
    Late,
}

/// The caller's side of one request.
pub(crate) struct Connection {
    socket: OwnedFd,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Sends a reply with its descriptors.
    pub(crate) fn reply(&self, reply: &Reply, descriptors: &[OwnedFd]) -> io::Result<()> {
        let text = serde_json::to_vec(reply)?;
        if text.len() <= MESSAGE_BYTES_MAX {
            return send(&self.socket, &text, descriptors);
        }
        // No reply of this size has descriptors of its own.
        let memory = rustix::fs::memfd_create("reply", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut memory = std::fs::File::from(memory);
        memory.write_all(&text)?;
        send(&self.socket, LARGE, &[memory.into()])
    }

    /// The socket: it becomes readable when the caller closes it.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Waits until `watched` is readable, the caller is gone or `deadline` has passed. Readiness
    /// of `watched` wins over the rest.
    pub(crate) fn wait(
        &self,
        watched: Option<BorrowedFd<'_>>,
        deadline: Option<Instant>,
    ) -> io::Result<Woken> {
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let timeout = left.map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            });
            let mut polled = vec![PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)];
            if let Some(watched) = watched {
                polled.push(PollFd::from_borrowed_fd(watched, PollFlags::IN));
            }
            match poll(&mut polled, timeout.as_ref()) {
                Ok(0) => return Ok(Woken::Late),
                Ok(_) if polled.get(1).is_some_and(|fd| !fd.revents().is_empty()) => {
                    return Ok(Woken::Ready);
                }
                Ok(_) => return Ok(Woken::Closed),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
