//! A commit's tree as a [`Source`]: walked within bounds, checked, archived into the blob store.
//!
//! Sizes are read from object headers before contents, so that a pack bomb is refused while it is
//! small. The archive depends on the tree alone: the same tree gives the same digest anywhere.

mod archive;
mod content;
mod lfs;
mod links;
mod names;
mod packed;
mod walk;

use berth_blobs::BlobStore;
use berth_model::{AppId, Source};
use git2::{ObjectType, Oid, Repository};
use tokio_util::sync::CancellationToken;

use crate::Limits;
pub(crate) use walk::object_size;

/// Bytes of a commit or tag object; git's own are a few hundred.
pub(crate) const COMMIT_BYTES_MAX: usize = 4 << 20;

/// Why a tree cannot become a source. The text is for whoever pushed it; paths are escaped.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Too much of something.
    #[error("{what}: the limit here is {max}")]
    Limit {
        /// What there is too much of, and where.
        what: String,
        /// The limit, with its unit.
        max: String,
    },
    /// A name that must never reach a file system.
    #[error("the path '{path}' is refused: {why}. Rename it, commit, and push again.")]
    Name {
        /// The path, escaped.
        path: String,
        /// The rule.
        why: &'static str,
    },
    /// A symbolic link that leads out of the tree.
    #[error(
        "the symbolic link '{path}' points to '{target}', which is outside of the repository. \
         Make it relative to a file in the repository, or remove it."
    )]
    LinkOut {
        /// The link.
        path: String,
        /// Its target, escaped.
        target: String,
    },
    /// Files that Git LFS left elsewhere.
    #[error(
        "{count} file(s) are Git LFS pointers, not the files themselves: {paths}. Berth has no \
         LFS store: run 'git lfs migrate export --include=\"*\" --everything', or fetch these \
         files during the build."
    )]
    LfsPointers {
        /// How many.
        count: usize,
        /// The first of them.
        paths: String,
    },
    /// A submodule whose commit is elsewhere.
    #[error(
        "the submodule '{path}' is at commit {commit}, which is not in this repository, and Berth \
         fetches no others. Push it here too (git -C {path} push <this repository's URL> \
         HEAD:refs/heads/submodule), or commit its files instead (git rm --cached {path}, remove \
         {path}/.git, git add {path})."
    )]
    Submodule {
        /// Where it is mounted.
        path: String,
        /// The commit, shortened.
        commit: String,
    },
    /// An entry that is neither file, link, directory nor submodule.
    #[error("'{path}' has the unknown mode {mode:o}; commit it again with a current git")]
    Mode {
        /// The entry.
        path: String,
        /// Its mode.
        mode: i32,
    },
    /// An object is missing or damaged.
    #[error("the object of '{path}' cannot be read: {why}")]
    Object {
        /// Whose object.
        path: String,
        /// What libgit2 says.
        why: String,
    },
    /// Whoever pushed went away.
    #[error("the push was cancelled")]
    Cancelled,
    /// The archive could not be written.
    #[error("the tree cannot be stored")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl SourceError {
    /// A short line for git to print beside the ref.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Limit { .. } => "the tree is over a limit",
            Self::Name { .. } => "a path in the tree is refused",
            Self::LinkOut { .. } => "a symbolic link leads out of the tree",
            Self::LfsPointers { .. } => "the tree has Git LFS pointers",
            Self::Submodule { .. } => "a submodule is not in the repository",
            Self::Mode { .. } | Self::Object { .. } => "the tree cannot be read",
            Self::Cancelled => "cancelled",
            Self::Store(_) => "the tree cannot be stored",
        }
    }

    fn object(path: &[u8], error: &git2::Error) -> Self {
        Self::Object { path: names::shown(path), why: error.message().to_owned() }
    }
}

/// Archives the tree of `commit`. Blocking.
///
/// # Errors
/// Every [`SourceError`]; nothing is left in the blob store then.
pub(crate) fn take(
    repository: &Repository,
    app: AppId,
    commit: Oid,
    blobs: &BlobStore,
    limits: &Limits,
    cancel: &CancellationToken,
) -> Result<Source, SourceError> {
    let unreadable = |e: git2::Error| SourceError::object(commit.to_string().as_bytes(), &e);
    let odb = repository.odb().map_err(unreadable)?;
    let shown = format!("commit {commit}");
    object_size(&odb, commit, ObjectType::Commit, COMMIT_BYTES_MAX, shown.as_bytes())?;
    let found = repository.find_commit(commit).map_err(unreadable)?;
    let entries = walk::walk(repository, &odb, found.tree_id(), limits, cancel)?;
    links::check(&entries)?;
    let archive = archive::write(&odb, repository.path(), &entries, blobs, limits, cancel)?;
    Ok(Source {
        app,
        commit: commit.to_string(),
        tree: found.tree_id().to_string(),
        // Before 1970, or after the year 9999, is a broken clock: builds take an unsigned number.
        committed_at_s: found.committer().when().seconds().clamp(0, 253_402_300_799),
        archive,
    })
}
