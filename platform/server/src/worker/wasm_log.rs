//! The logs of Wasm apps: written by the worker itself, in the same form as containers' logs, so
//! that they go on while the control process is away.

use std::collections::HashMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
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
/// How long lines are gathered before they are written. Whoever logs wakes nobody meanwhile, and
/// an app's first line, for which a folder is made, does not compete with the answer to the request
/// that it is about. Lines of so long are lost with a process that is killed.
const GATHER: Duration = Duration::from_millis(5);
/// How long the end of the process waits for what is not written yet.
const END_MAX: Duration = Duration::from_secs(2);

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
    pub(super) fn new(folder: PathBuf) -> (Self, Writing) {
        let (lines, waiting) = sync_channel(QUEUE_MAX);
        let (writing, written) = sync_channel(0);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        std::thread::spawn(move || {
            let _until_the_end: SyncSender<()> = writing;
            write(&folder, &waiting, &counted);
        });
        (Self { lines, dropped }, Writing(written))
    }
}

/// The thread that writes, which ends after the last line once nobody can log any more.
pub(super) struct Writing(Receiver<()>);

impl Writing {
    /// Waits for its end, for a bounded time.
    pub(super) fn end(self) {
        // Nothing is ever sent: an error is the end of the thread, or of our patience.
        let _ = self.0.recv_timeout(END_MAX);
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

fn write(folder: &Path, lines: &Receiver<Line>, dropped: &AtomicU64) {
    let mut open: HashMap<InstanceId, LogWriter> = HashMap::new();
    while let Ok(first) = lines.recv() {
        std::thread::sleep(GATHER);
        // No more than these, so that what is held is written in time.
        let gathered = lines.try_iter().take(QUEUE_MAX);
        for line in std::iter::once(first).chain(gathered) {
            let Some(writer) = writer(&mut open, folder, line.instance) else { continue };
            let lost = dropped.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let note = format!("{lost} lines were dropped: they came too fast");
                writer.hold(1, LogStream::System, line.at_ns, note.as_bytes(), false);
            }
            writer.hold(1, line.stream, line.at_ns, line.text.as_bytes(), line.partial);
        }
        open.values_mut().for_each(LogWriter::flush);
    }
}

/// The log of an instance; none where it cannot be opened.
fn writer<'a>(
    open: &'a mut HashMap<InstanceId, LogWriter>,
    folder: &Path,
    instance: InstanceId,
) -> Option<&'a mut LogWriter> {
    if !open.contains_key(&instance) {
        if open.len() >= OPEN_MAX {
            open.values_mut().for_each(LogWriter::flush);
            open.clear();
        }
        let own = folder.join(instance.to_string());
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(&own).ok()?;
        open.insert(instance, LogWriter::open(&own, LogLimits::default()).ok()?);
    }
    open.get_mut(&instance)
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use berth_container::logfile::files;

    use super::*;

    #[test]
    fn what_was_logged_is_written_in_its_order_before_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (logs, writing) = WasmLogs::new(folder.path().to_owned());
        let instances = [1, 2].map(|n| InstanceId::new(n, [0; 10]));
        for n in 0..100 {
            for instance in instances {
                logs.line(instance, LogStream::Stdout, &format!("line {n}"), false);
            }
        }
        drop(logs);
        writing.end();
        for instance in instances {
            let files = files(&folder.path().join(instance.to_string()), LogLimits::default());
            let text = std::fs::read_to_string(&files[0]).unwrap();
            let found: Vec<_> = text.matches("line ").collect();
            assert_eq!(found.len(), 100, "{text}");
            let places = (0..100).map(|n| text.find(&format!("line {n}")).unwrap());
            assert!(places.is_sorted(), "{text}");
        }
    }
}
