//! Backups: what a command beside the add-on writes to its standard output, as a blob; and back.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use berth_container::Exit;
use berth_deploy::{Attached, Command, Streams};
use berth_model::addon::BACKUPS_MAX;
use berth_model::{App, Digest};
use berth_store::{Backup, By};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;

use super::{Addons, internal};
use crate::clock::now_ms;
use crate::http::ActionError;

/// Longest time of a backup or a restoration, milliseconds: an hour.
const TIME_MS_MAX: u32 = 3_600_000;
/// Most bytes of a backup.
const BYTES_MAX: u64 = 64 << 30;
/// Of what a command says to its standard error, a failure shows the end.
const SAID_BYTES_MAX: usize = 2048;
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks between the command and the disk.
const CHUNKS_MAX: usize = 16;

impl Addons {
    pub(super) async fn backup(&self, app: &App, by: &By) -> Result<Backup, ActionError> {
        let (live, request) = self.live_of(app)?;
        let _one = self.alone(app)?;
        self.pipeline.disk.room().map_err(ActionError::Unavailable)?;
        let said = self.pipeline.extensions.backup_command(&live, &request).await;
        let command = said.map_err(|error| ActionError::Failed(error.to_string()))?;
        let (stdout, running) = self.run(app, command, None).await?;
        let kept = tokio::spawn(keep(Arc::clone(&self.pipeline.blobs), stdout));
        running.end("the backup").await?;
        let kept = kept.await.map_err(internal)??;
        if kept.1 == 0 {
            return Err(ActionError::Failed("the backup is empty, so it is none".to_owned()));
        }
        let by = By { at_ms: now_ms(), ..by.clone() };
        let made = self.pipeline.store.create_backup(app.id, &live.row.id, kept, &by).await;
        made.map_err(internal)?.ok_or_else(|| {
            let name = &app.name;
            ActionError::Refused(format!(
                "{name} has {BACKUPS_MAX} backups, as many as it may have; remove one with \
                 `berth addons remove-backup {name} ID`"
            ))
        })
    }

    pub(super) async fn restore(
        &self,
        app: &App,
        from: &Backup,
        by: &By,
    ) -> Result<(), ActionError> {
        let (live, request) = self.live_of(app)?;
        if live.row.id != from.extension {
            let (own, theirs) = (&live.row.id, &from.extension);
            return Err(ActionError::Refused(format!(
                "the backup is one of {theirs}, and {} is one of {own}",
                app.name
            )));
        }
        let _one = self.alone(app)?;
        let said = self.pipeline.extensions.restore_command(&live, &request).await;
        let command = said.map_err(|error| ActionError::Failed(error.to_string()))?;
        let (blobs, digest) = (Arc::clone(&self.pipeline.blobs), from.digest);
        let opened = tokio::task::spawn_blocking(move || blobs.get(&digest)).await;
        let file = opened.map_err(internal)?.map_err(internal)?;
        let (stdout, running) = self.run(app, command, Some(file)).await?;
        // Nothing is expected there, and nobody must wait for it to be read.
        let draining = tokio::spawn(async move {
            let mut stdout = stdout;
            tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await
        });
        running.end("the restoration").await?;
        let _ = draining.await;
        let by = By { at_ms: now_ms(), ..by.clone() };
        self.pipeline.store.backup_restored(app.id, from, &by).await.map_err(internal)
    }

    /// Runs a command in the instance that apps reach. Gives its standard output.
    async fn run(
        &self,
        app: &App,
        argv: Vec<String>,
        input: Option<File>,
    ) -> Result<(Receiver, Running), ActionError> {
        let command = Command { argv, env: Vec::new(), tty: None, time_ms_max: TIME_MS_MAX };
        let attached: Attached =
            self.pipeline.deploys.exec(app.id, Some("web.1"), command).await.map_err(|error| {
                ActionError::Unavailable(format!("{} does not run: {error}", app.name))
            })?;
        let (streams, end) = attached.split();
        let Streams::Pipes { mut stdin, stdout, stderr } = streams else {
            return Err(ActionError::Failed("the command has a terminal".to_owned()));
        };
        let feeding = tokio::spawn(async move {
            if let Some(file) = input {
                let mut file = tokio::fs::File::from_std(file);
                // A command that reads no more says itself why, by its end.
                let _ = tokio::io::copy(&mut file, &mut stdin).await;
                let _ = stdin.shutdown().await;
            }
        });
        let said = tokio::spawn(last_words(stderr));
        let end = Box::pin(async move { end.await.map_err(internal) });
        Ok((stdout, Running { end, feeding, said }))
    }
}

/// A command under way.
struct Running {
    end: std::pin::Pin<Box<dyn Future<Output = Result<Exit, ActionError>> + Send>>,
    feeding: tokio::task::JoinHandle<()>,
    said: tokio::task::JoinHandle<String>,
}

impl Running {
    /// Waits for the end, which must be a good one.
    async fn end(self, what: &str) -> Result<(), ActionError> {
        let exit = self.end.await?;
        self.feeding.abort();
        let said = self.said.await.unwrap_or_default();
        if exit.code == 0 && !exit.timed_out && !exit.oom {
            return Ok(());
        }
        let why = match &exit {
            Exit { timed_out: true, .. } => "it took too long".to_owned(),
            Exit { oom: true, .. } => "it used too much memory".to_owned(),
            Exit { code, .. } => format!("it ended with {code}"),
        };
        Err(ActionError::Failed(format!("{what} failed: {why}: {said}")))
    }
}

/// Writes what comes into the blob store.
async fn keep(
    blobs: Arc<berth_blobs::BlobStore>,
    mut from: impl AsyncRead + Unpin,
) -> Result<(Digest, u64), ActionError> {
    let (to, mut chunks) = mpsc::channel::<Vec<u8>>(CHUNKS_MAX);
    let writing = tokio::task::spawn_blocking(move || {
        let mut writer = blobs.writer(BYTES_MAX).map_err(internal)?;
        while let Some(chunk) = chunks.blocking_recv() {
            writer.write_all(&chunk).map_err(|error| {
                ActionError::Failed(format!("the backup cannot be kept: {error}"))
            })?;
        }
        writer.finish().map_err(internal)
    });
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = from.read(&mut buffer).await.map_err(internal)?;
        // Whoever writes went away with the reason.
        if count == 0 || to.send(buffer[..count].to_vec()).await.is_err() {
            break;
        }
    }
    drop(to);
    writing.await.map_err(internal)?
}

/// The end of what comes, fit to be shown.
async fn last_words(mut from: impl AsyncRead + Unpin) -> String {
    let mut said = Vec::new();
    let mut buffer = vec![0; 4096];
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        said.extend_from_slice(&buffer[..count]);
        let over = said.len().saturating_sub(SAID_BYTES_MAX);
        said.drain(..over);
    }
    berth_model::text::printable(String::from_utf8_lossy(&said).trim(), SAID_BYTES_MAX)
}
