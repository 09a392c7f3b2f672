//! The standard streams of a command, as tokio reads and writes them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use berth_container::Terminal;
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;

use crate::error::DeployError;

/// A command's standard streams.
pub enum Streams {
    /// A terminal: input and output in one.
    Terminal(Master),
    /// Three pipes; dropping `stdin` is the end of the input.
    Pipes {
        /// Where the command's input is written.
        stdin: pipe::Sender,
        /// Its output.
        stdout: pipe::Receiver,
        /// Its errors.
        stderr: pipe::Receiver,
    },
}

/// The master of a terminal. Cheap to clone: one to read, one to write, one to resize.
#[derive(Clone, Debug)]
pub struct Master(Arc<AsyncFd<OwnedFd>>);

impl Master {
    pub(super) fn new(master: OwnedFd) -> Result<Self, DeployError> {
        let failed = || DeployError::descriptor("use a terminal");
        rustix::io::ioctl_fionbio(&master, true).map_err(|error| failed()(error.into()))?;
        #[expect(
            deprecated,
            reason = "sound for an OwnedFd, whose descriptor never changes; the successor is unsafe"
        )]
        let master = AsyncFd::new(master).map_err(failed())?;
        Ok(Self(Arc::new(master)))
    }

    /// Gives the terminal another size.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn resize(&self, size: Terminal) -> io::Result<()> {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(self.0.get_ref().as_fd(), size)?)
    }
}

impl AsyncRead for Master {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let read = |fd: &AsyncFd<OwnedFd>| {
                Ok(rustix::io::read(fd.get_ref(), buffer.initialize_unfilled())?)
            };
            match guard.try_io(read) {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // The last process let go of the terminal: the end, not a failure.
                Ok(Err(error))
                    if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) =>
                {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Master {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                Ok(written) => return Poll::Ready(written),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Three pipes: our ends, and theirs in the order stdin, stdout, stderr.
pub(super) fn pipes() -> Result<(Streams, [OwnedFd; 3]), DeployError> {
    let failed = || DeployError::descriptor("make a pipe");
    let pair = || {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|error| failed()(error.into()))
    };
    let ((their_in, our_in), (our_out, their_out), (our_err, their_err)) =
        (pair()?, pair()?, pair()?);
    let streams = Streams::Pipes {
        stdin: pipe::Sender::from_owned_fd(our_in).map_err(failed())?,
        stdout: pipe::Receiver::from_owned_fd(our_out).map_err(failed())?,
        stderr: pipe::Receiver::from_owned_fd(our_err).map_err(failed())?,
    };
    Ok((streams, [their_in, their_out, their_err]))
}

#[cfg(test)]
mod tests {
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::tcgetwinsize;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_terminal_is_read_written_resized_and_ends_when_its_last_holder_lets_go() {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let end = ioctl_tiocgptpeer(&master, flags).unwrap();
        let mut master = Master::new(master).unwrap();
        master.resize(Terminal { rows: 33, columns: 99 }).unwrap();
        assert_eq!(tcgetwinsize(&end).unwrap().ws_col, 99);

        master.write_all(b"hi\n").await.unwrap();
        let mut line = [0; 16];
        let count = rustix::io::read(&end, &mut line).unwrap();
        assert_eq!(&line[..count], b"hi\n");
        rustix::io::write(&end, b"done\n").unwrap();
        drop(end);
        let mut output = String::new();
        master.read_to_string(&mut output).await.unwrap();
        assert_eq!(output, "hi\r\ndone\r\n");
    }

    #[tokio::test]
    async fn pipes_carry_both_ways_and_end() {
        let (streams, [their_in, their_out, their_err]) = pipes().unwrap();
        let Streams::Pipes { mut stdin, mut stdout, mut stderr } = streams else { panic!() };
        stdin.write_all(b"in").await.unwrap();
        drop(stdin);
        let mut input = String::new();
        io::Read::read_to_string(&mut std::fs::File::from(their_in), &mut input).unwrap();
        rustix::io::write(&their_out, b"out").unwrap();
        drop((their_out, their_err));
        let (mut output, mut errors) = (String::new(), String::new());
        stdout.read_to_string(&mut output).await.unwrap();
        stderr.read_to_string(&mut errors).await.unwrap();
        assert_eq!((input.as_str(), output.as_str(), errors.as_str()), ("in", "out", ""));
    }
}
