//! Log drains: where an app's lines go besides the platform's own log, and in what form.
//!
//! Takes the address that a person gave and lines; gives the bytes that a sink sends. What is held
//! of an address is valid, and is shown without what may be a credential. Nothing here connects.

mod address;
mod format;
mod gelf;
mod url;

pub use address::is_private;
pub use format::{Entry, Format, FrameError, framed, json_line, rfc5424};
pub use gelf::{gelf, gelf_datagrams};
pub use url::{SinkKind, SinkUrl, SinkUrlError};

/// Most drains of a platform.
pub const DRAINS_MAX: u32 = 64;
/// Most processors of a drain.
pub const PROCESSORS_MAX: usize = 8;
/// Most bytes of a frame that a processor gives.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of a datagram: what IPv4 carries.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;
