//! The pipes and the socketpair between this process and a tool.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use tokio::net::UnixStream;
use tokio::net::unix::pipe::{Receiver, Sender};

use crate::Service;

pub(super) struct Pipes {
    pub(super) stdin: Sender,
    pub(super) stdout: Receiver,
    pub(super) stderr: Receiver,
    /// Our end of the hooks' connection, where the service has hooks.
    pub(super) control: Option<UnixStream>,
    /// The tool's ends: stdin, stdout, stderr and, with hooks, the control channel.
    pub(super) descriptors: Vec<OwnedFd>,
}

impl Pipes {
    pub(super) fn new(service: Service) -> io::Result<Self> {
        let (their_stdin, our_stdin) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (our_stdout, their_stdout) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (our_stderr, their_stderr) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let mut descriptors = vec![their_stdin, their_stdout, their_stderr];
        let control = match service {
            Service::Receive => {
                let (ours, theirs) = rustix::net::socketpair(
                    AddressFamily::UNIX,
                    SocketType::STREAM,
                    SocketFlags::CLOEXEC,
                    None,
                )?;
                descriptors.push(theirs);
                let ours = StdUnixStream::from(ours);
                ours.set_nonblocking(true)?;
                Some(UnixStream::from_std(ours)?)
            }
            Service::Upload => None,
        };
        Ok(Self {
            stdin: Sender::from_owned_fd(our_stdin)?,
            stdout: Receiver::from_owned_fd(our_stdout)?,
            stderr: Receiver::from_owned_fd(our_stderr)?,
            control,
            descriptors,
        })
    }
}
