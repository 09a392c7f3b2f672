//! `LayerUnpack`: a tar becomes the tree of its DiffID.
//!
//! The agent reads the bytes, hashes them and passes them to a child that sees nothing but the
//! empty tree. The child is in a user namespace of the block kept for stacks, and the tree is
//! mounted for it with shifted ids: what it makes as user 0 to 65535 of its namespace is stored as
//! 0 to 65535, while on the host it is nobody that matters.

use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_blobs::Hashing;
use berth_blobs::extract::{ExtractError, Owners, extract};
use berth_blobs::tar::{Caps, TarError};
use berth_container::{FailureCode, Reply};
use berth_model::Digest;
use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};

use super::{LIMITS, store};
use crate::confined::{self, Attributes, Job, Kept, Limits};
use crate::connection::Connection;
use crate::context::{Context, IdBlock};
use crate::failure::{Because, Failure};
use crate::runner::root::user_namespace;
use crate::server::Answer;

/// For the largest stack on a slow disk.
const TIME_MAX: Duration = Duration::from_secs(15 * 60);
const PIECE_BYTES: usize = 256 * 1024;

/// What the child is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UnpackJob {
    /// The empty tree.
    tree: PathBuf,
    ids: IdBlock,
}

/// The verb.
pub(crate) fn unpack(
    context: &Arc<Context>,
    connection: &Connection,
    diff_id: Digest,
    descriptors: Vec<OwnedFd>,
) -> Answer {
    let [archive] = <[OwnedFd; 1]>::try_from(descriptors)
        .map_err(|_| Failure::refused("a layer comes as one descriptor: its tar"))?;
    let done = Ok((Reply::Done {}, Vec::new()));
    let _turn = context.trees.turn(diff_id);
    if context.tree(&diff_id).is_dir() {
        return done;
    }
    let tree = store::fresh(context, &diff_id);
    store::remove(&tree)?;
    let unpacked = into(context, connection, diff_id, archive, &tree);
    match unpacked.and_then(|()| store::publish(context, &diff_id)) {
        Ok(()) => done,
        Err(failure) => {
            store::remove(&tree)?;
            Err(failure)
        }
    }
}

fn into(
    context: &Context,
    connection: &Connection,
    diff_id: Digest,
    archive: OwnedFd,
    tree: &std::path::Path,
) -> Result<(), Failure> {
    DirBuilder::new()
        .mode(0o755)
        .create(tree)
        // Whatever the umask is.
        .and_then(|()| fs::set_permissions(tree, fs::Permissions::from_mode(0o755)))
        .because(|| format!("making {}", tree.display()))?;
    let (theirs, ours) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).because(|| "making a pipe")?;
    let job = Job::Unpack(UnpackJob { tree: tree.into(), ids: context.stack_block() });
    let what = format!("unpacking layer {diff_id}");
    let child = confined::start(context, LIMITS, job, std::slice::from_ref(&theirs))?;
    drop(theirs);
    let deadline = Instant::now() + TIME_MAX;
    std::thread::scope(|scope| {
        let feeding = scope.spawn(|| feed(archive, ours));
        let counted = child.finish(connection, deadline, &what);
        let fed = feeding.join().unwrap_or_else(|_| Err(Failure::machine("a thread panicked")));
        // What the child says comes first: it names the entry.
        counted?;
        let found = fed?;
        if found == diff_id {
            return Ok(());
        }
        let message = format!("the layer has digest {found}, not {diff_id}: send it again");
        Err(Failure::new(FailureCode::Invalid, message))
    })
}

/// Passes the archive on and gives its digest. It ends when the child does, whatever comes.
fn feed(archive: OwnedFd, child: OwnedFd) -> Result<Digest, Failure> {
    let mut archive = Hashing::new(Descriptor { readable: archive, until: &child });
    let mut piece = vec![0; PIECE_BYTES];
    let mut to = File::from(child.try_clone().because(|| "sharing a pipe")?);
    loop {
        let count = archive.read(&mut piece).because(|| "reading the layer")?;
        if count == 0 {
            return Ok(archive.finish().1);
        }
        to.write_all(&piece[..count]).because(|| "passing the layer on")?;
    }
}

/// A descriptor that is read no longer than the pipe has a reader: a caller that sends nothing
/// holds nothing up.
struct Descriptor<'a> {
    readable: OwnedFd,
    until: &'a OwnedFd,
}

impl Read for Descriptor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let mut polled = [
                PollFd::new(&self.readable, PollFlags::IN),
                // An error on a pipe's writing end: its reader is gone.
                PollFd::new(self.until, PollFlags::empty()),
            ];
            match poll(&mut polled, None) {
                Ok(_) if !polled[1].revents().is_empty() => {
                    return Err(std::io::ErrorKind::BrokenPipe.into());
                }
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            match rustix::io::read(&self.readable, &mut *buffer) {
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                other => return other.map_err(Into::into),
            }
        }
    }
}

/// In the child.
pub(crate) fn unpack_child(
    job: &UnpackJob,
    descriptors: Vec<OwnedFd>,
) -> Result<(u64, u64), Failure> {
    let [archive] = <[OwnedFd; 1]>::try_from(descriptors)
        .map_err(|_| Failure::refused("unpacking takes one descriptor"))?;
    let namespace = user_namespace(job.ids)?;
    confined::own_root()?;
    let attributes = Attributes { writable: true, executable: false, shift: Some(&namespace) };
    let tree = confined::clone_tree(&job.tree, attributes)?;
    confined::attach(&tree, &job.tree)?;
    confined::become_root(&job.tree)?;
    confined::leave_network()?;
    rustix::thread::move_into_link_name_space(
        std::os::fd::AsFd::as_fd(&namespace),
        Some(rustix::thread::LinkNameSpaceType::User),
    )
    .because(|| "entering a user namespace")?;
    confined::become_inner_root()?;
    let caps = Caps::LAYER;
    let limits = Limits { file_bytes: caps.file_bytes_max, cpu_s: TIME_MAX.as_secs(), files: 64 };
    let root = File::open("/").because(|| "opening the tree")?;
    confined::drop_to(0, Kept::Owners, limits)?;
    confined::bind_to_agent()?;
    let owners = Owners::Numeric { below: crate::context::BLOCK_IDS };
    let input = std::io::BufReader::with_capacity(PIECE_BYTES, File::from(archive));
    let extracted = extract(input, &root, caps, owners).map_err(|error| refusal(&error))?;
    Ok((extracted.entries, extracted.bytes))
}

fn refusal(error: &ExtractError) -> Failure {
    let code = match error {
        ExtractError::Archive(TarError::Limit { .. }) => FailureCode::Limit,
        ExtractError::Archive(TarError::Io(_)) => FailureCode::Machine,
        ExtractError::File { source, .. }
            if matches!(source.kind(), std::io::ErrorKind::StorageFull) =>
        {
            FailureCode::Limit
        }
        _ => FailureCode::Invalid,
    };
    let cause = std::error::Error::source(error);
    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
    Failure::new(code, format!("the layer was refused: {error}{cause}"))
}
