//! Connections to sinks. Each takes the messages of a batch in order, or says why not; none keeps
//! lines of its own.

mod datagrams;
mod https;
mod stream;

use std::time::{Duration, Instant};

use berth_model::drain::{SinkKind, SinkUrl};

use self::datagrams::Datagrams;
use self::https::Https;
use self::stream::Stream;
use super::resolve::Judge;

/// How long a connection may take, and the taking of a batch.
const CONNECT_MAX: Duration = Duration::from_secs(10);
const WRITE_MAX: Duration = Duration::from_secs(30);
/// How long a connection must live on before what was written counts as taken.
const SETTLE: Duration = Duration::from_secs(1);

/// A sink did not take messages. Texts never hold more of the address than host and port.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The name is not known.
    #[error("the name {host} is not known: {source}")]
    Name {
        /// The name.
        host: String,
        /// What the resolver said.
        source: std::io::Error,
    },
    /// It is not to be reached.
    #[error("{host} is not connected to: {reason}")]
    Prohibited {
        /// The name.
        host: String,
        /// What it is, and who may reach it.
        reason: String,
    },
    /// Nobody answers.
    #[error("cannot connect to {to}: {source}")]
    Connect {
        /// Host and port.
        to: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the connection to {to} broke: {source}")]
    Broken {
        /// Host and port.
        to: String,
        /// How.
        source: std::io::Error,
    },
    /// It took too long.
    #[error("{to} did not answer in {seconds} s")]
    Slow {
        /// Host and port.
        to: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The trusted certificates cannot be used.
    #[error("the certificates of authorities cannot be used: {reason}")]
    Authorities {
        /// Why not.
        reason: String,
    },
    /// An HTTP answer that says to try again, or that the address or its credential is wrong.
    #[error("{to} answered {status}{}", said.as_deref().map(|said| format!(": {said}")).unwrap_or_default())]
    Answer {
        /// Host and port.
        to: String,
        /// The code.
        status: u16,
        /// The beginning of its text.
        said: Option<String>,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
        /// It will never take this batch.
        never: bool,
    },
    /// No HTTP answer.
    #[error("no answer from {to}: {reason}")]
    Request {
        /// Host and port.
        to: String,
        /// Why not.
        reason: String,
    },
}

impl SinkError {
    /// The batch is to be given up.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Answer { never: true, .. })
    }

    /// The least time until the next attempt.
    pub(super) fn retry_after(&self) -> Duration {
        match self {
            Self::Answer { retry_after: Some(after), .. } => *after,
            _ => Duration::ZERO,
        }
    }
}

/// What a connection needs to know.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) url: SinkUrl,
    pub(super) ca: Option<String>,
    pub(super) judge: Judge,
}

impl Target {
    /// Host and port, for messages.
    fn to(&self) -> String {
        let (host, port) = (self.url.host(), self.url.port());
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    fn slow(&self, waited: Duration) -> SinkError {
        SinkError::Slow { to: self.to(), seconds: waited.as_secs() }
    }

    fn broken(&self, source: std::io::Error) -> SinkError {
        SinkError::Broken { to: self.to(), source }
    }
}

/// A sink of any kind.
pub(super) enum Sink {
    Datagrams(Datagrams),
    Stream(Box<Stream>),
    Https(Box<Https>),
}

impl Sink {
    /// A sink that connects when it is first given messages.
    pub(super) fn new(target: Target) -> Self {
        match target.url.kind() {
            SinkKind::SyslogUdp | SinkKind::GelfUdp => Self::Datagrams(Datagrams::new(target)),
            SinkKind::SyslogTcp | SinkKind::SyslogTls | SinkKind::GelfTcp => {
                Self::Stream(Box::new(Stream::new(target)))
            }
            SinkKind::Https => Self::Https(Box::new(Https::new(target))),
        }
    }

    /// How it is spoken to.
    pub(super) fn kind(&self) -> SinkKind {
        let target = match self {
            Self::Datagrams(sink) => sink.target(),
            Self::Stream(sink) => sink.target(),
            Self::Https(sink) => sink.target(),
        };
        target.url.kind()
    }

    /// Writes messages, connecting first where there is no connection. After an error there is none,
    /// and everything that has not settled is to be written again.
    pub(super) async fn write(&mut self, frames: &[Vec<u8>]) -> Result<(), SinkError> {
        match self {
            Self::Datagrams(sink) => sink.write(frames).await,
            Self::Stream(sink) => sink.write(frames).await,
            Self::Https(sink) => sink.write(frames).await,
        }
    }

    /// How the connection broke, if it did since the last call; it is closed then.
    pub(super) fn broke(&mut self) -> Option<SinkError> {
        match self {
            Self::Stream(sink) => sink.broke(),
            Self::Datagrams(_) | Self::Https(_) => None,
        }
    }

    /// What was written before the answered time counts as taken; nothing does for now where there
    /// is none. Where there are receipts, that is now.
    pub(super) fn settled(&self, now: Instant) -> Option<(Instant, Duration)> {
        match self {
            Self::Datagrams(_) | Self::Https(_) => Some((now, Duration::ZERO)),
            Self::Stream(sink) => sink.is_acknowledged().then_some((now, SETTLE)),
        }
    }

    /// Ends the connection after what was written. Whether the receiver took everything.
    pub(super) async fn finish(&mut self) -> bool {
        match self {
            Self::Datagrams(_) | Self::Https(_) => true,
            Self::Stream(sink) => sink.finish().await,
        }
    }
}
