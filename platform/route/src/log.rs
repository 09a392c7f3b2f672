//! The access log: one JSON line per request, written by a thread of its own.
//!
//! The request path only appends a line to a bounded text; when there are too many lines, the new
//! one is dropped and counted. The writer takes the whole text a few times a second, so that a
//! busy router pays for a write per batch and not per request. A line is made where the request
//! ends, because its parts lie in the connection's buffers and would keep those in memory. Paths
//! are logged without their query: credentials travel there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;

use crate::clock;
use crate::config::Config;
use crate::exchange::Books;
use crate::fault::Fault;

/// Longest path and host in a line.
const TEXT_BYTES_MAX: usize = 1024;
/// Memory that the texts keep between batches.
const KEPT_BYTES_MAX: usize = 256 * 1024;

pub(crate) struct AccessLog {
    queue: Arc<Queue>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    lines_max: usize,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    text: Vec<u8>,
    lines: usize,
    closed: bool,
}

impl AccessLog {
    /// Starts the writer on `access.log` in the router's folder.
    pub(crate) fn start(config: &Config) -> io::Result<Self> {
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            filled: Condvar::new(),
            lines_max: config.limits.access_log_queue_max,
            dropped: AtomicU64::new(0),
        });
        let mut files = Files {
            path: config.folder.join("access.log"),
            bytes_max: config.limits.access_log_bytes_max,
            files_max: config.limits.access_log_files_max,
            open: None,
        };
        let gather = config.deadlines.access_log;
        let writer = std::thread::Builder::new().name("access-log".into()).spawn({
            let queue = Arc::clone(&queue);
            move || write_batches(&queue, &mut files, gather)
        })?;
        Ok(Self { queue, writer: Mutex::new(Some(writer)) })
    }

    /// A request's books.
    pub(crate) fn request(&self, client: IpAddr, books: &Books) {
        let mut state = self.queue.lock();
        if state.closed || state.lines >= self.queue.lines_max {
            self.queue.dropped.fetch_add(1, Relaxed);
            return;
        }
        // A line is plain text and numbers, so that this cannot fail.
        let _ = serde_json::to_writer(&mut state.text, &Line::of(client, books));
        state.text.push(b'\n');
        state.lines += 1;
        if state.lines == 1 {
            self.queue.filled.notify_one();
        }
    }

    /// A connection that ended before its request became one.
    pub(crate) fn connection_fault(&self, client: IpAddr, fault: Fault) {
        let books = Books {
            at_ms: clock::unix_ms(),
            status: fault.status(),
            code: Some(fault.code()),
            ..Books::default()
        };
        self.request(client, &books);
    }

    /// Lines that were dropped because the writer did not keep up.
    pub(crate) fn dropped(&self) -> u64 {
        self.queue.dropped.load(Relaxed)
    }

    /// Writes what is queued and ends the writer.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.queue.filled.notify_one();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_batches(queue: &Queue, files: &mut Files, gather: Duration) {
    let mut text = Vec::new();
    let mut failing = false;
    loop {
        let mut state = queue.lock();
        while state.lines == 0 && !state.closed {
            state = queue.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if !state.closed {
            // Gather a batch; closing ends the wait.
            let wait = queue.filled.wait_timeout_while(state, gather, |state| !state.closed);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::swap(&mut state.text, &mut text);
        let lines = std::mem::take(&mut state.lines) as u64;
        let closed = state.closed;
        drop(state);
        let written = files.write(&text);
        if let Err(error) = &written {
            // A full disk costs log lines, never traffic; and one complaint, not ten a second.
            queue.dropped.fetch_add(lines, Relaxed);
            if !failing {
                tracing::warn!(%error, path = %files.path.display(), "cannot write the access log");
            }
        }
        failing = written.is_err();
        text.clear();
        text.shrink_to(KEPT_BYTES_MAX);
        if closed {
            return;
        }
    }
}

/// The log and its predecessors: `access.log`, `access.log.1`, …
struct Files {
    path: PathBuf,
    bytes_max: u64,
    files_max: u32,
    open: Option<(File, u64)>,
}

impl Files {
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        let (file, size) = match &mut self.open {
            Some(open) => open,
            None => {
                let file =
                    OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
                let size = file.metadata()?.len();
                self.open.insert((file, size))
            }
        };
        file.write_all(text)?;
        *size += text.len() as u64;
        if *size >= self.bytes_max {
            self.open = None;
            self.rotate()?;
        }
        Ok(())
    }

    fn rotate(&self) -> io::Result<()> {
        let name = |n: u32| match n {
            0 => self.path.clone(),
            n => numbered(&self.path, n),
        };
        for n in (1..self.files_max.max(2)).rev() {
            match std::fs::rename(name(n - 1), name(n)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

#[derive(Serialize)]
struct Line<'a> {
    at_ms: u64,
    id: &'a str,
    app: Option<&'a str>,
    release: Option<u64>,
    target: Option<String>,
    method: &'a str,
    host: Option<&'a str>,
    path: &'a str,
    status: u16,
    bytes: u64,
    request_bytes: u64,
    proto: &'static str,
    client: IpAddr,
    queue_us: u64,
    connect_us: u64,
    first_byte_us: u64,
    total_us: u64,
    retries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extension: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
}

impl<'a> Line<'a> {
    fn of(client: IpAddr, books: &'a Books) -> Self {
        let parsed = books.host.is_some() || !books.id.is_empty();
        Self {
            at_ms: books.at_ms,
            id: books.id.to_str().unwrap_or_default(),
            app: books.app.as_ref().map(|name| name.as_str()),
            release: books.release,
            target: books.target.map(|instance| instance.to_string()),
            method: if parsed { clip(books.method.as_str()) } else { "-" },
            host: books.host.as_ref().and_then(|host| host.to_str().ok()).map(clip),
            path: if parsed { clip(books.uri.path()) } else { "-" },
            status: books.status,
            bytes: books.bytes_out,
            request_bytes: books.bytes_in,
            proto: if books.version == http::Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" },
            client,
            queue_us: books.queue_us,
            connect_us: books.connect_us,
            first_byte_us: books.first_byte_us,
            total_us: books.total_us,
            retries: books.retries,
            code: books.code,
            extension: books.extension.as_ref().map(|extension| extension.as_str()),
            cut: books.cut,
        }
    }
}

/// The beginning of a text, at most [`TEXT_BYTES_MAX`].
fn clip(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path) -> Config {
        let mut config = Config::new(folder, "/nonexistent", "test");
        config.deadlines.access_log = Duration::from_millis(1);
        config
    }

    #[test]
    fn the_log_is_rotated_at_its_cap_and_the_oldest_file_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Files {
            path: folder.path().join("access.log"),
            bytes_max: 10,
            files_max: 3,
            open: None,
        };
        for n in 0..5 {
            files.write(format!("line {n} long\n").as_bytes()).unwrap();
        }
        files.write(b"new\n").unwrap();
        let read = |name| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("access.log"), "new\n");
        assert_eq!(read("access.log.1"), "line 4 long\n");
        assert_eq!(read("access.log.2"), "line 3 long\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted_and_the_rest_is_written_on_close() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        config.limits.access_log_queue_max = 2;
        config.deadlines.access_log = Duration::from_secs(60);
        let log = AccessLog::start(&config).unwrap();
        for _ in 0..5 {
            log.connection_fault([127, 0, 0, 1].into(), Fault::SlowClient);
        }
        log.close();
        assert_eq!(log.dropped(), 3);
        let text = std::fs::read_to_string(folder.path().join("access.log")).unwrap();
        assert_eq!(text.lines().count(), 2);
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(line["code"], "slow_client");
    }

    #[test]
    fn a_disk_that_takes_nothing_costs_lines_only() {
        let folder = tempfile::tempdir().unwrap();
        let log = AccessLog::start(&config(&folder.path().join("missing"))).unwrap();
        log.connection_fault([127, 0, 0, 1].into(), Fault::SlowClient);
        log.close();
        assert_eq!(log.dropped(), 1);
    }
}
