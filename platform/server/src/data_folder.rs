//! The layout of a data folder: who owns which part of it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use berth_container::Ids;

/// A data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    /// The dropped ids could not get through to it.
    #[error(
        "{folder} cannot be searched by others, and the platform's ids must pass through it to {data}; \
         choose a data folder elsewhere or `chmod o+x {folder}`"
    )]
    Unreachable {
        /// The folder that is closed.
        folder: PathBuf,
        /// The data folder.
        data: PathBuf,
    },
    /// Another `berthd serve` uses it.
    #[error("another berthd serves {0}; stop it, or choose another data folder")]
    Busy(PathBuf),
    /// The file system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The id file was changed by hand.
    #[error("{0} does not hold 16 lower-case hex digits; restore it, or remove the data folder")]
    BadId(PathBuf),
}

/// Paths of one data folder.
#[derive(Debug, Clone)]
pub struct DataFolder {
    /// The folder itself.
    pub root: PathBuf,
    /// Its id: 16 hex digits.
    pub id: String,
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataFolderError {
    move |source| DataFolderError::Io { action, path: path.to_owned(), source }
}

impl DataFolder {
    /// Opens the folder as root; makes it at the first start.
    ///
    /// # Errors
    /// A parent that other ids cannot search, and what the file system refuses.
    pub fn open(root: &Path) -> Result<Self, DataFolderError> {
        fs::create_dir_all(root).map_err(io_error("make", root))?;
        let root = root.canonicalize().map_err(io_error("find", root))?;
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755))
            .map_err(io_error("set the mode of", &root))?;
        for folder in root.ancestors() {
            let found = fs::metadata(folder).map_err(io_error("look at", folder))?;
            if found.permissions().mode() & 0o001 == 0 {
                return Err(DataFolderError::Unreachable { folder: folder.to_owned(), data: root });
            }
        }
        let id = read_or_make_id(&root.join("id"))?;
        Ok(Self { root, id })
    }

    /// Finds a folder that exists already.
    ///
    /// # Errors
    /// When it was never served.
    pub fn existing(root: &Path) -> Result<Self, DataFolderError> {
        let path = root.join("id");
        let text = fs::read_to_string(&path).map_err(io_error("read", &path))?;
        let id = checked_id(text.trim(), &path)?;
        let root = root.canonicalize().map_err(io_error("find", root))?;
        Ok(Self { root, id })
    }

    /// Keeps a second `berthd serve` out for as long as the file is open.
    ///
    /// # Errors
    /// `Busy` when there is one.
    pub fn lock(&self) -> Result<fs::File, DataFolderError> {
        let path = self.root.join("serve.lock");
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("open", &path))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(_) => Err(DataFolderError::Busy(self.root.clone())),
        }
    }

    /// Makes every folder with its owner. Cheap when all is there.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn lay_out(&self, ids: &Ids) -> Result<(), DataFolderError> {
        let control = (ids.control, ids.control);
        for (name, (uid, gid), mode) in [
            ("state", control, 0o700),
            ("state/admin", control, 0o700),
            ("blobs", control, 0o700),
            ("measures", control, 0o700),
            ("git", (ids.control, ids.tool), 0o2770),
            ("aot", (ids.control, ids.wasm), 0o2750),
            ("route", (ids.route, ids.route), 0o700),
            ("logs-wasm", (ids.wasm, ids.control), 0o2750),
        ] {
            owned_folder(&self.root.join(name), uid, gid, mode)?;
        }
        owned_folder(&self.control_folder(), ids.control, ids.control, 0o711)
    }

    /// Where the sockets of workers are.
    pub fn control_folder(&self) -> PathBuf {
        self.run_folder().join("ctl")
    }

    /// What lives as long as the machine runs.
    pub fn run_folder(&self) -> PathBuf {
        Path::new("/run/berth").join(&self.id)
    }

    /// The agent's socket.
    pub fn agent_socket(&self) -> PathBuf {
        self.run_folder().join("agent.sock")
    }

    /// The administrator's token.
    pub fn admin_token(&self) -> PathBuf {
        self.root.join("admin-token")
    }

    /// The first link to the console.
    pub fn console_link(&self) -> PathBuf {
        self.root.join("console-link")
    }

    /// The hash of that link, until the platform has taken it.
    pub fn console_link_hash(&self) -> PathBuf {
        self.root.join("state/admin/link.sha256")
    }

    /// The hash of a new administrator's token, until the platform has taken it.
    pub fn admin_token_hash(&self) -> PathBuf {
        self.root.join("state/admin/token.sha256")
    }
}

fn owned_folder(path: &Path, uid: u32, gid: u32, mode: u32) -> Result<(), DataFolderError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(io_error("make", path)(error));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(path).map_err(io_error("look at", path))?;
    if !found.is_dir() {
        return Err(io_error("use", path)(io::Error::from(io::ErrorKind::NotADirectory)));
    }
    if (found.uid(), found.gid()) != (uid, gid) {
        chown(path, Some(uid), Some(gid)).map_err(io_error("give away", path))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(io_error("set the mode of", path))
}

fn checked_id(text: &str, path: &Path) -> Result<String, DataFolderError> {
    let good = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if good { Ok(text.to_owned()) } else { Err(DataFolderError::BadId(path.to_owned())) }
}

fn read_or_make_id(path: &Path) -> Result<String, DataFolderError> {
    match fs::read_to_string(path) {
        Ok(text) => return checked_id(text.trim(), path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("read", path)(error)),
    }
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| io_error("make", path)(io::Error::other(e)))?;
    let id = hex::encode(random);
    write_private(path, format!("{id}\n").as_bytes(), 0o644, None)?;
    Ok(id)
}

/// Writes a file, whole or not at all, that is `owner`'s from the moment it is there.
///
/// # Errors
/// What the file system refuses.
pub fn write_private(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    owner: Option<u32>,
) -> Result<(), DataFolderError> {
    let beside = path.with_extension("new");
    let write = || -> io::Result<()> {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(mode)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&beside)?;
        file.write_all(bytes)?;
        if owner.is_some() {
            std::os::unix::fs::fchown(&file, owner, owner)?;
        }
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(io_error("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_once_and_a_changed_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id");
        let first = read_or_make_id(&path).unwrap();
        assert_eq!(read_or_make_id(&path).unwrap(), first);
        fs::write(&path, "../../../etc").unwrap();
        assert!(matches!(read_or_make_id(&path), Err(DataFolderError::BadId(_))));
    }

    #[test]
    fn a_second_server_is_refused_by_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder { root: folder.path().to_owned(), id: "0123456789abcdef".into() };
        let held = data.lock().unwrap();
        assert!(matches!(data.lock(), Err(DataFolderError::Busy(_))));
        drop(held);
        data.lock().unwrap();
    }
}
