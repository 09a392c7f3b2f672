//! Log drains: where an app's lines go besides the platform's own log, and in what form.
//!
//! Takes the address that a person gave and lines; gives the bytes that a sink sends. What is held
//! of an address is valid, and is shown without what may be a credential. Nothing here connects.

mod format;
mod gelf;
mod url;

pub use format::{Entry, Format, FrameError, framed, json_line, rfc5424};
pub use gelf::{gelf, gelf_datagrams};
pub use url::{SinkKind, SinkUrl, SinkUrlError};

use serde::{Deserialize, Serialize};

/// Which addresses a drain may connect to. Kept as it was when the drain was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// None of a private network, nor of this machine.
    Public,
    /// Those of private networks too; not this machine, its instances, and metadata services.
    Private,
    /// Every one: who runs the platform reaches them anyway.
    Any,
}

/// Most drains of a platform.
pub const DRAINS_MAX: u32 = 64;
/// Most processors of a drain.
pub const PROCESSORS_MAX: usize = 8;
/// Most bytes of a frame that a processor gives.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of a datagram: what IPv4 carries.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;
