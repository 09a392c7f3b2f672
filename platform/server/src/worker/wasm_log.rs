//! The logs of Wasm apps: written by the worker itself, in the same form as containers' logs, so
//! that they go on while the control process is away.

use std::collections::HashMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_container::logfile::{LogLimits, LogWriter};
use berth_extensions::LogSink;
use berth_model::InstanceId;
use berth_model::log::LogStream;

/// Lines that wait to be written; further ones are dropped and counted.
const QUEUE_MAX: usize = 8192;
/// Logs that are kept open.
const OPEN_MAX: usize = 256;

struct Line {
    instance: InstanceId,
    stream: LogStream,
    at_ns: i64,
    text: String,
    partial: bool,
}

/// Writes lines from a thread of its own: those who log are the threads that run guests.
pub(super) struct WasmLogs {
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

impl WasmLogs {
    /// Logs below `folder`, one folder per instance.
    pub(super) fn new(folder: PathBuf) -> Self {
        let (lines, waiting) = sync_channel(QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        std::thread::spawn(move || write(&folder, &waiting, &counted));
        Self { lines, dropped }
    }
}

impl LogSink for WasmLogs {
    fn line(&self, instance: InstanceId, stream: LogStream, line: &str, partial: bool) {
        let line = Line { instance, stream, at_ns: now_ns(), text: line.to_owned(), partial };
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write(folder: &std::path::Path, lines: &Receiver<Line>, dropped: &AtomicU64) {
    let mut open: HashMap<InstanceId, LogWriter> = HashMap::new();
    while let Ok(line) = lines.recv() {
        if !open.contains_key(&line.instance) {
            if open.len() >= OPEN_MAX {
                open.clear();
            }
            let own = folder.join(line.instance.to_string());
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o750).create(&own);
            match made.and_then(|()| LogWriter::open(&own, LogLimits::default())) {
                Ok(writer) => open.insert(line.instance, writer),
                Err(_) => continue,
            };
        }
        let Some(writer) = open.get_mut(&line.instance) else { continue };
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let note = format!("{lost} lines were dropped: they came too fast");
            writer.line(1, LogStream::System, line.at_ns, note.as_bytes(), false);
        }
        writer.line(1, line.stream, line.at_ns, line.text.as_bytes(), line.partial);
    }
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
