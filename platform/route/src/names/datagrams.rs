//! Queries by UDP.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;

use super::Names;
use super::ask::Way;
use super::message::{self, Verdict};

/// Longest query that is read; a longer one is cut, and then malformed.
pub(super) const QUERY_BYTES_MAX: usize = 1232;

/// Answers until the service ends.
pub(super) async fn answer(names: Arc<Names>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; QUERY_BYTES_MAX];
    loop {
        let received = tokio::select! {
            () = names.stop.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        let (length, peer) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "cannot read a query; trying again");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if !names.instances.contain(peer.ip()) {
            continue;
        }
        match message::judge(&buffer[..length], names.instances.base(), &names.addons) {
            Verdict::Drop => {}
            // A full send buffer drops it, as the network would.
            Verdict::Answer(answer) => drop(socket.try_send_to(&answer, peer)),
            Verdict::Forward(question) => {
                // Dropped rather than refused: resolvers take a refusal for the last word, and
                // ask a lost query again.
                let Some(place) = names.queries.take(peer.ip()) else { continue };
                let query = buffer[..length].to_vec();
                let (asking, socket) = (Arc::clone(&names), Arc::clone(&socket));
                names.tasks.spawn(async move {
                    let answer = asking.ask(&query, &question, Way::Datagram).await;
                    if let Err(error) = socket.send_to(&answer, peer).await {
                        tracing::debug!(%error, %peer, "an answer could not be sent");
                    }
                    drop(place);
                });
            }
        }
    }
}
