//! What the repository says about each ref of a push, before anything is changed. Blocking.

use git2::{ObjectType, Odb, Oid, Repository};

use crate::Limits;
use crate::commands::Command;
use crate::repository::{Update, target};
use crate::source::{COMMIT_BYTES_MAX, object_size};

/// Tags of tags that are followed to a commit.
const TAGS_MAX: usize = 8;

pub(super) struct Found {
    /// One for each command that was still open.
    pub(super) updates: Vec<Option<Result<Update, String>>>,
    /// A commit that arrived without its parents.
    pub(super) lacks_history: Option<Oid>,
}

pub(super) fn inspect(
    repository: &Repository,
    commands: &[Option<Command>],
    shallow: &[Oid],
    deploy_branch: Option<&str>,
    limits: &Limits,
) -> Result<Found, git2::Error> {
    let odb = repository.odb()?;
    let mut refs = repository.references()?.names().count();
    let updates = commands
        .iter()
        .map(|command| {
            let command = command.as_ref()?;
            let update = look_at(repository, &odb, command, deploy_branch);
            if matches!(&update, Ok(update) if update.old.is_none()) {
                refs += 1;
                if refs > limits.refs_max {
                    let max = limits.refs_max;
                    return Some(Err(format!(
                        "the repository has {max} refs, the limit; delete some"
                    )));
                }
            }
            Some(update)
        })
        .collect();
    let lacks_history = shallow.iter().copied().find(|id| lacks_parents(repository, &odb, *id));
    Ok(Found { updates, lacks_history })
}

fn look_at(
    repository: &Repository,
    odb: &Odb<'_>,
    command: &Command,
    deploy_branch: Option<&str>,
) -> Result<Update, String> {
    let now = target(repository, &command.name).map_err(|_| "the ref cannot be read".to_owned())?;
    if now != command.old {
        return Err("the ref has moved since; fetch first".to_owned());
    }
    let new = match (command.new, command.branch()) {
        (None, Some(branch)) if Some(branch) == deploy_branch => {
            return Err("the deploy branch cannot be deleted".to_owned());
        }
        (None, _) => None,
        // An annotated tag on a branch means its commit: `git push berth v1:main`.
        (Some(id), Some(_)) => Some(commit_of(repository, odb, id)?),
        (Some(id), None) => {
            odb.read_header(id).map_err(|_| "the object did not arrive".to_owned())?;
            Some(id)
        }
    };
    Ok(Update { name: command.name.clone(), old: command.old, new })
}

fn commit_of(repository: &Repository, odb: &Odb<'_>, mut id: Oid) -> Result<Oid, String> {
    let unreadable = || "the object did not arrive, or is damaged".to_owned();
    for _ in 0..TAGS_MAX {
        let (bytes, kind) = odb.read_header(id).map_err(|_| unreadable())?;
        if bytes > COMMIT_BYTES_MAX {
            return Err(format!("the {} has {bytes} bytes", kind.str()));
        }
        match kind {
            ObjectType::Commit => return Ok(id),
            ObjectType::Tag => {
                id = repository.find_tag(id).map_err(|_| unreadable())?.target_id();
            }
            _ => break,
        }
    }
    Err("a branch must name a commit".to_owned())
}

/// Whether a commit is here and one of its parents is not. git checks that what a full clone
/// sends is connected, so only commits that the client named as its shallow ends are asked for.
fn lacks_parents(repository: &Repository, odb: &Odb<'_>, id: Oid) -> bool {
    if !odb.exists(id) || object_size(odb, id, ObjectType::Commit, COMMIT_BYTES_MAX, b"").is_err() {
        return false;
    }
    repository
        .find_commit(id)
        .is_ok_and(|commit| commit.parent_ids().any(|parent| !odb.exists(parent)))
}
