//! The encryption key: outside the data folder, so that a copy of the folder opens nothing.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::data_folder::write_private;

/// The key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("cannot {action} the encryption key {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is open to others.
    #[error("the encryption key {0} may be read by others; make it 0600 and owned by root")]
    Open(PathBuf),
    /// The file holds something else.
    #[error("the encryption key {0} does not hold 64 hex digits")]
    Form(PathBuf),
}

/// Thirty-two secret bytes. Never shown.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// The bytes.
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// A key for one purpose, so that no two uses share one.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        use sha2::{Digest as _, Sha256};
        // Both inputs have a fixed place, and the key is uniform: a plain hash suffices.
        let mut hash = Sha256::new();
        hash.update(b"berth key derivation 1\0");
        hash.update(self.0);
        hash.update(purpose.as_bytes());
        hash.finalize().into()
    }

    /// Reads the key; makes it where the path is the default and nothing is there.
    ///
    /// # Errors
    /// A file that others can read, that has another form, or that cannot be read.
    pub fn read_or_make(given: Option<&Path>, data_id: &str) -> Result<Self, KeyError> {
        let default = Path::new("/etc/berth/keys").join(data_id);
        let path = given.unwrap_or(&default);
        match Self::read(path) {
            Err(KeyError::Io { source, .. })
                if given.is_none() && source.kind() == io::ErrorKind::NotFound =>
            {
                Self::make(path)?;
                Self::read(path)
            }
            other => other,
        }
    }

    fn read(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::Io { action: "read", path: path.to_owned(), source };
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if found.mode() & 0o077 != 0 {
            return Err(KeyError::Open(path.to_owned()));
        }
        let text = io::read_to_string(io::Read::take(file, 200)).map_err(failed)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes)
            .map_err(|_| KeyError::Form(path.to_owned()))?;
        Ok(Self(bytes))
    }

    fn make(path: &Path) -> Result<(), KeyError> {
        let failed = |source| KeyError::Io { action: "make", path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            use std::os::unix::fs::DirBuilderExt;
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        }
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|e| failed(io::Error::other(e)))?;
        write_private(path, format!("{}\n", hex::encode(bytes)).as_bytes(), 0o600, None)
            .map_err(|e| failed(io::Error::other(e)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        Key::make(&path).unwrap();
        Key::read(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Key::read(&path), Err(KeyError::Open(_))));
    }

    #[test]
    fn a_key_never_shows_itself_and_each_purpose_has_its_own() {
        let key = Key([7; 32]);
        assert_eq!(format!("{key:?}"), "Key(…)");
        assert_ne!(key.derive("aot"), key.derive("store"));
    }
}
