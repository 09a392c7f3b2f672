//! A client that sees bytes.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::soon;

/// A client that writes and reads bytes.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer as a client sees it.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    pub(crate) fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.head.lines().skip(1).filter_map(move |line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The router's own code.
    pub(crate) fn code(&self) -> Option<&str> {
        self.header("x-router-error")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = soon(TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) fn connect_with(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Sends; what the router no longer takes is lost.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = soon(self.stream.write_all(bytes)).await;
    }

    /// Reads more; false at the end of the connection.
    pub(crate) async fn more(&mut self) -> bool {
        let mut bytes = vec![0; 64 * 1024];
        let read = soon(self.stream.read(&mut bytes)).await.unwrap_or(0);
        self.buffer.extend_from_slice(&bytes[..read]);
        read > 0
    }

    /// Reads up to and with `end`, and takes it out of the buffer.
    pub(crate) async fn through(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                let rest = self.buffer.split_off(at + end.len());
                return std::mem::replace(&mut self.buffer, rest);
            }
            assert!(
                self.more().await,
                "the connection ended after {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    pub(crate) async fn take(&mut self, bytes: usize) -> Vec<u8> {
        while self.buffer.len() < bytes {
            assert!(self.more().await, "the connection ended early");
        }
        let rest = self.buffer.split_off(bytes);
        std::mem::replace(&mut self.buffer, rest)
    }

    /// The answer's head.
    pub(crate) async fn head(&mut self) -> String {
        String::from_utf8(self.through(b"\r\n\r\n").await).unwrap()
    }

    /// An answer to a request that was not HEAD.
    pub(crate) async fn reply(&mut self) -> Reply {
        let head = self.head().await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply { status, head, body: Vec::new(), trailers: String::new() };
        if matches!(status, 100..=199 | 204 | 304) {
            return reply;
        }
        if let Some(length) = reply.header("content-length") {
            reply.body = self.take(length.parse().unwrap()).await;
        } else if reply.header("transfer-encoding").is_some() {
            loop {
                let size = String::from_utf8(self.through(b"\r\n").await).unwrap();
                let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
                if size == 0 {
                    break;
                }
                reply.body.extend(self.take(size).await);
                assert_eq!(self.take(2).await, b"\r\n");
            }
            loop {
                let line = String::from_utf8(self.through(b"\r\n").await).unwrap();
                if line == "\r\n" {
                    break;
                }
                reply.trailers += &line;
            }
        } else {
            while self.more().await {}
            reply.body = std::mem::take(&mut self.buffer);
        }
        reply
    }

    /// Whether the connection ends now, with nothing more to read.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.more().await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: app.localhost\r\n\r\n").as_bytes()).await;
        self.reply().await
    }
}
