//! `LayerSeal`: a directory of a build container becomes a canonical tar.
//!
//! The child enters the container's user and mount namespaces, keeps the one right to read
//! whatever the mode, and walks. It runs only while nothing of the app does.

use std::fs::File;
use std::io::BufWriter;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_blobs::tar::{Rules, Writer};
use berth_container::{FailureCode, Part, Reply, Role};
use berth_model::InstanceId;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::ThreadNameSpaceType;
use serde::{Deserialize, Serialize};

use super::LIMITS;
use super::walk::{Bounds, Odd, walk};
use crate::confined::{self, Job, Kept, Limits};
use crate::connection::Connection;
use crate::context::Context;
use crate::failure::{Because, Failure};
use crate::server::Answer;

const TIME_MAX: Duration = Duration::from_secs(10 * 60);
/// Sum of the lengths of all files, entries, directories in one another.
const BOUNDS: Bounds = Bounds { bytes_max: 4 << 30, entries_max: 500_000, depth_max: 100 };
/// A tar is longer than its files by its headers.
const ARCHIVE_BYTES_MAX: u64 = 8 << 30;

/// What the child is told. Process 1 of the container comes as a descriptor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SealJob {
    part: Part,
}

/// The verb.
pub(crate) fn seal(
    context: &Arc<Context>,
    connection: &Connection,
    instance: InstanceId,
    part: Part,
    descriptors: Vec<OwnedFd>,
) -> Answer {
    let [archive] = <[OwnedFd; 1]>::try_from(descriptors)
        .map_err(|_| Failure::refused("sealing takes one descriptor: where the tar goes"))?;
    let inside = context.instances.inside(instance)?;
    if inside.role != Role::Build {
        return Err(Failure::refused(format!("{instance} is not a build container")));
    }
    let init = i32::try_from(inside.init)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| Failure::not_found(format!("{instance} has no process")))?;
    let init_fd = pidfd_open(init, PidfdFlags::empty())
        .because(|| format!("opening {instance}'s process"))?;
    // After the pidfd is held: a process of this leaf is the container's, whatever its number was.
    let running = inside.leaf.processes();
    if !running.contains(&inside.init) {
        return Err(Failure::not_found(format!("{instance} does not run any more")));
    }
    if running.len() > 1 {
        let message = format!(
            "{} processes still run in the build container {instance}; wait for their end, or \
             end them",
            running.len() - 1
        );
        return Err(Failure::new(FailureCode::Conflict, message));
    }
    let what = format!("writing {} of {instance}", path(&part));
    let child = confined::start(context, LIMITS, Job::Seal(SealJob { part }), &[archive, init_fd])?;
    let (entries, bytes) = child.finish(connection, Instant::now() + TIME_MAX, &what)?;
    Ok((Reply::Sealed { bytes, entries }, Vec::new()))
}

/// In the child.
pub(crate) fn seal_child(job: &SealJob, descriptors: Vec<OwnedFd>) -> Result<(u64, u64), Failure> {
    let [archive, init] = <[OwnedFd; 2]>::try_from(descriptors)
        .map_err(|_| Failure::refused("sealing takes two descriptors"))?;
    confined::leave_network()?;
    rustix::thread::move_into_thread_name_spaces(
        init.as_fd(),
        ThreadNameSpaceType::USER | ThreadNameSpaceType::MOUNT,
    )
    .because(|| "entering the container")?;
    confined::become_inner_root()?;
    let limits = Limits { file_bytes: ARCHIVE_BYTES_MAX, cpu_s: TIME_MAX.as_secs(), files: 512 };
    confined::drop_to(0, Kept::Reading, limits)?;
    confined::bind_to_agent()?;
    let mut out =
        Writer::new(BufWriter::with_capacity(256 * 1024, File::from(archive)), Rules::App);
    walk(&path(&job.part), BOUNDS, Odd::Refused, &mut out)?;
    let (_, written) = out.finish().because(|| "writing the layer")?;
    Ok((written.entries, written.bytes))
}

/// Where the part lies, from the root.
fn path(part: &Part) -> String {
    match part {
        Part::Workspace => "workspace".into(),
        Part::Layer { buildpack, layer } => format!("layers/{buildpack}/{layer}"),
    }
}
