//! The child's side: hears the order, enters its control group, does the job.

use std::os::fd::OwnedFd;

use super::{Job, Order, Said, bind_to_agent};
use crate::failure::{Because, Failure};
use crate::run_wire::{receive, send};
use crate::{layers, stack, worker};

/// The whole life of the process. The agent's socket is descriptor 0.
pub(crate) fn run() -> Result<(), Failure> {
    // Far from where a program's descriptors are placed: until the exec, failures are told on it.
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 200)
        .because(|| "taking the agent's socket")?;
    let outcome = work(&socket);
    match outcome {
        Ok(Some((entries, bytes))) => send(&socket, &Said::Done { entries, bytes }, &[])
            .because(|| "telling the agent that it is done"),
        Ok(None) => Ok(()),
        Err(failure) => {
            let _ = send(&socket, &Said::from(failure.clone()), &[]);
            Err(failure)
        }
    }
}

fn work(socket: &OwnedFd) -> Result<Option<(u64, u64)>, Failure> {
    let Some((order, descriptors)) =
        receive::<Order>(socket).because(|| "hearing the agent's order")?
    else {
        return Err(Failure::refused("this verb is the agent's own"));
    };
    order.leaf.add(std::process::id())?;
    if !matches!(order.job, Job::Worker(_)) {
        bind_to_agent()?;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    match order.job {
        Job::Unpack(job) => layers::unpack_child(&job, descriptors).map(Some),
        Job::Seal(job) => layers::seal_child(&job, descriptors).map(Some),
        Job::Stack(job) => stack::child(&job, socket, descriptors).map(Some),
        Job::Worker(job) => worker::child(&job, descriptors).map(|()| None),
        Job::Program(program) => program.become_it(descriptors).map(|()| None),
    }
}
