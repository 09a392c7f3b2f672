//! The bounds of this room. There is no unlimited value.

use std::time::Duration;

/// What a push may contain and use. The defaults are the ones that the documentation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files and symbolic links in a tree, submodules included; directories have the same bound.
    pub files_max: usize,
    /// Bytes of one file.
    pub file_bytes_max: u64,
    /// Bytes of all files of a tree.
    pub tree_bytes_max: u64,
    /// Parts of a path.
    pub depth_max: usize,
    /// Bytes of all paths of a tree.
    pub path_bytes_max: usize,
    /// Bytes of one request's pack, as sent and as unpacked from gzip, MiB.
    pub pack_mib_max: u32,
    /// Bytes of the packs that a repository may hold before a push is refused.
    pub repository_bytes_max: u64,
    /// Refs that one push may update.
    pub updates_max: usize,
    /// Refs in a repository.
    pub refs_max: usize,
    /// Pushes at once, all apps together. A push counts until its deploy has switched.
    pub receives_max: usize,
    /// Fetches at once.
    pub uploads_max: usize,
    /// The client sends or takes nothing for this long while git waits for it.
    pub idle_max: Duration,
    /// Sending one pack, or one whole fetch.
    pub transfer_max: Duration,
    /// Open SSH connections.
    pub connections_max: usize,
    /// Open SSH connections that have not logged in.
    pub strangers_max: usize,
    /// From the connection to the login.
    pub login_max: Duration,
    /// An SSH client that says nothing is asked for a sign of life this often; after four without
    /// an answer it is gone.
    pub keepalive: Duration,
    /// Keys that a client may try on one connection.
    pub login_tries_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            files_max: 100_000,
            file_bytes_max: 512 << 20,
            tree_bytes_max: 2 << 30,
            depth_max: 64,
            path_bytes_max: 32 << 20,
            pack_mib_max: 2048,
            repository_bytes_max: 8 << 30,
            updates_max: 32,
            refs_max: 10_000,
            receives_max: 16,
            uploads_max: 16,
            idle_max: Duration::from_secs(300),
            transfer_max: Duration::from_secs(3600),
            connections_max: 256,
            strangers_max: 32,
            login_max: Duration::from_secs(10),
            keepalive: Duration::from_secs(15),
            login_tries_max: 3,
        }
    }
}
