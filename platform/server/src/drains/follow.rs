//! Lines of the logs that a drain follows, from where it was.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use berth_container::logfile::{LogLine, LogReader, Reading};
use berth_model::InstanceId;
use berth_model::drain::Entry;
use berth_model::log::LogStream;
use berth_store::{Drain, DrainCursor, DrainSource, Store, StoreError};

use crate::logs::Logs;

/// Most bytes and lines of one batch, about.
const BATCH_BYTES_MAX: usize = 512 * 1024;
const BATCH_LINES_MAX: usize = 2000;
/// The rest of a cut line is waited for so long, and so many bytes of it are kept meanwhile.
const REST_WAIT: Duration = Duration::from_secs(1);
const REST_BYTES_MAX: usize = 256 * 1024;
/// A log that is quiet this long after its instance ended is over, whether it says so or not.
const OVER_AFTER_MS: i64 = 60_000;
/// A log that was not there is looked for again after this.
const REOPEN: Duration = Duration::from_secs(1);

/// What was read at once.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) entries: Vec<Entry>,
    pub(super) cursors: Vec<DrainCursor>,
    /// Lines that the logs do not have any more.
    pub(super) lost: u64,
}

/// The logs of one drain.
pub(super) struct Follow {
    logs: Logs,
    store: Store,
    sources: BTreeMap<InstanceId, Source>,
    /// Whose turn is first, so that a busy log does not keep the others out.
    turn: usize,
}

struct Source {
    of: DrainSource,
    reader: Option<LogReader>,
    /// When it is looked for again.
    look_at: Option<Instant>,
    /// The last line that was read, and that was given.
    read: u64,
    given: u64,
    /// Lines of a cut line whose end has not come.
    rest: Vec<LogLine>,
    rest_since: Option<Instant>,
    /// Nothing follows what was read.
    over: bool,
}

impl Follow {
    pub(super) fn new(logs: Logs, store: Store) -> Self {
        Self { logs, store, sources: BTreeMap::new(), turn: 0 }
    }

    /// Learns of new instances, and of what became of the others.
    pub(super) async fn learn(&mut self, drain: &Drain) -> Result<(), StoreError> {
        let found = self.store.drain_sources(drain).await?;
        let ids: std::collections::BTreeSet<_> = found.iter().map(|of| of.instance.id).collect();
        self.sources.retain(|id, _| ids.contains(id));
        for of in found {
            let (id, seq) = (of.instance.id, of.seq);
            let source = self.sources.entry(id).or_insert_with(|| Source {
                of: of.clone(),
                reader: None,
                look_at: None,
                read: seq,
                given: seq,
                rest: Vec::new(),
                rest_since: None,
                over: false,
            });
            source.of = of;
        }
        Ok(())
    }

    /// The next lines, in the order of their times; nothing where there is nothing new.
    pub(super) async fn read(&mut self, since_ms: i64, now_ms: i64) -> Read {
        self.open().await;
        let mut ids: Vec<InstanceId> = self.sources.keys().copied().collect();
        let count = ids.len().max(1);
        ids.rotate_left(self.turn % count);
        self.turn = self.turn.wrapping_add(1);
        let mut sources = std::mem::take(&mut self.sources);
        let done = tokio::task::spawn_blocking(move || {
            let mut batch = Collected::default();
            for id in ids {
                if let Some(source) = sources.get_mut(&id) {
                    source.next(&mut batch, since_ms, now_ms);
                }
                if batch.is_full() {
                    break;
                }
            }
            (sources, batch.finish())
        });
        match done.await {
            Ok((sources, read)) => {
                self.sources = sources;
                read
            }
            // The sources are learnt of anew, from what was sent for certain.
            Err(_) => Read::default(),
        }
    }

    async fn open(&mut self) {
        let now = Instant::now();
        for source in self.sources.values_mut() {
            let due = source.look_at.is_none_or(|at| at <= now);
            if source.reader.is_none() && !source.over && due {
                let files = self.logs.files(&source.of.instance).await;
                source.look_at = files.is_empty().then_some(now + REOPEN);
                if !files.is_empty() {
                    source.reader = Some(LogReader::new(files, source.read));
                }
            }
        }
    }
}

#[derive(Default)]
struct Collected {
    lines: Vec<(i64, Entry)>,
    bytes: usize,
    cursors: Vec<DrainCursor>,
    lost: u64,
}

impl Collected {
    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES_MAX || self.lines.len() >= BATCH_LINES_MAX
    }

    fn push(&mut self, order: i64, entry: Entry) {
        self.bytes += entry.bytes();
        self.lines.push((order, entry));
    }

    fn finish(mut self) -> Read {
        // Stable: lines of one instance stay in their order, as their keys never go back.
        self.lines.sort_by_key(|(order, _)| *order);
        let entries = self.lines.into_iter().map(|(_, entry)| entry).collect();
        Read { entries, cursors: self.cursors, lost: self.lost }
    }
}

impl Source {
    /// Reads what the log has now, within what the batch takes.
    fn next(&mut self, batch: &mut Collected, since_ms: i64, now_ms: i64) {
        let mut lines = std::mem::take(&mut self.rest);
        let mut bytes = batch.bytes;
        let mut ended = self.over;
        while bytes < BATCH_BYTES_MAX && batch.lines.len() + lines.len() < BATCH_LINES_MAX {
            let Some(reader) = &mut self.reader else { break };
            match reader.next() {
                Ok(Reading::Lines(new)) => {
                    bytes += new.iter().map(|line| line.line.len() + 128).sum::<usize>();
                    lines.extend(new);
                    self.read = reader.after();
                }
                Ok(Reading::Waiting) => {
                    let stopped = self.of.instance.stopped_at_ms;
                    ended = stopped.is_some_and(|at| now_ms - at > OVER_AFTER_MS);
                    break;
                }
                Ok(Reading::Closed) => {
                    ended = true;
                    break;
                }
                // The files are asked for again; what was read is skipped there.
                Ok(Reading::Rotated) | Err(_) => {
                    self.reader = None;
                    self.look_at = None;
                    break;
                }
            }
        }
        // Nobody keeps the log of an instance that is gone for long.
        let gone = self.reader.is_none() && self.look_at.is_some();
        let stopped = self.of.instance.stopped_at_ms;
        ended |= gone && stopped.is_some_and(|at| now_ms - at > OVER_AFTER_MS);
        self.keep_rest(&mut lines, ended);
        self.give(lines, batch, since_ms);
        if ended && !self.over && self.rest.is_empty() {
            self.over = true;
            self.reader = None;
            batch.cursors.push(self.cursor());
        }
    }

    /// Keeps a cut line at the end back until its end has come, so that processors see lines whole.
    fn keep_rest(&mut self, lines: &mut Vec<LogLine>, ended: bool) {
        let mut from: BTreeMap<u8, usize> = BTreeMap::new();
        for (index, line) in lines.iter().enumerate() {
            let stream = line.stream as u8;
            if line.partial {
                from.entry(stream).or_insert(index);
            } else {
                from.remove(&stream);
            }
        }
        let Some(from) = from.into_values().min().filter(|_| !ended) else {
            self.rest_since = None;
            return;
        };
        let since = *self.rest_since.get_or_insert_with(Instant::now);
        let bytes: usize = lines.iter().skip(from).map(|line| line.line.len()).sum();
        if since.elapsed() >= REST_WAIT || bytes > REST_BYTES_MAX {
            self.rest_since = None;
            return;
        }
        self.rest = lines.split_off(from);
    }

    fn give(&mut self, lines: Vec<LogLine>, batch: &mut Collected, since_ms: i64) {
        let before = self.given;
        let mut order = i64::MIN;
        for line in lines {
            order = order.max(line.at_ns);
            let missing = line.seq.saturating_sub(self.given + 1);
            if missing > 0 && self.given > 0 {
                batch.lost += missing;
                batch.push(order, self.notice(missing, &line));
            }
            self.given = line.seq;
            if line.at_ns.div_euclid(1_000_000) >= since_ms {
                batch.push(order, self.entry(line));
            }
        }
        if self.given > before {
            batch.cursors.push(self.cursor());
        }
    }

    fn cursor(&self) -> DrainCursor {
        DrainCursor { instance: self.of.instance.id, seq: self.given, done: self.over }
    }

    fn entry(&self, line: LogLine) -> Entry {
        let instance = &self.of.instance;
        Entry {
            app: self.of.app.to_string(),
            process: instance.process.to_string(),
            instance: instance.label(),
            stream: match line.stream {
                LogStream::Stdout => "stdout",
                LogStream::Stderr => "stderr",
                LogStream::System => "system",
            }
            .to_owned(),
            at_ns: u64::try_from(line.at_ns).unwrap_or(0),
            seq: line.seq,
            line: line.line,
            partial: line.partial,
            extra: vec![("instance-id".to_owned(), instance.id.to_string())],
        }
    }

    /// What stands for lines that the log does not have any more.
    fn notice(&self, missing: u64, before: &LogLine) -> Entry {
        let text = format!(
            "{missing} lines were dropped: they came faster than this drain's receiver took them"
        );
        let line = LogLine {
            seq: before.seq - 1,
            at_ns: before.at_ns,
            attempt: before.attempt,
            stream: LogStream::System,
            line: text,
            partial: false,
        };
        self.entry(line)
    }
}
