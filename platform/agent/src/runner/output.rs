//! The container's standard output and error, on their way into the log. The app is never held
//! up: what the disk does not take is dropped and counted by the writer.

use std::os::fd::OwnedFd;

use berth_container::logfile::{Lines, LogLimits, LogWriter};
use berth_model::log::LogStream;

use crate::failure::{Because, Failure};
use crate::run_wire::RunSpec;

/// Bytes taken at one time from one stream, so that the other and the control socket have their
/// turn.
const READ_BYTES: usize = 64 * 1024;

/// One stream of one attempt.
pub(crate) struct Output {
    pub(crate) pipe: OwnedFd,
    stream: LogStream,
    lines: Lines,
}

/// Whether a stream may give more.
#[derive(PartialEq, Eq)]
pub(crate) enum Flow {
    Open,
    Ended,
}

impl Output {
    /// A pipe: this end stays here, the other one is for the container.
    pub(crate) fn make(spec: &RunSpec, stream: LogStream) -> Result<(Self, OwnedFd), Failure> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .because(|| "making a pipe")?;
        rustix::io::ioctl_fionbio(&read, true).because(|| "making a pipe")?;
        super::launch::give_to_app(&write, spec)?;
        Ok((Self { pipe: read, stream, lines: Lines::default() }, write))
    }

    /// Takes what is there.
    pub(crate) fn take(&mut self, log: &mut Log) -> Flow {
        let mut bytes = vec![0; READ_BYTES];
        match rustix::io::read(&self.pipe, &mut bytes) {
            Ok(0) => self.finish(log),
            Ok(count) => {
                let at = now_ns();
                let (attempt, stream) = (log.attempt, self.stream);
                let most = log.limits.line_bytes_max as usize;
                self.lines.feed(&bytes[..count], most, |line, partial| {
                    log.writer.line(attempt, stream, at, line, partial);
                });
                Flow::Open
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Flow::Open,
            Err(_) => self.finish(log),
        }
    }

    /// Takes what is left of a container whose processes are gone. Bounded by what a pipe holds.
    pub(crate) fn drain(mut self, log: &mut Log) {
        let most = 2 * 1024 * 1024 / READ_BYTES;
        for _ in 0..most {
            let mut wait = [rustix::event::PollFd::new(&self.pipe, rustix::event::PollFlags::IN)];
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            match rustix::event::poll(&mut wait, Some(&now)) {
                Ok(0) => break,
                _ if self.take(log) == Flow::Ended => return,
                _ => {}
            }
        }
        self.finish(log);
    }

    fn finish(&mut self, log: &mut Log) -> Flow {
        let (attempt, stream) = (log.attempt, self.stream);
        self.lines.finish(|line| log.writer.line(attempt, stream, now_ns(), line, false));
        Flow::Ended
    }
}

/// The container's log.
pub(crate) struct Log {
    writer: LogWriter,
    limits: LogLimits,
    pub(crate) attempt: u32,
}

impl Log {
    pub(crate) fn open(spec: &RunSpec) -> Result<Self, Failure> {
        let folder = spec.logs();
        let writer = LogWriter::open(&folder, spec.log)
            .because(|| format!("opening the log in {}", folder.display()))?;
        Ok(Self { writer, limits: spec.log, attempt: 0 })
    }

    /// A line of the platform's own.
    pub(crate) fn system(&mut self, text: &str) {
        self.writer.line(self.attempt, LogStream::System, now_ns(), text.as_bytes(), false);
    }

    /// Says that no line follows.
    pub(crate) fn close(self) {
        self.writer.close();
    }
}

fn now_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
