//! The control side: takes tables and orders from the control process, tells what happened.
//!
//! One task per connection, a few connections at most, only for root, the control id and the
//! router's own. Nothing here can stop traffic: a peer that does not read is dropped, and finds
//! the state in the next hello.

pub(crate) mod framing;
pub(crate) mod wire;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;

use crate::router::Router;
use framing::{Channel, ChannelError};
use wire::{Down, PROTOCOL, PROTOCOL_OLDEST, Up};

const CONNECTIONS_MAX: usize = 8;
const HELLO_WAIT: Duration = Duration::from_secs(5);
const SEND_WAIT: Duration = Duration::from_secs(10);

/// Serves the control socket until the router ends.
pub(crate) async fn listen(router: Arc<Router>, listener: UnixListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = router.cut.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if is_allowed(&router, &stream) => {
                // A peer too many is closed; the control process has one.
                if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                    let router = Arc::clone(&router);
                    tokio::spawn(async move {
                        if let Err(error) = converse(&router, stream).await {
                            tracing::debug!(%error, "a control connection ended");
                        }
                        drop(place);
                    });
                }
            }
            Ok(_) => tracing::warn!("refused a control connection of another user id"),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a control connection; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn is_allowed(router: &Router, stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| {
        let uid = peer.uid();
        uid == 0 || uid == own || Some(uid) == router.config.control_uid
    })
}

async fn converse(router: &Arc<Router>, stream: UnixStream) -> Result<(), ChannelError> {
    let mut channel = Channel::new(stream);
    let hello = tokio::time::timeout(HELLO_WAIT, channel.receive()).await;
    let Ok(Some((Down::Hello { protocol }, _))) = hello.unwrap_or(Ok(None)) else {
        return Err(ChannelError::Frame("no hello".into()));
    };
    if !(PROTOCOL_OLDEST..=PROTOCOL).contains(&protocol) {
        return send(&mut channel, &Up::Incompatible { protocol: PROTOCOL }).await;
    }
    // First listen, then tell the state: nothing falls between the two.
    let mut events = router.events.subscribe();
    router.middlewares.heard();
    send(&mut channel, &Up::Hello(router.hello())).await?;
    loop {
        tokio::select! {
            () = router.cut.cancelled() => return Ok(()),
            frame = channel.receive() => match frame? {
                None => return Ok(()),
                Some((down, beside)) => obey(router, &mut channel, down, beside).await?,
            },
            event = events.recv() => match event {
                Ok(up) => send(&mut channel, &up).await?,
                Err(RecvError::Lagged(_) | RecvError::Closed) => return Ok(()),
            },
        }
    }
}

async fn obey(
    router: &Arc<Router>,
    channel: &mut Channel,
    down: Down,
    beside: Vec<OwnedFd>,
) -> Result<(), ChannelError> {
    match down {
        Down::Hello { .. } => Ok(()),
        Down::Table { table } => {
            let reply = router.routes.publish(router, table).await;
            send(channel, &reply).await
        }
        Down::Load { middleware } => {
            let load = middleware.load;
            let reply = match router.middlewares.load(*middleware, beside).await {
                Ok(()) => Up::Loaded { load },
                Err(reason) => Up::NotLoaded { load, reason },
            };
            send(channel, &reply).await
        }
        Down::Resume { extension, component } => {
            router.middlewares.resume(&extension, component);
            Ok(())
        }
        Down::Drain => {
            router.draining.cancel();
            Ok(())
        }
        Down::Metrics => send(channel, &router.metrics()).await,
        Down::Listeners => {
            let text = framing::encode(&Up::Listeners)?;
            let kept = router.kept_listener().as_ref().map(|http| http.try_clone()).transpose()?;
            // A router that has ended has none, and closes this connection at once.
            let Some(listener) = kept else { return Ok(()) };
            tokio::time::timeout(SEND_WAIT, channel.send_text(&text, &[listener.as_fd()]))
                .await
                .map_err(|_| ChannelError::Stuck)?
        }
    }
}

async fn send(channel: &mut Channel, up: &Up) -> Result<(), ChannelError> {
    let text = framing::encode(up)?;
    tokio::time::timeout(SEND_WAIT, channel.send_text(&text, &[]))
        .await
        .map_err(|_| ChannelError::Stuck)?
}
