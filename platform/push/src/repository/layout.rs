//! How a repository is made: beside its place, then renamed, so that it is there whole or not.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use berth_model::AppId;

use crate::PushError;

/// What git and libgit2 find in `config`.
const SETTINGS: &[(&str, &str)] = &[
    ("core.sharedRepository", "group"),
    // Every ref is decided by the hook: branches, tags, and those that are refused.
    ("receive.procReceiveRefs", "refs"),
    // A shallow push reaches the hook, which says what to do; git alone would not.
    ("receive.shallowUpdate", "true"),
    ("receive.unpackLimit", "1"),
    ("receive.keepAlive", "5"),
    ("receive.fsckObjects", "true"),
    // Names are checked when a tree is archived, where the path can be named.
    ("receive.fsck.hasDot", "ignore"),
    ("receive.fsck.hasDotdot", "ignore"),
    ("receive.fsck.hasDotgit", "ignore"),
    ("receive.fsck.emptyName", "ignore"),
    ("receive.fsck.fullPathname", "ignore"),
    // Faults of old tools in the history of many projects, without harm.
    ("receive.fsck.zeroPaddedFilemode", "ignore"),
    ("receive.fsck.badTimezone", "ignore"),
    ("receive.fsck.missingSpaceBeforeDate", "ignore"),
    ("receive.fsck.missingSpaceBeforeEmail", "ignore"),
    ("receive.fsck.missingNameBeforeEmail", "ignore"),
    // Where whoever runs git lets it clean up after a push: in the foreground, in little memory,
    // and without touching the refs, which it may not write.
    ("receive.autogc", "true"),
    ("gc.autoDetach", "false"),
    ("gc.packRefs", "false"),
    ("gc.autoPackLimit", "50"),
    ("core.bigFileThreshold", "16m"),
    ("pack.threads", "1"),
    ("pack.windowMemory", "64m"),
    ("pack.deltaCacheSize", "16m"),
    ("repack.writeBitmaps", "false"),
];

pub(super) fn create(path: &Path, app: AppId) -> Result<(), PushError> {
    let git = |source| PushError::Git { action: "create the repository", app, source };
    let half_made = path.with_extension("new");
    match fs::remove_dir_all(&half_made) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(PushError::io("remove", half_made)(e));
        }
        _ => {}
    }
    let mut options = git2::RepositoryInitOptions::new();
    options.bare(true).external_template(false).no_reinit(true).initial_head("main");
    git2::Repository::init_opts(&half_made, &options).map_err(git)?;
    let mut config = git2::Config::open(&half_made.join("config")).map_err(git)?;
    for (name, value) in SETTINGS {
        config.set_str(name, value).map_err(git)?;
    }
    share(&half_made).map_err(PushError::io("set permissions in", &half_made))?;
    fs::rename(&half_made, path).map_err(PushError::io("rename a folder to", path))
}

/// Lets the tool's group read everything, and add objects and temporary files; what this process
/// made cannot be replaced by it (sticky).
fn share(repository: &Path) -> io::Result<()> {
    share_below(repository, 0o2750)?;
    for folder in ["objects", "objects/info", "objects/pack"] {
        fs::create_dir_all(repository.join(folder))?;
        set_mode(&repository.join(folder), 0o3770)?;
    }
    set_mode(repository, 0o3770)
}

fn share_below(folder: &Path, mode: u32) -> io::Result<()> {
    set_mode(folder, mode)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            share_below(&entry.path(), mode)?;
        } else {
            set_mode(&entry.path(), 0o640)?;
        }
    }
    Ok(())
}

pub(super) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}
