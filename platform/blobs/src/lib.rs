//! Bytes by digest, and trees as bytes.
//!
//! [`BlobStore`] keeps files named by their SHA-256 in a folder: written once, never changed,
//! collected when neither a live set nor a lease names them. [`tar`] writes a tree as the same
//! bytes wherever, whenever and in whatever order it was read, and reads foreign archives within
//! limits. Everything here is synchronous; async callers use a blocking thread.
//! [`extract`] puts an archive into a directory and cannot be led out of it.
//! Nothing here interprets what a blob means.

#[cfg(feature = "extract")]
pub mod extract;
#[cfg(feature = "store")]
mod hashing;
#[cfg(feature = "store")]
mod store;
pub mod tar;

#[cfg(feature = "store")]
pub use hashing::Hashing;
#[cfg(feature = "store")]
pub use store::{BlobError, BlobStore, BlobWriter, Lease, Swept};
