//! One connection from accept to close, and its deadlines.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use russh::server;
use rustix::net::Shutdown;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use super::session::Session;
use crate::{Push, PushHost};

pub(super) struct Connection<H> {
    pub(super) push: Push<H>,
    pub(super) config: Arc<server::Config>,
    pub(super) peer: SocketAddr,
    pub(super) shutdown: CancellationToken,
}

impl<H: PushHost> Connection<H> {
    /// `strange` is held until the client has logged in.
    pub(super) async fn run(self, stream: TcpStream, strange: OwnedSemaphorePermit) {
        let peer = self.peer;
        let _ = stream.set_nodelay(true);
        // russh waits for a client in several places without a deadline; a second descriptor of
        // the socket ends every one of them.
        let Ok(socket) = stream.as_fd().try_clone_to_owned() else { return };
        let deadline = tokio::time::Instant::now() + self.push.inner.limits.login_max;
        let known = CancellationToken::new();
        let idle_max = self.push.inner.limits.idle_max;
        let commands = watch::Sender::new(0);
        let mut busy = commands.subscribe();
        let session = Session::new(self.push, peer, known.clone(), commands);
        let running = server::run_stream(self.config, stream, session);
        let running = match tokio::time::timeout_at(deadline, running).await {
            Ok(Ok(running)) => running,
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "an SSH greeting failed"),
            Err(_) => return tracing::debug!(%peer, "an SSH client did not greet in time"),
        };
        tokio::pin!(running);
        let ended = tokio::select! {
            ended = &mut running => Some(ended),
            () = known.cancelled() => None,
            () = tokio::time::sleep_until(deadline) => {
                tracing::debug!(%peer, "an SSH client did not log in in time");
                cut(&socket);
                Some(running.as_mut().await)
            }
        };
        drop(strange);
        let ended = match ended {
            Some(ended) => ended,
            None => tokio::select! {
                ended = &mut running => ended,
                () = self.shutdown.cancelled() => {
                    cut(&socket);
                    running.await
                }
                () = idle(&mut busy, idle_max) => {
                    tracing::debug!(%peer, "an SSH client asked for nothing");
                    cut(&socket);
                    running.await
                }
            },
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "an SSH connection ended");
        }
    }
}

/// Until no command has run for that long.
async fn idle(busy: &mut watch::Receiver<usize>, idle_max: Duration) {
    loop {
        let _ = busy.wait_for(|count| *count == 0).await;
        let asked = async { busy.wait_for(|count| *count > 0).await.is_ok() };
        match tokio::time::timeout(idle_max, asked).await {
            Ok(true) => {}
            // The session has ended; whoever waits for it hears of it.
            Ok(false) => std::future::pending().await,
            Err(_) => return,
        }
    }
}

fn cut(socket: &OwnedFd) {
    // A socket that is closed already needs no cutting.
    let _ = rustix::net::shutdown(socket, Shutdown::Both);
}
