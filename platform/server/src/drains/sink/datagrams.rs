//! Datagrams: syslog (RFC 5426) and GELF with its chunks. There are no receipts; that nobody listens
//! is known only where the receiver's machine says so.

use berth_model::drain::{DATAGRAM_BYTES_MAX, SinkKind, gelf_datagrams};
use tokio::net::UdpSocket;

use super::{CONNECT_MAX, SinkError, Target};
use crate::drains::resolve::addresses;

pub(in crate::drains) struct Datagrams {
    target: Target,
    socket: Option<UdpSocket>,
}

impl Datagrams {
    pub(super) fn new(target: Target) -> Self {
        Self { target, socket: None }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) async fn write(&mut self, frames: &[Vec<u8>]) -> Result<(), SinkError> {
        if self.socket.is_none() {
            let connected = tokio::time::timeout(CONNECT_MAX, connect(&self.target)).await;
            self.socket = Some(connected.map_err(|_| self.target.slow(CONNECT_MAX))??);
        }
        let Some(socket) = &self.socket else { return Ok(()) };
        let sent = send(socket, self.target.url.kind(), frames).await;
        sent.map_err(|source| {
            // The name may lead elsewhere by the next time.
            self.socket = None;
            self.target.broken(source)
        })
    }
}

async fn connect(target: &Target) -> Result<UdpSocket, SinkError> {
    let failed = |source| SinkError::Connect { to: target.to(), source };
    let mut error = None;
    for address in addresses(target.url.host(), target.url.port(), target.judge).await? {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).await.map_err(failed)?;
        match socket.connect(address).await {
            Ok(()) => return Ok(socket),
            Err(source) => error = Some(source),
        }
    }
    Err(failed(error.unwrap_or_else(|| std::io::ErrorKind::NotFound.into())))
}

async fn send(socket: &UdpSocket, kind: SinkKind, frames: &[Vec<u8>]) -> std::io::Result<()> {
    for frame in frames {
        if kind == SinkKind::GelfUdp {
            for datagram in gelf_datagrams(frame, fastrand::u64(..).to_be_bytes()) {
                socket.send(&datagram).await?;
            }
        } else {
            // RFC 5426 3.2: what does not fit is cut at its end.
            let fits = frame.len().min(DATAGRAM_BYTES_MAX);
            socket.send(frame.get(..fits).unwrap_or(frame)).await?;
        }
    }
    // That nobody listens there comes back after a datagram left; on this machine at once.
    match socket.take_error()? {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
