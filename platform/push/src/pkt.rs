//! git's packet lines (gitprotocol-common): four hex digits of length, then the payload.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest payload of a line.
pub(crate) const PAYLOAD_MAX: usize = 65_516;

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pkt {
    /// `0000`.
    Flush,
    /// Any other line.
    Line(Vec<u8>),
}

/// The line with its length before it. A payload over [`PAYLOAD_MAX`] is cut.
pub(crate) fn line(payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(PAYLOAD_MAX)];
    let mut line = format!("{:04x}", payload.len() + 4).into_bytes();
    line.extend_from_slice(payload);
    line
}

/// The length that four hex digits announce, their own four included; 0 for a flush.
pub(crate) fn length(digits: [u8; 4]) -> Option<usize> {
    let text = std::str::from_utf8(&digits).ok()?;
    if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let length = usize::from_str_radix(text, 16).ok()?;
    (length == 0 || (4..=PAYLOAD_MAX + 4).contains(&length)).then_some(length)
}

/// The next packet; `None` at the end of the stream before one.
///
/// # Errors
/// `InvalidData` for a length that is not one, `UnexpectedEof` inside of a packet.
pub(crate) async fn read(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Pkt>> {
    let mut digits = [0; 4];
    if reader.read(&mut digits[..1]).await? == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut digits[1..]).await?;
    let length = length(digits)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a packet line"))?;
    if length == 0 {
        return Ok(Some(Pkt::Flush));
    }
    let mut payload = vec![0; length - 4];
    reader.read_exact(&mut payload).await?;
    if payload.last() == Some(&b'\n') {
        payload.pop();
    }
    Ok(Some(Pkt::Line(payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_and_flushes_read_back() {
        let mut bytes = line(b"ok refs/heads/main\n");
        bytes.extend_from_slice(b"0000");
        bytes.extend_from_slice(b"0004");
        let mut reader = bytes.as_slice();
        let first = read(&mut reader).await.unwrap();
        assert_eq!(first, Some(Pkt::Line(b"ok refs/heads/main".to_vec())));
        assert_eq!(read(&mut reader).await.unwrap(), Some(Pkt::Flush));
        assert_eq!(read(&mut reader).await.unwrap(), Some(Pkt::Line(Vec::new())));
        assert_eq!(read(&mut reader).await.unwrap(), None);
    }

    #[tokio::test]
    async fn lengths_that_are_none_and_cut_packets_are_errors() {
        for bytes in [&b"0001"[..], b"0003", b"fff5", b"+001", b"zzzz", b"0008ab", b"00"] {
            let mut reader = bytes;
            assert!(read(&mut reader).await.is_err(), "{bytes:?}");
        }
    }
}
