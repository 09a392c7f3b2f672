//! An upgraded connection: bytes both ways until one side ends, nothing moves for too long, or
//! its target's drain is over. Changes of the table elsewhere never touch it. A client may close
//! its half and still read; when the app has closed its own, the client gets a moment to leave.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::clock;
use crate::exchange::Exchange;
use crate::target::Entered;

/// Per direction. Messages are small; a large one goes through in several steps.
const BUFFER_BYTES: usize = 4 * 1024;

/// Carries bytes between the client and the app once both have switched.
pub(crate) async fn carry(
    near: OnUpgrade,
    far: OnUpgrade,
    entered: Entered,
    mut exchange: Box<Exchange>,
) {
    let router = std::sync::Arc::clone(&exchange.client.router);
    let moved = Moved::default();
    let copy = async {
        let (near, far) = tokio::try_join!(near, far).map_err(io::Error::other)?;
        let (near, far) = (TokioIo::new(near), TokioIo::new(far));
        let mut near = Watched { io: near, read: &moved.from_client, ended: None, moved: &moved };
        let mut far = Watched {
            io: far,
            read: &moved.from_app,
            ended: Some(&moved.app_ended),
            moved: &moved,
        };
        tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER_BYTES, BUFFER_BYTES)
            .await
    };
    tokio::select! {
        // An end is an end: which side reset the connection changes nothing.
        _ = copy => {}
        () = moved.silence(router.config.deadlines.tunnel_idle) => {}
        () = moved.end_of_app(router.config.deadlines.linger) => {}
        () = entered.cut.cancelled() => {}
        () = router.cut.cancelled() => {}
    }
    exchange.tunnelled(moved.from_client.load(Relaxed), moved.from_app.load(Relaxed));
}

struct Moved {
    from_client: AtomicU64,
    from_app: AtomicU64,
    at_ms: AtomicU64,
    app_ended: Notify,
}

impl Default for Moved {
    fn default() -> Self {
        Self {
            from_client: AtomicU64::new(0),
            from_app: AtomicU64::new(0),
            at_ms: AtomicU64::new(clock::now_ms()),
            app_ended: Notify::new(),
        }
    }
}

impl Moved {
    /// Ends when nothing has moved for `idle_max`.
    async fn silence(&self, idle_max: Duration) {
        loop {
            let until_ms = self.at_ms.load(Relaxed) + clock::ms(idle_max);
            if clock::now_ms() >= until_ms {
                return;
            }
            tokio::time::sleep_until(clock::instant(until_ms)).await;
        }
    }

    /// Ends some time after the app has said its last.
    async fn end_of_app(&self, linger: Duration) {
        self.app_ended.notified().await;
        tokio::time::sleep(linger).await;
    }
}

struct Watched<'a, T> {
    io: T,
    read: &'a AtomicU64,
    ended: Option<&'a Notify>,
    moved: &'a Moved,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<'_, T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut me.io).poll_read(cx, buf);
        let bytes = buf.filled().len() - before;
        if bytes > 0 {
            me.read.fetch_add(bytes as u64, Relaxed);
            me.moved.at_ms.store(clock::now_ms(), Relaxed);
        } else if let (Poll::Ready(_), Some(ended)) = (&result, me.ended) {
            ended.notify_one();
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<'_, T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
