//! Asks an address again and again until something answers there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Nothing that is measured here takes longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// One try takes no longer: an address that nobody has yet swallows what is sent to it.
const TRY: Duration = Duration::from_secs(2);
/// Between two tries.
const PAUSE: Duration = Duration::from_micros(250);

/// Waits for the first HTTP answer with status 200 and gives the time that it came.
///
/// # Errors
/// When none comes.
pub(crate) fn first(address: SocketAddr, path: &str) -> Result<Instant> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Ok(answer) = get(address, "localhost", path)
            && answer.status == 200
        {
            return Ok(answer.came);
        }
        std::thread::sleep(PAUSE);
    }
    bail!("nothing at {address} answered with 200 within {} s", PATIENCE.as_secs())
}

/// One answer.
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// Everything after the status line.
    pub(crate) text: String,
    /// When its first bytes came.
    pub(crate) came: Instant,
}

/// One request on a connection of its own.
///
/// # Errors
/// What the network says.
pub(crate) fn get(address: SocketAddr, host: &str, path: &str) -> Result<Answer> {
    let mut stream = connect(address)?;
    ask(&mut stream, host, path)
}

/// A connection on which nothing was asked yet.
///
/// # Errors
/// What the network says.
pub(crate) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TRY)?;
    stream.set_read_timeout(Some(TRY))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends the only request of a connection and reads the answer to its end.
///
/// # Errors
/// What the network says; an answer that is not HTTP.
pub(crate) fn ask(stream: &mut TcpStream, host: &str, path: &str) -> Result<Answer> {
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut bytes = vec![0; 16 * 1024];
    let count = stream.read(&mut bytes)?;
    let came = Instant::now();
    bytes.truncate(count);
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    match status {
        Some(status) => Ok(Answer { status, text, came }),
        None => bail!("{address:?} sent no HTTP answer", address = stream.peer_addr()),
    }
}
