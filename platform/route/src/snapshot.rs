//! The table on disk, so that traffic goes on when the router starts without the control process.
//! Written whole: temporary file, fsync, rename, fsync of the folder. Never read while serving.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use berth_model::RouteTable;
use serde::{Deserialize, Serialize};

const NAME: &str = "routes.json";
/// 2 since routes have middlewares: a router that does not know them must not serve without.
const VERSION: u32 = 2;
const VERSION_OLDEST: u32 = 1;
/// As large as the largest message that can carry a table.
const BYTES_MAX: u64 = crate::control::framing::FRAME_BYTES_MAX as u64 + 1024;

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    table: &'a RouteTable,
}

#[derive(Deserialize)]
struct Found {
    version: u32,
    table: RouteTable,
}

/// Makes the folder when it is missing.
pub(crate) fn prepare(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Replaces the snapshot.
pub(crate) fn save(folder: &Path, table: &RouteTable) -> io::Result<()> {
    let text = serde_json::to_vec(&Written { version: VERSION, table })?;
    let temporary = folder.join("routes.json.new");
    let mut file =
        OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(NAME))?;
    File::open(folder)?.sync_all()
}

/// The last table; `None` when there is none yet. A snapshot that cannot be read is an error, and
/// the router then waits to be told.
pub(crate) fn load(folder: &Path) -> io::Result<Option<RouteTable>> {
    let file = match File::open(folder.join(NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut text)?;
    let found: Found = serde_json::from_slice(&text)?;
    if (VERSION_OLDEST..=VERSION).contains(&found.version) {
        Ok(Some(found.table))
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the snapshot has version {}, this build reads {VERSION}", found.version),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_snapshot_reads_back_is_private_and_a_torn_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(load(folder.path()).unwrap().is_none());
        let table = RouteTable { generation: 7, routes: vec![] };
        save(folder.path(), &table).unwrap();
        assert_eq!(load(folder.path()).unwrap(), Some(table));
        let path = folder.path().join(NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, b"{\"version\":1,\"table\":{\"gen").unwrap();
        assert!(load(folder.path()).is_err());
        fs::write(&path, b"{\"version\":9,\"table\":{\"generation\":1,\"routes\":[]}}").unwrap();
        assert!(load(folder.path()).is_err());
    }
}
