//! git's proc-receive hook: the decision is the platform's.
//!
//! Descriptor 3 is a stream socket that the platform handed to `git receive-pack`. What git writes
//! goes there as it is; from there come frames of a channel byte, a big-endian u32 length and that
//! many bytes. The end of the stream means that the platform is gone: the push fails.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::net::Shutdown;

const STDOUT: u8 = 1;
const STDERR: u8 = 2;
/// The frame's first byte is the exit code.
const EXIT: u8 = 3;
/// Largest frame, bytes.
const FRAME_BYTES_MAX: u32 = 1 << 20;

/// Relays until the platform ends it; gives the hook's exit code.
pub(crate) fn run() -> i32 {
    match relay() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("berth: the connection to the platform ended before the push did: {error}");
            1
        }
    }
}

fn relay() -> io::Result<i32> {
    let socket = platform()?;
    let outgoing = File::from(socket.try_clone()?);
    // git may go on writing while it waits for our output: both directions at the same time.
    std::thread::Builder::new().name("from git".into()).spawn(move || {
        let mut outgoing = outgoing;
        let _ = io::copy(&mut io::stdin().lock(), &mut outgoing);
        let _ = rustix::net::shutdown(&outgoing, Shutdown::Write);
    })?;
    frames(File::from(socket))
}

/// Descriptor 3, if it is a socket.
fn platform() -> io::Result<OwnedFd> {
    let missing = |_| io::Error::new(io::ErrorKind::NotConnected, "descriptor 3 is not its socket");
    let inherited = crate::system::descriptor_three();
    rustix::net::getsockname(inherited).map_err(missing)?;
    Ok(rustix::io::fcntl_dupfd_cloexec(inherited, 4)?)
}

fn frames(mut socket: File) -> io::Result<i32> {
    let mut payload = Vec::new();
    loop {
        let mut header = [0; 5];
        socket.read_exact(&mut header)?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        if length > FRAME_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
        }
        payload.resize(length as usize, 0);
        socket.read_exact(&mut payload)?;
        match header[0] {
            STDOUT => pass(io::stdout().lock(), &payload)?,
            STDERR => pass(io::stderr().lock(), &payload)?,
            EXIT => return Ok(payload.first().copied().unwrap_or(0).into()),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "an unknown frame")),
        }
    }
}

fn pass(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}
