//! Runs one git service for one client: a tool, its pipes, and the client's bytes between them.
//!
//! Takes what a transport has read and gives what it must write; knows neither SSH nor HTTP.
//! Dropping the future kills the tool; a push that is past its release goes on without it.

mod pipes;
mod shallow;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use berth_container::{Exit, Tool};
use berth_model::text::printable;
use berth_model::{AppId, Caller};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use crate::converse::{BoxWriter, Conversation};
use crate::{Inner, Limits, Push, PushError, PushHost, Repository, Service, ToolError};
use pipes::Pipes;
pub(crate) use shallow::Shallow;

/// What of a tool's stderr is kept for the log where no client reads it.
const STDERR_BYTES_KEPT: usize = 4096;

/// How long a client may take to hear why there is no report.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);

/// What a client asked for.
pub(crate) struct Call {
    pub(crate) caller: Caller,
    pub(crate) repository: Repository,
    pub(crate) service: Service,
    /// HTTP: one request is one run.
    pub(crate) stateless: bool,
    /// HTTP: only the refs.
    pub(crate) advertise: bool,
    /// 0 to 2.
    pub(crate) version: u8,
}

/// Why a service ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error("too many pushes and fetches at once; try again in a minute")]
    Busy,
    #[error(
        "the repository holds {mib} MiB, over the limit of {max_mib} MiB; ask the operator to raise it"
    )]
    Full { mib: u64, max_mib: u64 },
    #[error("{0}")]
    Input(InputError),
    #[error("the client sent or took nothing for {0} s")]
    Idle(u64),
    #[error("the transfer took longer than {0} s")]
    Slow(u64),
    #[error("the client has gone")]
    Gone,
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    Repository(#[from] PushError),
    #[error("cannot connect the pipes of git")]
    Pipes(#[source] io::Error),
}

/// Why a client's bytes are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InputError {
    #[error("the request is larger than {mib} MiB, the limit here")]
    TooLarge { mib: u32 },
    #[error("the request is not valid gzip, or unpacks to far more than it holds")]
    Gzip,
}

/// Runs a service to its end and says how git ended. `errors` makes writers to the client's
/// stderr; without it (HTTP) what git says there is logged.
pub(crate) async fn run<H: PushHost>(
    push: &Push<H>,
    call: Call,
    input: impl Stream<Item = Result<Bytes, InputError>> + Send + Unpin,
    mut output: impl AsyncWrite + Send + Unpin,
    errors: Option<&(dyn Fn() -> BoxWriter + Send + Sync)>,
    gone: CancellationToken,
) -> Result<Exit, ServiceError> {
    let limits = push.inner.limits;
    let _permit = match call.service {
        Service::Receive => push.inner.receiving.try_acquire(),
        Service::Upload => push.inner.uploading.try_acquire(),
    }
    .map_err(|_| ServiceError::Busy)?;
    let _entered = prepare(push, &call).await?;
    let Pipes { stdin, stdout, stderr, control, descriptors } =
        Pipes::new(call.service).map_err(ServiceError::Pipes)?;
    let tool = push.inner.tool.run(call.tool(&limits), descriptors);
    let call_kind = (call.service, call.stateless, call.advertise);
    let started = CancellationToken::new();
    let shallow = Shallow::default();
    if let Some(relay) = control.filter(|_| !call.advertise) {
        let conversation = Conversation {
            push: push.clone(),
            caller: call.caller,
            repository: call.repository,
            relay,
            errors: errors.map(|make| make()),
            shallow: shallow.clone(),
            started: started.clone(),
            gone: gone.clone(),
        };
        tokio::spawn(conversation.run());
    }
    let progress = AtomicU64::new(0);
    let fed = async {
        match feed(input, stdin, shallow, &started, &progress, limits.idle_max).await {
            Err(error) => error,
            Ok(()) => std::future::pending().await,
        }
    };
    let last_words = call_kind == (Service::Receive, true, false);
    let running = async {
        let exited = async { tool.await.map_err(ServiceError::from) };
        let given = give(stdout, &mut output, &progress, limits.idle_max);
        let complained = async {
            complain(stderr, errors.map(|make| make())).await;
            Ok(())
        };
        let (exit, ..) = tokio::try_join!(exited, given, complained)?;
        // A report that git did not live to write: the side band's channel for fatal errors.
        if let (true, 128.., Some(why)) = (last_words, exit.code, why_killed(&exit)) {
            let line = crate::pkt::line(format!("\x03{why}\n").as_bytes());
            output.write_all(&line).await.map_err(|_| ServiceError::Gone)?;
        }
        output.shutdown().await.map_err(|_| ServiceError::Gone)?;
        Ok(exit)
    };
    let slow = async {
        tokio::time::sleep(limits.transfer_max).await;
        // A build may take longer than a transfer: this bound ends where git has the pack.
        if started.is_cancelled() {
            std::future::pending().await
        }
    };
    let ended = tokio::select! {
        ended = running => ended,
        error = fed => Err(error),
        () = slow => Err(ServiceError::Slow(limits.transfer_max.as_secs())),
        () = gone.cancelled() => Err(ServiceError::Gone),
    };
    if let Err(error) = &ended {
        gone.cancel();
        // A client that was told something waits for the report for ever, unless it hears that
        // there will be none.
        if last_words && progress.load(Ordering::Relaxed) > 0 {
            let text = format!("\x03{error}; what was released goes on, look with 'berth ps'\n");
            let line = crate::pkt::line(text.as_bytes());
            let said = async {
                output.write_all(&line).await?;
                output.shutdown().await
            };
            // One that has gone needs no words.
            let _ = tokio::time::timeout(LAST_WORDS_MAX, said).await;
        }
    }
    ended
}

/// Why git was ended from outside, for people.
pub(crate) fn why_killed(exit: &Exit) -> Option<&'static str> {
    if exit.oom {
        Some("git needed more memory for these objects than it may use; push fewer at a time")
    } else if exit.timed_out {
        Some("git took longer than it may")
    } else {
        None
    }
}

/// Makes the repository if need be, and refuses a push into one that is full. The guard, if there
/// is one, is held while git receives.
async fn prepare<H: PushHost>(
    push: &Push<H>,
    call: &Call,
) -> Result<Option<Entered<H>>, ServiceError> {
    let inner = Arc::clone(&push.inner);
    let (app, service, advertise) = (call.repository.app, call.service, call.advertise);
    let done = tokio::task::spawn_blocking(move || {
        inner.repositories.ensure(app)?;
        if service == Service::Upload || advertise {
            return Ok(None);
        }
        let (bytes, max) = (inner.repositories.bytes(app), inner.limits.repository_bytes_max);
        if bytes > max {
            return Err(ServiceError::Full { mib: bytes >> 20, max_mib: max >> 20 });
        }
        Ok(Some(Entered::new(inner, app)?))
    });
    done.await.map_err(|e| ServiceError::Pipes(io::Error::other(e)))?
}

/// One of the pushes that an app receives.
struct Entered<H> {
    inner: Arc<Inner<H>>,
    app: AppId,
}

impl<H> Entered<H> {
    /// The first of them clears away what keeps packs of killed pushes.
    fn new(inner: Arc<Inner<H>>, app: AppId) -> Result<Self, PushError> {
        {
            let mut pushes = inner.pushes.lock().unwrap_or_else(PoisonError::into_inner);
            if !pushes.contains_key(&app) {
                inner.repositories.release_packs(app)?;
            }
            *pushes.entry(app).or_default() += 1;
        }
        Ok(Self { inner, app })
    }
}

impl<H> Drop for Entered<H> {
    fn drop(&mut self) {
        let mut pushes = self.inner.pushes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = pushes.get_mut(&self.app) {
            *count -= 1;
            if *count == 0 {
                pushes.remove(&self.app);
            }
        }
    }
}

impl Call {
    fn tool(&self, limits: &Limits) -> Tool {
        let (app, version) = (self.repository.app, self.version);
        let (stateless, advertise) = (self.stateless, self.advertise);
        match self.service {
            Service::Receive => {
                let pack_mib_max = limits.pack_mib_max;
                Tool::ReceivePack { app, stateless, advertise, version, pack_mib_max }
            }
            Service::Upload => Tool::UploadPack { app, stateless, advertise, version },
        }
    }
}

/// Client to git. Ends when the client has no more to say; after git has the whole pack, or is
/// gone, the rest is read and dropped, so that a transport still sees its client leave.
async fn feed(
    mut input: impl Stream<Item = Result<Bytes, InputError>> + Unpin,
    stdin: pipe::Sender,
    shallow: Shallow,
    started: &CancellationToken,
    progress: &AtomicU64,
    idle_max: Duration,
) -> Result<(), ServiceError> {
    let mut stdin = Some(stdin);
    let mut sniffer = shallow.sniffer();
    let mut given = 0;
    loop {
        let Ok(next) = tokio::time::timeout(idle_max, input.next()).await else {
            // A client that fetches is silent while it takes.
            let now = progress.load(Ordering::Relaxed);
            if now == given && !started.is_cancelled() {
                return Err(ServiceError::Idle(idle_max.as_secs()));
            }
            given = now;
            continue;
        };
        let Some(bytes) = next else { return Ok(()) };
        let bytes = bytes.map_err(ServiceError::Input)?;
        sniffer.look_at(&bytes);
        let Some(pipe) = &mut stdin else { continue };
        let written = tokio::select! {
            written = pipe.write_all(&bytes) => written.is_ok(),
            () = started.cancelled() => false,
        };
        if !written {
            stdin = None;
        }
    }
}

/// git to client.
async fn give(
    mut stdout: pipe::Receiver,
    output: &mut (impl AsyncWrite + Unpin),
    progress: &AtomicU64,
    idle_max: Duration,
) -> Result<(), ServiceError> {
    let mut buffer = vec![0; 32 << 10];
    loop {
        let count = stdout.read(&mut buffer).await.map_err(ServiceError::Pipes)?;
        if count == 0 {
            return Ok(());
        }
        tokio::time::timeout(idle_max, output.write_all(&buffer[..count]))
            .await
            .map_err(|_| ServiceError::Idle(idle_max.as_secs()))?
            .map_err(|_| ServiceError::Gone)?;
        progress.fetch_add(1, Ordering::Relaxed);
    }
}

/// git's stderr, to the client's or to the log.
async fn complain(mut stderr: pipe::Receiver, mut errors: Option<BoxWriter>) {
    let mut kept = Vec::new();
    let mut buffer = vec![0; 4 << 10];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        match &mut errors {
            // A client that does not read its errors is noticed elsewhere.
            Some(writer) => {
                if writer.write_all(&buffer[..count]).await.is_err() {
                    errors = None;
                }
            }
            None => {
                let room = STDERR_BYTES_KEPT.saturating_sub(kept.len());
                kept.extend_from_slice(&buffer[..count.min(room)]);
            }
        }
    }
    if !kept.is_empty() {
        let text =
            printable(&String::from_utf8_lossy(&kept).replace('\n', " | "), STDERR_BYTES_KEPT);
        tracing::debug!(text, "git wrote to its stderr");
    }
}
