//! The bare repositories of apps: one folder per app id, never per name.
//!
//! Objects are written by git as the tool id, everything else by this process: refs, `HEAD` and
//! `config` are readable for the tool's group and not writable, and the sticky bit on the folder
//! keeps it from replacing them. What git finds in `config` makes pushes behave; what must hold
//! against a hostile tool is checked here again.

mod layout;
mod refs;
mod sweep;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use berth_model::AppId;

use crate::PushError;
pub(crate) use refs::{RefError, Update, point_head, target};

/// The folder of all repositories. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repositories {
    folder: PathBuf,
}

impl Repositories {
    /// Uses the repositories in `folder`, made if it is missing. Its group is inherited by what
    /// is made in it: the tool's, and this process must be in it too.
    ///
    /// # Errors
    /// `Io` when the folder cannot be made, `Library` when libgit2 refuses its options.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, PushError> {
        set_up_library()?;
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(PushError::io("create", &folder))?;
        Ok(Self { folder })
    }

    /// The repository of an app, made if it is missing.
    ///
    /// # Errors
    /// `Io`, `Git`.
    pub fn ensure(&self, app: AppId) -> Result<PathBuf, PushError> {
        let path = self.path(app);
        if !path.join("config").exists() {
            layout::create(&path, app)?;
        }
        Ok(path)
    }

    /// Removes the repository of an app that was destroyed. What git wrote as the tool id can
    /// only go while no tool runs on it.
    ///
    /// # Errors
    /// `Io`.
    pub fn remove(&self, app: AppId) -> Result<(), PushError> {
        let path = self.path(app);
        match fs::remove_dir_all(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(PushError::io("remove", path)(e))
            }
            _ => Ok(()),
        }
    }

    /// Removes what a killed `git receive-pack` or a killed berthd left: incoming objects,
    /// temporary packs, lock files of refs, half-made repositories. Call it at start, before
    /// anything is pushed, and while privileges allow to remove files of the tool id; what cannot
    /// be removed is logged and left to git's own clean-up. Gives how many entries it removed.
    ///
    /// # Errors
    /// `Io` when the folder cannot be listed.
    pub fn sweep(&self) -> Result<usize, PushError> {
        sweep::sweep(&self.folder)
    }

    /// The commit that a ref names, in 40 hex digits.
    ///
    /// # Errors
    /// `Git`, also when there is no repository.
    pub fn commit_of(&self, app: AppId, ref_name: &str) -> Result<Option<String>, PushError> {
        let repository = self.git(app)?;
        let target = refs::target(&repository, ref_name).map_err(|source| PushError::Git {
            action: "read a ref",
            app,
            source,
        })?;
        Ok(target.map(|oid| oid.to_string()))
    }

    /// Points a branch at a commit that is deployed, whatever it named before: for a start after
    /// the process died between the switch of a deploy and the move of its ref. That no later commit
    /// is deployed is for the caller to know.
    ///
    /// # Errors
    /// `Git`, also when the commit is not there.
    pub fn settle(&self, app: AppId, ref_name: &str, commit: &str) -> Result<(), PushError> {
        let failed = |source| PushError::Git { action: "move a ref", app, source };
        let repository = self.git(app)?;
        let new = git2::Oid::from_str(commit).map_err(failed)?;
        repository.find_commit(new).map_err(failed)?;
        repository.reference(ref_name, new, true, "").map_err(failed)?;
        refs::share(repository.path(), ref_name).map_err(PushError::io("share", self.path(app)))
    }

    /// Removes the marks by which git keeps a pack from its own clean-up while it arrives. A killed
    /// push leaves its mark, and git then refuses to receive the same pack again. Only while no
    /// push of the app is received.
    pub(crate) fn release_packs(&self, app: AppId) -> Result<(), PushError> {
        let packs = self.path(app).join("objects/pack");
        for entry in fs::read_dir(&packs).map_err(PushError::io("list", &packs))?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "keep") {
                fs::remove_file(&path).map_err(PushError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Bytes of an app's packs.
    pub(crate) fn bytes(&self, app: AppId) -> u64 {
        let Ok(packs) = fs::read_dir(self.path(app).join("objects/pack")) else { return 0 };
        packs.flatten().filter_map(|entry| entry.metadata().ok()).map(|m| m.len()).sum()
    }

    /// Opens a repository without looking at any configuration but its own.
    pub(crate) fn git(&self, app: AppId) -> Result<git2::Repository, PushError> {
        use git2::RepositoryOpenFlags as Flags;
        let flags = Flags::BARE | Flags::NO_SEARCH | Flags::NO_DOTGIT;
        git2::Repository::open_ext(self.path(app), flags, &[] as &[&Path])
            .map_err(|source| PushError::Git { action: "open the repository", app, source })
    }

    fn path(&self, app: AppId) -> PathBuf {
        self.folder.join(format!("{app}.git"))
    }
}

/// Options of libgit2 hold for the whole process.
fn set_up_library() -> Result<(), PushError> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    DONE.get_or_init(|| set_options().map_err(|e| e.message().to_owned()))
        .clone()
        .map_err(|message| PushError::Library(git2::Error::from_str(&message)))
}

#[expect(
    unsafe_code,
    reason = "libgit2's options are not synchronised; they are set once, before its first use"
)]
fn set_options() -> Result<(), git2::Error> {
    use git2::ConfigLevel::{Global, ProgramData, System, XDG};
    // SAFETY: called once, under the `OnceLock` above, and no `Repositories` exists before.
    unsafe {
        // Objects belong to the tool id; the folder is ours and nobody else's.
        git2::opts::set_verify_owner_validation(false)?;
        git2::opts::set_cache_max_size(16 << 20)?;
        for level in [System, Global, XDG, ProgramData] {
            git2::opts::set_search_path(level, "")?;
        }
    }
    Ok(())
}
