//! The way of apps to their values: a control connection that the control process opened and that
//! then turns round. The worker asks, and the control process answers, many at once.
//!
//! Without such a connection every call is `unavailable` at once. A call whose answer does not come,
//! because the control process was killed or is slow, is `unavailable` as well; it may have been
//! done.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use berth_model::AppId;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::channel::Channel;
use crate::app::{AppValues, ValueAnswer, ValueCall};

/// Calls that wait to be sent.
const WAITING_MAX: usize = 256;
/// Calls that the control process works on at once.
const AT_ONCE_MAX: usize = 32;
/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    id: u64,
    app: AppId,
    call: ValueCall,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    id: u64,
    answer: ValueAnswer,
}

struct Waiting {
    app: AppId,
    call: ValueCall,
    answer: oneshot::Sender<ValueAnswer>,
}

/// The worker's end.
#[derive(Default)]
pub(super) struct Line(Mutex<Option<mpsc::Sender<Waiting>>>);

#[async_trait]
impl AppValues for Line {
    async fn ask(&self, app: AppId, call: ValueCall) -> ValueAnswer {
        let out = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (answer, answered) = oneshot::channel();
        let sent = out.is_some_and(|out| out.try_send(Waiting { app, call, answer }).is_ok());
        if !sent {
            return ValueAnswer::unavailable();
        }
        match tokio::time::timeout(ANSWER_MAX, answered).await {
            Ok(Ok(answer)) => answer,
            _ => ValueAnswer::unavailable(),
        }
    }
}

impl Line {
    /// Asks over a connection until it ends. A newer connection takes the place of an older one.
    pub(super) async fn run(&self, channel: &mut Channel) -> io::Result<()> {
        let (out, waiting) = mpsc::channel(WAITING_MAX);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(out.clone());
        let ended = exchange(channel, waiting).await;
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|current| current.same_channel(&out)) {
            *current = None;
        }
        ended
    }
}

async fn exchange(channel: &mut Channel, mut waiting: mpsc::Receiver<Waiting>) -> io::Result<()> {
    let asked: Mutex<HashMap<u64, oneshot::Sender<ValueAnswer>>> = Mutex::default();
    let asked = || asked.lock().unwrap_or_else(PoisonError::into_inner);
    let writer = channel.writer();
    // Reading never waits for writing: both ends could wait for each other.
    let sending = async {
        let mut id = 0;
        while let Some(Waiting { app, call, answer }) = waiting.recv().await {
            id += 1;
            {
                let mut asked = asked();
                asked.retain(|_, answer| !answer.is_closed());
                asked.insert(id, answer);
            }
            writer.send(&Ask { id, app, call }, None).await?;
        }
        // A newer connection has taken over; answers may still come.
        std::future::pending().await
    };
    let receiving = async {
        while let Some((Answer { id, answer }, _)) = channel.receive().await? {
            if let Some(waits) = asked().remove(&id) {
                let _ = waits.send(answer);
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = sending => ended,
        ended = receiving => ended,
    }
}

/// The control process's end: answers until the connection ends.
pub(super) async fn answer<F, R>(channel: &mut Channel, handler: F) -> io::Result<()>
where
    F: Fn(AppId, ValueCall) -> R,
    R: Future<Output = ValueAnswer> + Send + 'static,
{
    let writer = Arc::new(tokio::sync::Mutex::new(channel.writer()));
    let mut working: JoinSet<io::Result<()>> = JoinSet::new();
    loop {
        while working.len() >= AT_ONCE_MAX {
            joined(working.join_next().await)?;
        }
        tokio::select! {
            received = channel.receive::<Ask>() => {
                let Some((Ask { id, app, call }, _)) = received? else { return Ok(()) };
                let (answer, writer) = (handler(app, call), Arc::clone(&writer));
                working.spawn(async move {
                    let answer = answer.await;
                    writer.lock().await.send(&Answer { id, answer }, None).await
                });
            }
            Some(done) = working.join_next() => joined(Some(done))?,
        }
    }
}

fn joined(done: Option<Result<io::Result<()>, tokio::task::JoinError>>) -> io::Result<()> {
    match done {
        Some(Ok(sent)) => sent,
        Some(Err(error)) => Err(io::Error::other(error)),
        None => Ok(()),
    }
}
