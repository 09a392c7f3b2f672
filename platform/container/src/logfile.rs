//! Log files of one container: lines in, bounded files on disk, lines out.
//!
//! A folder holds `log` and, older, `log.1`, `log.2`. Each line of a file is one [`LogLine`] as
//! JSON; the last line of a file that will not grow is an end mark, so that a reader knows
//! whether to ask for the next file. The writer never blocks for space: on a full disk it drops
//! lines, counts them and says so when there is room again. Whoever writes is trusted with the
//! folder; what is written never decides a path.

mod lines;
mod reader;
mod writer;

use berth_model::log::LogStream;
use serde::{Deserialize, Serialize};

pub use lines::Lines;
pub use reader::{LogReader, Reading};
pub use writer::LogWriter;

/// Bounds of one container's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// A file is put aside beyond this.
    pub file_bytes_max: u64,
    /// Files that are kept, the growing one included; at least 1, at most
    /// [`crate::DESCRIPTORS_MAX`].
    pub files_max: u32,
    /// A longer line is cut into partial ones.
    pub line_bytes_max: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { file_bytes_max: 10 * 1024 * 1024, files_max: 3, line_bytes_max: 8 * 1024 }
    }
}

/// One line as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Position within the container, from 1 and without gaps; dropped lines have none.
    pub seq: u64,
    /// Unix nanoseconds.
    pub at_ns: i64,
    /// Which start of the container's process.
    pub attempt: u32,
    /// Where it came from.
    pub stream: LogStream,
    /// The text without its line end; invalid UTF-8 is replaced.
    pub line: String,
    /// Cut at the limit; the next record of the stream goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// Why a file does not grow any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The lines go on in the next file.
    Rotated,
    /// The container ended.
    Closed,
}

#[derive(Serialize, Deserialize)]
struct EndMark {
    end: End,
}

fn file_name(age: u32) -> String {
    if age == 0 { "log".into() } else { format!("log.{age}") }
}

/// Paths of a folder's log files, oldest first; those that are there.
pub fn files(folder: &std::path::Path, limits: LogLimits) -> Vec<std::path::PathBuf> {
    let names = (0..limits.files_max).rev().map(|age| folder.join(file_name(age)));
    names.filter(|path| path.exists()).collect()
}
