//! The host key: made once, then read.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Algorithm, PrivateKey};

use crate::PushError;

pub(super) fn read_or_make(path: &Path) -> Result<PrivateKey, PushError> {
    let wrong = |why: String| PushError::HostKey { path: path.to_owned(), why };
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return make(path),
        Err(e) => return Err(PushError::io("look at", path)(e)),
        Ok(metadata) if !metadata.is_file() => return Err(wrong("it is not a file".into())),
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            return Err(wrong("others may read it: chmod 600".into()));
        }
        Ok(_) => {}
    }
    let text = fs::read_to_string(path).map_err(PushError::io("read", path))?;
    let key = PrivateKey::from_openssh(text).map_err(|e| wrong(e.to_string()))?;
    match key.algorithm() {
        Algorithm::Ed25519 if !key.is_encrypted() => Ok(key),
        _ => Err(wrong("it must be an ed25519 key without a passphrase".into())),
    }
}

/// Writes beside the place and links, so that a second process never finds half a key and never
/// replaces one.
fn make(path: &Path) -> Result<PrivateKey, PushError> {
    let failed = |action| PushError::io(action, path);
    let wrong = |why: String| PushError::HostKey { path: path.to_owned(), why };
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| wrong(format!("no random bytes: {e}")))?;
    let pair = KeypairData::from(Ed25519Keypair::from_seed(&seed));
    let key = PrivateKey::new(pair, "berth").map_err(|e| wrong(e.to_string()))?;
    let text = key.to_openssh(LineEnding::LF).map_err(|e| wrong(e.to_string()))?;
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::hard_link(&beside, path));
    // The link is the key; its second name has served.
    let removed = fs::remove_file(&beside);
    match written {
        Ok(()) => removed.map(|()| key).map_err(failed("clean up beside")),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => read_or_make(path),
        Err(e) => Err(failed("write")(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ssh_host_key");
        let made = read_or_make(&path).unwrap();
        let read = read_or_make(&path).unwrap();
        assert_eq!(made.public_key(), read.public_key());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_others_read_or_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ssh_host_key");
        read_or_make(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read_or_make(&path), Err(PushError::HostKey { .. })));
        fs::write(&path, "nonsense").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(read_or_make(&path), Err(PushError::HostKey { .. })));
    }
}
