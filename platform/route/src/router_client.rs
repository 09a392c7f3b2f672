//! How the control process speaks to its router.
//!
//! One connection, one task that owns it; [`RouterClient`] is a cheap handle. When the connection
//! ends, every call fails with `Closed`, and the caller connects again: the hello tells what the
//! router serves and what still drains, so nothing that was missed is lost.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_extensions::middleware::{MiddlewareConfig, MiddlewareStats};
use berth_model::extension::{BreakerState, ExtensionId};
use berth_model::{Digest, InstanceId, RouteTable};
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::RouteError;
use crate::control::framing::{self, Channel, ChannelError};
use crate::control::wire::{AppMetrics, Down, MiddlewareLine, PROTOCOL, RouterHello, Up};

/// How long the router may take to answer. A table of 10,000 routes takes tens of milliseconds,
/// its snapshot one fsync.
const ANSWER_S_MAX: u64 = 10;
const COMMANDS_MAX: usize = 64;
const EVENTS_MAX: usize = 4096;

/// A connection to the router. Cheap to clone; the connection closes with the last clone.
#[derive(Clone, Debug)]
pub struct RouterClient {
    hello: Arc<RouterHello>,
    commands: mpsc::Sender<Command>,
    events: Arc<EventSource>,
}

#[derive(Debug)]
struct EventSource {
    /// The subscription that was made before the first event could arrive.
    first: Mutex<Option<broadcast::Receiver<RouterEvent>>>,
    sender: broadcast::WeakSender<RouterEvent>,
}

/// What the router counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterMetrics {
    /// One per app that had requests, since the router began to know it.
    pub apps: Vec<AppMetrics>,
    /// Access log lines dropped since the router started.
    pub log_dropped: u64,
}

/// Something happened in the router.
#[derive(Debug, Clone)]
pub enum RouterEvent {
    /// The last request has left a removed target.
    Drained(InstanceId),
    /// A target fails so often that requests are kept away from it, or no longer.
    Health {
        /// Which target.
        instance: InstanceId,
        /// Whether requests are kept away.
        ejected: bool,
    },
    /// What middlewares said.
    Lines {
        /// From the oldest.
        lines: Vec<MiddlewareLine>,
        /// Lines dropped since the router started.
        dropped: u64,
    },
    /// A middleware is called no longer for a while, or until [`RouterClient::resume`].
    Breaker {
        /// Which.
        extension: ExtensionId,
        /// What its code was compiled from.
        component: Digest,
        /// How it is treated now.
        state: BreakerState,
    },
    /// What the middlewares that had calls since the last report used.
    Middleware(Vec<MiddlewareStats>),
    /// Events were lost, because they were not read in time; connect again to know the state.
    Lagged,
}

/// The router's events, from the moment of the connection for the first that asks, from now on
/// for others.
#[derive(Debug)]
pub struct Events(Option<broadcast::Receiver<RouterEvent>>);

impl Events {
    /// The next event; `None` once the connection has ended.
    pub async fn next(&mut self) -> Option<RouterEvent> {
        match self.0.as_mut()?.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(RouterEvent::Lagged),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

enum Command {
    /// A frame that is answered by `Ack` or `Refused`.
    Table(Vec<u8>, oneshot::Sender<Result<bool, RouteError>>),
    Listeners(oneshot::Sender<OwnedFd>),
    /// A frame with code beside it, answered by `Loaded` or `NotLoaded`.
    Load(Vec<u8>, OwnedFd, oneshot::Sender<Result<(), RouteError>>),
    Resume(ExtensionId, Digest),
    Metrics(oneshot::Sender<RouterMetrics>),
    Drain,
}

impl RouterClient {
    /// Connects to the control socket at `path`.
    ///
    /// # Errors
    /// `Unreachable`, `Closed` (the router refuses this user id), `Silent`, and `Protocol` for a
    /// router of another protocol.
    pub async fn connect(path: &Path) -> Result<Self, RouteError> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| RouteError::Unreachable { path: path.to_path_buf(), source })?;
        let mut channel = Channel::new(stream);
        let text = framing::encode(&Down::Hello { protocol: PROTOCOL }).map_err(client_error)?;
        channel.send_text(&text, &[]).await.map_err(client_error)?;
        let hello = answer_in_time(channel.receive()).await?;
        let hello = match hello.map_err(client_error)? {
            Some((Up::Hello(hello), _)) => hello,
            Some((Up::Incompatible { protocol }, _)) => {
                return Err(RouteError::Protocol(format!("the router speaks protocol {protocol}")));
            }
            Some((other, _)) => {
                return Err(RouteError::Protocol(format!("{other:?} before a hello")));
            }
            None => return Err(RouteError::Closed),
        };
        let (commands, orders) = mpsc::channel(COMMANDS_MAX);
        let (events, first) = broadcast::channel(EVENTS_MAX);
        let source = EventSource { first: Mutex::new(Some(first)), sender: events.downgrade() };
        tokio::spawn(converse(channel, orders, events));
        Ok(Self { hello: Arc::new(hello), commands, events: Arc::new(source) })
    }

    /// What the router said about itself at the connection.
    pub fn hello(&self) -> &RouterHello {
        &self.hello
    }

    /// Gives the router a table and waits until it serves it; true when it is on disk as well.
    ///
    /// # Errors
    /// `Refused` for a table that is older than the served one or contradicts itself; `Closed`,
    /// `Silent`.
    pub async fn publish(&self, table: &RouteTable) -> Result<bool, RouteError> {
        let frame = framing::encode(&Down::Table { table: table.clone() }).map_err(client_error)?;
        let (reply, answer) = oneshot::channel();
        self.order(Command::Table(frame, reply)).await?;
        answer_in_time(answer).await?.map_err(|_| RouteError::Closed)?
    }

    /// Gives the router a middleware, before a table names it. Its code was verified by the caller.
    /// What no table names is forgotten with the next table.
    ///
    /// # Errors
    /// `NotLoaded` when the component cannot be used; `Closed`, `Silent`.
    pub async fn load(
        &self,
        middleware: MiddlewareConfig,
        code: BorrowedFd<'_>,
    ) -> Result<(), RouteError> {
        let code = code.try_clone_to_owned().map_err(|error| {
            RouteError::NotLoaded(format!("its code cannot be passed on: {error}"))
        })?;
        let frame = framing::encode(&Down::Load { middleware: Box::new(middleware) })
            .map_err(client_error)?;
        let (reply, answer) = oneshot::channel();
        self.order(Command::Load(frame, code, reply)).await?;
        answer_in_time(answer).await?.map_err(|_| RouteError::Closed)?
    }

    /// Lets a version of an extension be called again after a quarantine.
    ///
    /// # Errors
    /// `Closed`.
    pub async fn resume(
        &self,
        extension: ExtensionId,
        component: Digest,
    ) -> Result<(), RouteError> {
        self.order(Command::Resume(extension, component)).await
    }

    /// A duplicate of the router's HTTP listener, for another router on the same socket.
    ///
    /// # Errors
    /// `Closed`, `Silent`.
    pub async fn listeners(&self) -> Result<OwnedFd, RouteError> {
        let (reply, answer) = oneshot::channel();
        self.order(Command::Listeners(reply)).await?;
        answer_in_time(answer).await?.map_err(|_| RouteError::Closed)
    }

    /// What the router counted.
    ///
    /// # Errors
    /// `Closed`, `Silent`.
    pub async fn metrics(&self) -> Result<RouterMetrics, RouteError> {
        let (reply, answer) = oneshot::channel();
        self.order(Command::Metrics(reply)).await?;
        answer_in_time(answer).await?.map_err(|_| RouteError::Closed)
    }

    /// Asks the router to drain and end. [`Events::next`] gives `None` when it has.
    ///
    /// # Errors
    /// `Closed`.
    pub async fn drain(&self) -> Result<(), RouteError> {
        self.order(Command::Drain).await
    }

    /// The router's events.
    pub fn events(&self) -> Events {
        let first = self.events.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        Events(first.or_else(|| Some(self.events.sender.upgrade()?.subscribe())))
    }

    /// Ends when the connection has ended.
    pub async fn closed(&self) {
        self.commands.closed().await;
    }

    async fn order(&self, command: Command) -> Result<(), RouteError> {
        self.commands.send(command).await.map_err(|_| RouteError::Closed)
    }
}

async fn answer_in_time<T>(answer: impl Future<Output = T>) -> Result<T, RouteError> {
    tokio::time::timeout(Duration::from_secs(ANSWER_S_MAX), answer)
        .await
        .map_err(|_| RouteError::Silent(ANSWER_S_MAX))
}

fn client_error(error: ChannelError) -> RouteError {
    match error {
        ChannelError::Io(_) | ChannelError::Stuck => RouteError::Closed,
        ChannelError::Frame(text) => RouteError::Protocol(text),
    }
}

/// Replies that are still to come, in the order of their orders.
#[derive(Default)]
struct Awaited {
    tables: VecDeque<oneshot::Sender<Result<bool, RouteError>>>,
    listeners: VecDeque<oneshot::Sender<OwnedFd>>,
    loads: VecDeque<oneshot::Sender<Result<(), RouteError>>>,
    metrics: VecDeque<oneshot::Sender<RouterMetrics>>,
}

/// Owns the connection; ends with it, or with the last handle.
async fn converse(
    mut channel: Channel,
    mut orders: mpsc::Receiver<Command>,
    events: broadcast::Sender<RouterEvent>,
) {
    let mut awaited = Awaited::default();
    loop {
        let result = tokio::select! {
            order = orders.recv() => match order {
                Some(order) => awaited.order(&mut channel, order).await,
                None => return,
            },
            message = channel.receive() => match message {
                Ok(Some((up, descriptors))) => {
                    awaited.take(up, descriptors, &events);
                    Ok(())
                }
                Ok(None) => return,
                Err(error) => Err(error),
            },
        };
        if let Err(error) = result {
            tracing::warn!(%error, "the connection to the router failed");
            return;
        }
    }
}

impl Awaited {
    async fn order(&mut self, channel: &mut Channel, order: Command) -> Result<(), ChannelError> {
        let text = match order {
            Command::Table(text, reply) => {
                self.tables.push_back(reply);
                text
            }
            Command::Listeners(reply) => {
                self.listeners.push_back(reply);
                framing::encode(&Down::Listeners)?
            }
            Command::Metrics(reply) => {
                self.metrics.push_back(reply);
                framing::encode(&Down::Metrics)?
            }
            Command::Load(text, code, reply) => {
                self.loads.push_back(reply);
                return channel.send_text(&text, &[code.as_fd()]).await;
            }
            Command::Resume(extension, component) => {
                framing::encode(&Down::Resume { extension, component })?
            }
            Command::Drain => framing::encode(&Down::Drain)?,
        };
        channel.send_text(&text, &[]).await
    }

    fn take(&mut self, up: Up, descriptors: Vec<OwnedFd>, events: &broadcast::Sender<RouterEvent>) {
        let event = match up {
            Up::Ack { saved, .. } => return self.table(Ok(saved)),
            Up::Refused { generation, current, reason } => {
                return self.table(Err(RouteError::Refused { generation, current, reason }));
            }
            Up::Listeners => {
                if let (Some(reply), Some(listener)) =
                    (self.listeners.pop_front(), descriptors.into_iter().next())
                {
                    let _ = reply.send(listener);
                }
                return;
            }
            Up::Metrics { apps, log_dropped } => {
                if let Some(reply) = self.metrics.pop_front() {
                    let _ = reply.send(RouterMetrics { apps, log_dropped });
                }
                return;
            }
            Up::Loaded { .. } => return self.load(Ok(())),
            Up::NotLoaded { reason, .. } => return self.load(Err(RouteError::NotLoaded(reason))),
            Up::Hello(_) | Up::Incompatible { .. } => return,
            Up::Drained { instance } => RouterEvent::Drained(instance),
            Up::Health { instance, ejected } => RouterEvent::Health { instance, ejected },
            Up::Lines { lines, dropped } => RouterEvent::Lines { lines, dropped },
            Up::Breaker { extension, component, state } => {
                RouterEvent::Breaker { extension, component, state }
            }
            Up::Middleware { stats } => RouterEvent::Middleware(stats),
        };
        // Nobody may be listening.
        let _ = events.send(event);
    }

    fn load(&mut self, result: Result<(), RouteError>) {
        if let Some(reply) = self.loads.pop_front() {
            let _ = reply.send(result);
        }
    }

    fn table(&mut self, result: Result<bool, RouteError>) {
        if let Some(reply) = self.tables.pop_front() {
            let _ = reply.send(result);
        }
    }
}
