//! The log of an app: lines of all its instances, those that are over included, as one stream.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use berth_container::logfile::{self, LogLimits, LogLine, LogReader, Reading};
use berth_container::{Agent, Request};
use berth_model::log::LogRecord;
use berth_model::{App, InstanceId, InstanceRecord, ProcessName, TargetAddress};
use berth_store::{Store, StoreError};
use tokio::sync::mpsc;

use crate::http::LogEntry;

/// Instances whose logs are looked at, the newest first.
const INSTANCES_MAX: u32 = 50;
/// Most lines of one answer.
pub const LINES_MAX: usize = 10_000;
/// How often growing logs are looked at.
const PERIOD: Duration = Duration::from_millis(200);
/// Lines that wait for a slow client.
const QUEUE_MAX: usize = 1024;

/// Reads logs. Cheap to clone.
#[derive(Clone)]
pub struct Logs {
    pub(crate) store: Store,
    pub(crate) agent: Agent,
    /// Where the Wasm worker writes.
    pub(crate) wasm: PathBuf,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only of this process.
    pub process: Option<ProcessName>,
    /// Only so many of the last ones that are there already.
    pub lines: usize,
    /// Lines of this instance up to this one are known already.
    pub after: Option<(InstanceId, u64)>,
}

impl Logs {
    /// Logs of what `store` knows: containers' from `agent`, Wasm apps' below the folder `wasm`.
    pub fn new(store: Store, agent: Agent, wasm: PathBuf) -> Self {
        Self { store, agent, wasm }
    }

    /// The last lines, oldest first.
    ///
    /// # Errors
    /// What the store says; a log that cannot be read is left out.
    pub async fn tail(&self, app: &App, filter: &Filter) -> Result<Vec<LogEntry>, StoreError> {
        self.read(app, filter, &mut filter.after.into_iter().collect()).await
    }

    /// The last lines, and then new ones as they come, until the receiver is dropped.
    pub fn follow(&self, app: App, filter: Filter) -> mpsc::Receiver<LogEntry> {
        let (lines, receiver) = mpsc::channel(QUEUE_MAX);
        let logs = self.clone();
        tokio::spawn(async move {
            let mut seen: HashMap<InstanceId, u64> = filter.after.into_iter().collect();
            let mut filter = filter;
            while !lines.is_closed() {
                match logs.read(&app, &filter, &mut seen).await {
                    Ok(records) => {
                        for record in records {
                            if lines.send(record).await.is_err() {
                                return;
                            }
                        }
                    }
                    Err(error) => tracing::warn!("a log cannot be followed for now: {error}"),
                }
                filter.lines = LINES_MAX;
                tokio::time::sleep(PERIOD).await;
            }
        });
        receiver
    }

    /// Lines after those that were seen, of all instances, in the order of their times.
    async fn read(
        &self,
        app: &App,
        filter: &Filter,
        seen: &mut HashMap<InstanceId, u64>,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let instances = self.store.instances(app.id, false, None, INSTANCES_MAX).await?;
        let mut records = Vec::new();
        for instance in instances {
            if filter.process.as_ref().is_some_and(|process| *process != instance.process) {
                continue;
            }
            let after = seen.get(&instance.id).copied().unwrap_or(0);
            let files = self.files(&instance).await;
            let read = tokio::task::spawn_blocking(move || lines(files, after));
            let Ok(lines) = read.await else { continue };
            if let Some(last) = lines.last() {
                seen.insert(instance.id, last.seq);
            }
            records.extend(lines.into_iter().map(|line| entry(app, &instance, line)));
        }
        records.sort_by_key(|entry: &LogEntry| {
            (entry.record.at_ns, entry.record.instance, entry.record.seq)
        });
        let surplus = records.len().saturating_sub(filter.lines.min(LINES_MAX));
        records.drain(..surplus);
        Ok(records)
    }

    /// The log files of an instance, oldest first; none where there are none yet.
    pub(crate) async fn files(&self, instance: &InstanceRecord) -> Vec<OwnedFd> {
        let own = self.wasm.join(instance.id.to_string());
        if matches!(instance.address, Some(TargetAddress::Wasm)) || own.exists() {
            let paths = logfile::files(&own, LogLimits::default());
            return paths
                .iter()
                .filter_map(|path| std::fs::File::open(path).ok())
                .map(OwnedFd::from)
                .collect();
        }
        let reply = self.agent.call(&Request::Logs { instance: instance.id }, &[]).await;
        reply.map(|(_, files)| files).unwrap_or_default()
    }
}

fn lines(files: Vec<OwnedFd>, after: u64) -> Vec<LogLine> {
    let mut reader = LogReader::new(files, after);
    let mut all = Vec::new();
    while let Ok(Reading::Lines(lines)) = reader.next() {
        all.extend(lines);
        if all.len() > 2 * LINES_MAX {
            all.drain(..LINES_MAX);
        }
    }
    all
}

fn entry(app: &App, instance: &InstanceRecord, line: LogLine) -> LogEntry {
    let record = LogRecord {
        app: app.name.clone(),
        process: instance.process.clone(),
        instance: instance.id,
        attempt: line.attempt,
        stream: line.stream,
        at_ns: line.at_ns,
        seq: line.seq,
        line: line.line,
        partial: line.partial,
    };
    LogEntry { source: instance.label(), record }
}
