//! Queries by TCP: one after the other on each connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::ask::{Way, framed};
use super::datagrams::QUERY_BYTES_MAX;
use super::message::{self, Verdict};
use super::{Names, Place};

/// Accepts until the service ends.
pub(super) async fn accept(names: Arc<Names>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            () = names.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let allowed = names.instances.contain(peer.ip());
                let place = allowed.then(|| names.connections.take(peer.ip())).flatten();
                // Closed without a word: an answer would cost more than it tells.
                let Some(place) = place else { continue };
                let serving = Arc::clone(&names);
                names.tasks.spawn(async move {
                    if let Err(error) = converse(&serving, stream, &place).await {
                        tracing::debug!(%error, %peer, "a connection for names ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for names; trying again");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn converse(names: &Names, mut stream: TcpStream, place: &Place) -> io::Result<()> {
    let idle = names.settings.connection_idle;
    loop {
        let query = tokio::select! {
            () = names.stop.cancelled() => return Ok(()),
            query = timeout(idle, query(&mut stream)) => query??,
        };
        let answer = match message::judge(&query, names.instances.base(), &names.addons) {
            Verdict::Drop => return Ok(()),
            Verdict::Answer(answer) => answer,
            Verdict::Forward(question) => {
                // A connection waits for its own queries alone; without a place it is closed.
                let Some(_place) = names.queries.take(place.ip) else { return Ok(()) };
                names.ask(&query, &question, Way::Stream).await
            }
        };
        timeout(idle, stream.write_all(&framed(&answer))).await??;
    }
}

async fn query(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > QUERY_BYTES_MAX {
        return Err(io::Error::other(format!("a query of {length} bytes")));
    }
    let mut query = vec![0; length];
    stream.read_exact(&mut query).await?;
    Ok(query)
}
