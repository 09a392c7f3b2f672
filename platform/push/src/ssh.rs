//! git over SSH: public keys only, two commands, nothing else.
//!
//! The listener is ours, not sshd's: a key that may push must never reach a shell, an environment
//! variable, a forwarded port or a terminal. Output goes to the channel's stderr, where clients
//! print it as it is.

mod command;
mod connection;
mod key;
mod session;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::{PrivateKey, ssh_key};
use russh::{MethodKind, MethodSet, SshId, server};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{Limits, Push, PushError, PushHost};
pub(crate) use command::version;

/// The host key in the file at `path`, made (ed25519, mode 0600) when there is none.
///
/// # Errors
/// `Io`, and `HostKey` when the file holds something else or others may read it.
pub fn host_key(path: &Path) -> Result<PrivateKey, PushError> {
    key::read_or_make(path)
}

/// Accepts connections until `shutdown`, then closes those that are open: their builds are
/// cancelled, what is past its release goes on.
///
/// # Errors
/// `Listener` when accepting fails for good.
pub async fn serve_ssh<H: PushHost>(
    listener: TcpListener,
    push: Push<H>,
    key: PrivateKey,
    shutdown: CancellationToken,
) -> Result<(), PushError> {
    let limits = push.inner.limits;
    let config = Arc::new(config(key, &limits));
    let connections = Arc::new(Semaphore::new(limits.connections_max));
    let strangers = Arc::new(Semaphore::new(limits.strangers_max));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return Ok(()),
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            // One connection's misfortune, or no descriptors left: not the listener's end.
            Err(error) => {
                tracing::warn!(%error, "an SSH connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Beyond the limits a connection is closed without a word, as sshd does (MaxStartups).
        let (Ok(open), Ok(strange)) = (
            Arc::clone(&connections).try_acquire_owned(),
            Arc::clone(&strangers).try_acquire_owned(),
        ) else {
            continue;
        };
        let connection = connection::Connection {
            push: push.clone(),
            config: Arc::clone(&config),
            peer,
            shutdown: shutdown.clone(),
        };
        tokio::spawn(async move {
            connection.run(stream, strange).await;
            drop(open);
        });
    }
}

fn config(key: PrivateKey, limits: &Limits) -> server::Config {
    let mut config = server::Config {
        server_id: SshId::Standard("SSH-2.0-Berth".into()),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        keys: vec![key],
        auth_rejection_time: Duration::from_millis(500),
        auth_rejection_time_initial: Some(Duration::ZERO),
        // The probe without a key that every client begins with is not a try.
        max_auth_attempts: limits.login_tries_max + 1,
        inactivity_timeout: None,
        keepalive_interval: Some(limits.keepalive),
        keepalive_max: 4,
        nodelay: true,
        ..Default::default()
    };
    // Packs are compressed, and compression before the login is a way in.
    config.preferred.compression = vec![russh::compression::NONE].into();
    // No SHA-1 signatures.
    config.preferred.key = config
        .preferred
        .key
        .iter()
        .filter(|algorithm| !matches!(algorithm, ssh_key::Algorithm::Rsa { hash: None }))
        .cloned()
        .collect();
    config
}
