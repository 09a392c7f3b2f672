//! Asking the host's servers: a socket, a port and an id of its own for each query and server, so
//! that nobody else can guess an answer.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::Names;
use super::message::{self, Code, Question};

/// Longest answer in a datagram; resolvers ask for 4096 bytes at most, and for a longer answer by
/// TCP.
const DATAGRAM_BYTES_MAX: usize = 4096;

/// How a server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Datagram,
    Stream,
}

impl Names {
    /// The answer to a query, from whichever server gives one. Takes no longer than the attempts
    /// together.
    pub(super) async fn ask(&self, query: &[u8], question: &Question, way: Way) -> Vec<u8> {
        let (servers, first) = self.servers.current();
        let mut failed = vec![false; servers.len()];
        let mut last = None;
        for attempt in 0..self.settings.attempts_max.max(servers.len()) {
            let number = (first + attempt) % servers.len();
            if failed[number] {
                continue;
            }
            let exchange = exchange(servers[number], query, question, way);
            match timeout(self.settings.attempt, exchange).await {
                Ok(Ok((code, answer))) if message::is_failure(code) => {
                    failed[number] = true;
                    last = Some(answer);
                }
                Ok(Ok((_, answer))) => {
                    if number != first {
                        self.servers.prefer(&servers, number);
                    }
                    return answer;
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, server = %servers[number], "a name server fails");
                }
                Err(_) => tracing::debug!(server = %servers[number], "a name server is silent"),
            }
        }
        last.unwrap_or_else(|| message::answer(query, question, Code::ServerFailure))
    }
}

/// Asks one server: the code of its answer, and the answer with the asker's own id.
async fn exchange(
    server: SocketAddr,
    query: &[u8],
    question: &Question,
    way: Way,
) -> io::Result<(u8, Vec<u8>)> {
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    let mut ours = query.to_vec();
    message::set_id(&mut ours, id);
    let belongs = |reply: &[u8]| message::code_of(reply, u16::from_be_bytes(id), question);
    let (code, mut answer) = match way {
        Way::Datagram => by_datagram(server, &ours, question, belongs).await?,
        Way::Stream => by_stream(server, &ours, belongs).await?,
    };
    message::set_id(&mut answer, message::id(query));
    Ok((code, answer))
}

async fn by_datagram(
    server: SocketAddr,
    query: &[u8],
    question: &Question,
    belongs: impl Fn(&[u8]) -> Option<u8>,
) -> io::Result<(u8, Vec<u8>)> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connected: the kernel chooses the port, and takes datagrams of this server alone.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    // One byte more shows an answer that was cut.
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX + 1];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(code) = belongs(&buffer[..length]) {
            if length > DATAGRAM_BYTES_MAX {
                return Ok((code, message::truncated(query, question)));
            }
            buffer.truncate(length);
            return Ok((code, buffer));
        }
    }
}

async fn by_stream(
    server: SocketAddr,
    query: &[u8],
    belongs: impl Fn(&[u8]) -> Option<u8>,
) -> io::Result<(u8, Vec<u8>)> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&framed(query)).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    match belongs(&answer) {
        Some(code) => Ok((code, answer)),
        None => Err(io::Error::other("the answer belongs to no question of ours")),
    }
}

/// A message with its length before it, as it goes over TCP (RFC 1035, section 4.2.2). No message
/// here is longer than 65,535 bytes.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend_from_slice(&(message.len() as u16).to_be_bytes());
    framed.extend_from_slice(message);
    framed
}
