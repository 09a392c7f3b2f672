//! Refs: what they name, and moving one only from where it was.

use std::io;
use std::path::Path;

use git2::{ErrorCode, Oid, Repository};

use super::layout::set_mode;

/// A change of one ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Update {
    /// `refs/heads/…` or `refs/tags/…`.
    pub(crate) name: String,
    /// What it must name now; `None` when it must not exist.
    pub(crate) old: Option<Oid>,
    /// What it is to name; `None` removes it.
    pub(crate) new: Option<Oid>,
}

/// Why a ref was not moved. Each is one short line, for git to print beside the ref.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefError {
    #[error("the ref has moved since; fetch first")]
    Moved,
    #[error("a ref of that name, or below it, is in the way")]
    InTheWay,
    #[error("the ref cannot be written")]
    Git(#[source] git2::Error),
    #[error("the ref cannot be shared with git")]
    Io(#[from] io::Error),
}

/// What a ref names, as it is: a tag object is not followed.
pub(crate) fn target(repository: &Repository, name: &str) -> Result<Option<Oid>, git2::Error> {
    match repository.find_reference(name) {
        Ok(reference) => Ok(reference.target()),
        Err(e) if e.code() == ErrorCode::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

impl Update {
    /// Carries it out, if the ref names what it should. Done already is fine.
    pub(crate) fn apply(&self, repository: &Repository) -> Result<(), RefError> {
        if self.new.is_some() && target(repository, &self.name).map_err(RefError::Git)? == self.new
        {
            return Ok(share(repository.path(), &self.name)?);
        }
        let moved = match (self.old, self.new) {
            (Some(old), Some(new)) => {
                repository.reference_matching(&self.name, new, true, old, "").map(drop)
            }
            (None, Some(new)) => repository.reference(&self.name, new, false, "").map(drop),
            (Some(old), None) => return self.remove(repository, old),
            (None, None) => return Ok(()),
        };
        moved.map_err(|e| match e.code() {
            ErrorCode::Modified => RefError::Moved,
            ErrorCode::Exists if self.old.is_none() => match target(repository, &self.name) {
                Ok(Some(_)) => RefError::Moved,
                _ => RefError::InTheWay,
            },
            ErrorCode::Exists | ErrorCode::Directory => RefError::InTheWay,
            _ => RefError::Git(e),
        })?;
        share(repository.path(), &self.name)?;
        Ok(())
    }

    fn remove(&self, repository: &Repository, old: Oid) -> Result<(), RefError> {
        let mut reference = match repository.find_reference(&self.name) {
            Ok(reference) => reference,
            Err(e) if e.code() == ErrorCode::NotFound => return Err(RefError::Moved),
            Err(e) => return Err(RefError::Git(e)),
        };
        if reference.target() != Some(old) {
            return Err(RefError::Moved);
        }
        reference.delete().map_err(RefError::Git)
    }
}

/// Makes a loose ref and the folders above it readable for the tool's group, whatever the umask
/// of this process is.
pub(super) fn share(repository: &Path, name: &str) -> io::Result<()> {
    let readable = |path: &Path, mode| match set_mode(path, mode) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    readable(&repository.join(name), 0o640)?;
    let folders = Path::new(name).ancestors().skip(1).take_while(|f| f.starts_with("refs"));
    for folder in folders {
        readable(&repository.join(folder), 0o2750)?;
    }
    Ok(())
}

/// Lets `HEAD` name a branch, which need not exist yet.
pub(crate) fn point_head(repository: &Repository, name: &str) -> Result<(), git2::Error> {
    let now = repository.find_reference("HEAD")?;
    if now.symbolic_target_bytes() == Some(name.as_bytes()) {
        return Ok(());
    }
    repository.set_head(name)?;
    share(repository.path(), "HEAD").map_err(|e| git2::Error::from_str(&e.to_string()))
}
