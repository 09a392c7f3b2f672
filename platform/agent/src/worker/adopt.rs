//! Finding the programs that an earlier agent started.

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use berth_container::Program;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use super::launch::{FIRST, Note, check, leaf_prefix, note_path, word};
use super::process::Process;
use super::{PROGRAMS, supervise};
use crate::context::Context;
use crate::failure::{Because, Failure};
use crate::run_wire::Identity;

/// Takes both programs back, where they live, with their listeners. What else is in their control
/// groups is ended: nobody looks after it any more.
pub(crate) fn adopt(context: &Arc<Context>) -> Result<(), Failure> {
    for program in PROGRAMS {
        let found = find(context, program);
        let kept = found.as_ref().map(|(note, ..)| note.leaf.clone());
        let prefix = leaf_prefix(program);
        for name in context.cgroups.names() {
            if name.starts_with(&prefix) && Some(&name) != kept.as_ref() {
                let leaf = context.cgroups.leaf(&name);
                leaf.kill()?;
                leaf.remove()?;
            }
        }
        let Some((note, process, sockets)) = found else { continue };
        context.log.line(format_args!("{} {} is taken back", word(program), note.identity.pid));
        let slot = context.workers.slot(program);
        let epoch = {
            let mut state = slot.lock();
            state.listeners = Arc::new(sockets.listeners);
            state.own = Arc::new(sockets.own);
            state.process = Some(Arc::new(process));
            state.epoch += 1;
            state.epoch
        };
        supervise(context, program, epoch)?;
    }
    Ok(())
}

/// What a program listens on.
struct Sockets {
    listeners: Vec<OwnedFd>,
    own: Vec<OwnedFd>,
}

fn find(context: &Context, program: Program) -> Option<(Note, Process, Sockets)> {
    let note: Note = serde_json::from_slice(&fs::read(note_path(context, program)).ok()?).ok()?;
    let leaf = context.cgroups.leaf(&note.leaf);
    let process = Process::open(note.identity.pid, None, leaf, note.build.clone()).ok()?;
    // Only now the number cannot be given to another process any more.
    let same = Identity::of(note.identity.pid).is_ok_and(|found| found == note.identity);
    if !same || process.has_ended() {
        return None;
    }
    let taken = take(&process, FIRST, note.listeners).and_then(|listeners| {
        check(program, &listeners)?;
        let own = take(&process, FIRST + note.listeners, note.own)?;
        Ok(Sockets { listeners, own })
    });
    match taken {
        Ok(sockets) => Some((note, process, sockets)),
        Err(failure) => {
            context.log.line(format_args!("{} is ended: {failure}", word(program)));
            None
        }
    }
}

fn take(process: &Process, first: u32, count: u32) -> Result<Vec<OwnedFd>, Failure> {
    (first..first + count)
        .map(|number| {
            let number = i32::try_from(number).because(|| "counting descriptors")?;
            pidfd_getfd(process.pidfd(), number, PidfdGetfdFlags::empty())
                .because(|| format!("taking listener {number} back"))
        })
        .collect()
}
