//! Streams: syslog on TCP and TLS, GELF on TCP. The receiver sends nothing; that it is there is seen
//! by what its machine acknowledges, and that it is gone by the end of what it might send.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use berth_model::drain::SinkKind;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{CONNECT_MAX, SinkError, Target, WRITE_MAX};
use crate::drains::resolve::addresses;
use crate::drains::tls;

/// Bytes that are written at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long the receiver may take to close after the last message.
const CLOSE_MAX: std::time::Duration = std::time::Duration::from_secs(2);

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Duplex for T {}
type Both = Box<dyn Duplex>;

struct Connection {
    write: WriteHalf<Both>,
    /// Ends when the receiver ends the connection, and says how.
    ended: JoinHandle<io::Result<()>>,
    /// A second descriptor of the socket, to ask what was acknowledged.
    socket: OwnedFd,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.ended.abort();
    }
}

pub(in crate::drains) struct Stream {
    target: Target,
    connection: Option<Connection>,
}

impl Stream {
    pub(super) fn new(target: Target) -> Self {
        Self { target, connection: None }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) async fn write(&mut self, frames: &[Vec<u8>]) -> Result<(), SinkError> {
        if let Some(error) = self.broke() {
            return Err(error);
        }
        // Put back only when all was written: a caller that goes away in between leaves no connection
        // in the middle of a message.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => tokio::time::timeout(CONNECT_MAX, connect(&self.target))
                .await
                .map_err(|_| self.target.slow(CONNECT_MAX))??,
        };
        match tokio::time::timeout(WRITE_MAX, send(&mut connection.write, frames)).await {
            Ok(Ok(())) => {
                self.connection = Some(connection);
                Ok(())
            }
            Ok(Err(source)) => Err(self.target.broken(source)),
            Err(_) => Err(self.target.slow(WRITE_MAX)),
        }
    }

    pub(super) fn broke(&mut self) -> Option<SinkError> {
        if !self.connection.as_ref()?.ended.is_finished() {
            return None;
        }
        self.connection = None;
        let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the receiver closed it");
        Some(self.target.broken(source))
    }

    /// Whether the receiver's machine has everything that was written to this connection; without
    /// one, that is nothing.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| {
            !connection.ended.is_finished() && unacknowledged(&connection.socket) == Some(0)
        })
    }

    pub(super) async fn finish(&mut self) -> bool {
        let Some(mut connection) = self.connection.take() else { return true };
        let closed = tokio::time::timeout(CLOSE_MAX, async {
            connection.write.shutdown().await?;
            // A receiver that closes with lines unread resets the connection; one that read all of
            // them ends it.
            (&mut connection.ended).await.map_err(io::Error::other)?
        });
        matches!(closed.await, Ok(Ok(())))
    }
}

async fn send(write: &mut WriteHalf<Both>, frames: &[Vec<u8>]) -> io::Result<()> {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    for frame in frames {
        if chunk.len() + frame.len() > CHUNK_BYTES && !chunk.is_empty() {
            write.write_all(&chunk).await?;
            chunk.clear();
        }
        chunk.extend_from_slice(frame);
    }
    write.write_all(&chunk).await?;
    write.flush().await
}

async fn connect(target: &Target) -> Result<Connection, SinkError> {
    let failed = |source| SinkError::Connect { to: target.to(), source };
    let found = addresses(target.url.host(), target.url.port(), target.judge).await?;
    let stream = TcpStream::connect(found.as_slice()).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    rustix::net::sockopt::set_socket_keepalive(&stream, true)
        .and_then(|()| rustix::net::sockopt::set_tcp_keepidle(&stream, CONNECT_MAX))
        .and_then(|()| rustix::net::sockopt::set_tcp_keepintvl(&stream, CONNECT_MAX))
        .and_then(|()| rustix::net::sockopt::set_tcp_keepcnt(&stream, 3))
        .map_err(|error| failed(error.into()))?;
    let socket =
        rustix::io::fcntl_dupfd_cloexec(&stream, 0).map_err(|error| failed(error.into()))?;
    let both: Both = if target.url.kind() == SinkKind::SyslogTls {
        let connector = tokio_rustls::TlsConnector::from(tls::client(target.ca.as_deref())?);
        let name = ServerName::try_from(target.url.host().to_owned())
            .map_err(|error| failed(io::Error::other(error)))?;
        Box::new(connector.connect(name, stream).await.map_err(failed)?)
    } else {
        Box::new(stream)
    };
    let (read, write) = tokio::io::split(both);
    Ok(Connection { write, ended: tokio::spawn(until_end(read)), socket })
}

/// Reads what the receiver says, which is nothing, until it ends the connection.
async fn until_end(mut read: ReadHalf<Both>) -> io::Result<()> {
    let mut bytes = [0; 1024];
    loop {
        match read.read(&mut bytes).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // TLS without a farewell: the stream below it ended all the same.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Bytes in the socket that the other side has not acknowledged (tcp(7), SIOCOUTQ); nothing when
/// the kernel does not tell.
fn unacknowledged(socket: &OwnedFd) -> Option<i32> {
    outq(rustix::fd::AsFd::as_fd(socket))
}

#[expect(unsafe_code, reason = "no crate has a safe form of this request, which writes one int")]
fn outq(socket: BorrowedFd<'_>) -> Option<i32> {
    let mut count: libc::c_int = 0;
    // SAFETY: TIOCOUTQ, of which SIOCOUTQ is another name, writes an int where the pointer leads.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    (done == 0).then_some(count)
}
