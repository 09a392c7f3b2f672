//! `Stop`: asks a container to end, and answers when nothing of it is left but its logs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_container::{ContainerState, Exit, FailureCode, Reply};
use berth_model::InstanceId;
use rustix::process::{Signal, pidfd_send_signal};

use crate::context::Context;
use crate::failure::Failure;
use crate::instances;
use crate::run_wire::{Ask, send};
use crate::server::Answer;

/// Longest grace.
pub(crate) const GRACE_MS_MAX: u32 = 600_000;
/// How long a container may take to come to run, or, after its grace, to be cleared away.
const WORK_TIME_MAX: Duration = Duration::from_secs(60);

pub(crate) fn handle(context: &Arc<Context>, instance: InstanceId, grace_ms: u32) -> Answer {
    check_grace(grace_ms)?;
    let exit = stop(context, instance, Duration::from_millis(u64::from(grace_ms)))?;
    instances::forget(context, instance)?;
    Ok((Reply::Exited(exit), Vec::new()))
}

pub(crate) fn check_grace(grace_ms: u32) -> Result<(), Failure> {
    if grace_ms > GRACE_MS_MAX {
        return Err(Failure::refused(format!("grace_ms {grace_ms} is over {GRACE_MS_MAX}")));
    }
    Ok(())
}

/// Ends a container and waits until it is cleared away.
pub(crate) fn stop(
    context: &Context,
    instance: InstanceId,
    grace: Duration,
) -> Result<Exit, Failure> {
    let begun = Instant::now() + WORK_TIME_MAX;
    let known = context
        .instances
        .wait_until(instance, begun, |known| known.report.state != ContainerState::Starting)?;
    if !known.is_gone() {
        // A run process that cannot be asked is ended, and its container with it.
        let asked = instances::connect(&context.instance_run(instance)).and_then(|socket| {
            let ask = Ask::Stop { grace_ms: u32::try_from(grace.as_millis()).unwrap_or(u32::MAX) };
            send(&socket, &ask, &[]).map_err(|error| Failure::machine(error.to_string()))?;
            Ok(socket)
        });
        if asked.is_err() {
            kill(context, instance);
        }
        let ended = Instant::now() + grace + WORK_TIME_MAX / 2;
        let known = context.instances.wait_until(instance, ended, instances::Known::is_gone)?;
        if !known.is_gone() {
            kill(context, instance);
        }
    }
    let last = Instant::now() + WORK_TIME_MAX;
    let known = context.instances.wait_until(instance, last, instances::Known::is_gone)?;
    if !known.is_gone() {
        return Err(Failure::new(
            FailureCode::TimedOut,
            format!("the container {instance} does not end, not even when it is killed"),
        ));
    }
    known
        .report
        .last_exit
        .ok_or_else(|| Failure::machine(format!("nothing is known of the end of {instance}")))
}

/// The run process, and by it the container.
fn kill(context: &Context, instance: InstanceId) {
    if let Ok(known) = context.instances.get(instance)
        && let Some(run) = known.run
    {
        let _ = pidfd_send_signal(&*run, Signal::KILL);
    }
}
