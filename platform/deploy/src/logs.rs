//! Lines of a container's output, as a push or an error shows them.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Duration;

use berth_container::Request;
use berth_container::logfile::{LogReader, Reading};
use berth_model::InstanceId;
use berth_model::log::LogStream;
use berth_model::text::printable;

use crate::drivers::Embedded;
use crate::error::DeployError;

/// Bytes of a line that are shown.
const LINE_BYTES_MAX: usize = 500;
/// How often a growing log is looked at.
const PAUSE: Duration = Duration::from_millis(25);

async fn files(embedded: &Embedded, instance: InstanceId) -> Result<Vec<OwnedFd>, DeployError> {
    let what = format!("read the log of {instance}");
    let (_, files) = embedded.call(&what, &Request::Logs { instance }, &[]).await?;
    Ok(files)
}

/// The last lines that the container's processes wrote.
pub(crate) async fn tail(
    embedded: &Embedded,
    instance: InstanceId,
    lines_max: usize,
) -> Result<Vec<String>, DeployError> {
    let files = files(embedded, instance).await?;
    let read = tokio::task::spawn_blocking(move || {
        let mut reader = LogReader::new(files, 0);
        let mut last = VecDeque::with_capacity(lines_max);
        while let Reading::Lines(lines) = reader.next()? {
            for line in lines.into_iter().filter(|line| line.stream != LogStream::System) {
                if last.len() == lines_max {
                    last.pop_front();
                }
                last.push_back(printable(&line.line, LINE_BYTES_MAX));
            }
        }
        Ok(last.into())
    });
    read.await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(DeployError::descriptor("read a log"))
}

/// Gives every line that the container's processes write to `tell`, until the container ended and
/// all was read.
pub(crate) async fn follow(
    embedded: &Embedded,
    instance: InstanceId,
    mut tell: impl FnMut(String),
) -> Result<(), DeployError> {
    let mut reader = LogReader::new(files(embedded, instance).await?, 0);
    loop {
        match reader.next().map_err(DeployError::descriptor("read a log"))? {
            Reading::Lines(lines) => {
                for line in lines.iter().filter(|line| line.stream != LogStream::System) {
                    tell(printable(&line.line, LINE_BYTES_MAX));
                }
            }
            Reading::Waiting => tokio::time::sleep(PAUSE).await,
            Reading::Rotated => {
                let after = reader.after();
                reader = LogReader::new(files(embedded, instance).await?, after);
            }
            Reading::Closed => return Ok(()),
        }
    }
}
