//! The trees on disk: which are there, which are being made, which may be trusted.
//!
//! A tree appears by rename. Its bytes reach the disk later, in the background, because waiting
//! for them would hold up every push; so a tree that was not yet written out when the machine
//! stopped is thrown away at the next start and unpacked again on need.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use berth_container::Reply;
use berth_model::Digest;

use crate::context::Context;
use crate::failure::{Because, Failure};
use crate::server::Answer;

/// Which boot of the machine made the trees.
const BOOT: &str = ".boot";
/// Folder of empty files, one per tree that is on disk.
const WRITTEN: &str = ".written";
/// How the names of trees that are being made begin.
const FRESH: &str = ".new-";

/// Trees that are being made at this moment.
#[derive(Debug, Default)]
pub(crate) struct Trees {
    busy: Mutex<HashSet<Digest>>,
    done: Condvar,
}

/// The right to make one tree.
pub(super) struct Turn<'a> {
    trees: &'a Trees,
    diff_id: Digest,
}

impl Trees {
    /// Waits until nobody else makes this tree.
    pub(super) fn turn(&self, diff_id: Digest) -> Turn<'_> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        while !busy.insert(diff_id) {
            busy = self.done.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        Turn { trees: self, diff_id }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut busy = self.trees.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.remove(&self.diff_id);
        self.trees.done.notify_all();
    }
}

/// At the agent's start: removes what a dead agent left half-made, and what may not have reached
/// the disk before the machine stopped.
pub(crate) fn sweep(context: &Context) -> Result<(), Failure> {
    let trees = context.trees();
    let written = trees.join(WRITTEN);
    fs::create_dir_all(&written).because(|| format!("making {}", written.display()))?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .because(|| "reading the id of this boot")?;
    let stopped = fs::read_to_string(trees.join(BOOT)).is_ok_and(|known| known != boot);
    for name in names(&trees)? {
        let lost = stopped && is_tree(&name) && !written.join(&name).exists();
        if name.starts_with(FRESH) || lost {
            remove(&trees.join(&name))?;
        }
    }
    for name in names(&written)? {
        if !trees.join(&name).exists() {
            let _ = fs::remove_file(written.join(name));
        }
    }
    fs::write(trees.join(BOOT), boot).because(|| "writing down this boot")
}

/// `LayerList`.
pub(crate) fn list(context: &Context) -> Answer {
    let diff_ids = names(&context.trees())?.iter().filter_map(|name| digest(name)).collect();
    Ok((Reply::Layers { diff_ids }, Vec::new()))
}

impl Trees {
    /// Removes every tree that is not in `live`. Whoever wants one unpacked meanwhile waits.
    pub(crate) fn collect(
        &self,
        context: &Context,
        live: &BTreeSet<Digest>,
    ) -> Result<(), Failure> {
        let trees = context.trees();
        for name in names(&trees)? {
            let Some(diff_id) = digest(&name).filter(|diff_id| !live.contains(diff_id)) else {
                continue;
            };
            let _turn = self.turn(diff_id);
            let _ = fs::remove_file(trees.join(WRITTEN).join(&name));
            // Out of the way at once: a half-removed tree must not be taken for a whole one.
            let gone = trees.join(format!("{FRESH}gone-{name}"));
            fs::rename(trees.join(&name), &gone).because(|| format!("removing layer {diff_id}"))?;
            remove(&gone)?;
        }
        Ok(())
    }
}

/// Where a tree is made.
pub(super) fn fresh(context: &Context, diff_id: &Digest) -> std::path::PathBuf {
    context.trees().join(format!("{FRESH}{}", diff_id.hex()))
}

/// Makes a whole tree appear.
pub(super) fn publish(context: &Arc<Context>, diff_id: &Digest) -> Result<(), Failure> {
    let place = context.tree(diff_id);
    fs::rename(fresh(context, diff_id), &place).because(|| format!("naming layer {diff_id}"))?;
    let mark = context.trees().join(WRITTEN).join(diff_id.hex());
    let context = Arc::clone(context);
    let written = std::thread::Builder::new().name("write out".into()).spawn(move || {
        let out = File::open(&place)
            .and_then(|folder| rustix::fs::syncfs(&folder).map_err(Into::into))
            .and_then(|()| File::create(&mark));
        if let Err(error) = out
            && place.exists()
        {
            context.log.line(format_args!("writing out {}: {error}", place.display()));
        }
    });
    written.because(|| "starting a thread").map(drop)
}

pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).because(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn names(folder: &Path) -> Result<Vec<String>, Failure> {
    let entries = fs::read_dir(folder).because(|| format!("listing {}", folder.display()))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

fn is_tree(name: &str) -> bool {
    digest(name).is_some()
}

fn digest(name: &str) -> Option<Digest> {
    format!("sha256:{name}").parse().ok()
}
