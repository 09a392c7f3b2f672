//! `Exec`: hands a command on to the container's run process and its replies back.

use std::os::fd::{AsFd, OwnedFd};

use berth_container::{Reply, Terminal};
use berth_model::InstanceId;

use crate::connection::{Connection, Woken};
use crate::context::Context;
use crate::failure::{Because, Failure};
use crate::instances;
use crate::run_wire::{Ask, Tell, receive, send};
use crate::server::Answer;
use crate::start::TIME_MS_MAX;

pub(crate) fn handle(
    context: &Context,
    connection: &Connection,
    instance: InstanceId,
    tty: Option<Terminal>,
    time_ms_max: u32,
    descriptors: Vec<OwnedFd>,
) -> Answer {
    if time_ms_max == 0 || time_ms_max > TIME_MS_MAX {
        return Err(Failure::refused(format!(
            "time_ms_max {time_ms_max} is not between 1 and {TIME_MS_MAX}"
        )));
    }
    let wanted = if tty.is_some() { 1 } else { 4 };
    if descriptors.len() != wanted {
        return Err(Failure::refused(format!(
            "{} descriptors came with a command; it takes {wanted}",
            descriptors.len()
        )));
    }
    context.instances.inside(instance)?;
    let run = instances::connect(&context.instance_run(instance))?;
    send(&run, &Ask::Exec { tty, time_ms_max }, &descriptors)
        .because(|| "handing the command on")?;
    // The caller waits for the end of what it gave; ours must not keep it open.
    drop(descriptors);
    loop {
        match connection.wait(Some(run.as_fd()), None).because(|| "waiting for the command")? {
            // Closing our side tells the run process to end the command.
            Woken::Closed => return Err(Failure::refused("the caller went away")),
            Woken::Late => {}
            Woken::Ready => match receive::<Tell>(&run).because(|| "hearing the command")? {
                Some((Tell::Attached, terminal)) => connection
                    .reply(&Reply::Attached {}, &terminal)
                    .because(|| "handing a terminal over")?,
                Some((Tell::Exited { exit }, _)) => return Ok((Reply::Exited(exit), Vec::new())),
                Some((Tell::Failed { code, message }, _)) => {
                    return Err(Failure::new(code, message));
                }
                Some(_) => {}
                None => return Err(Failure::machine("the container ended under the command")),
            },
        }
    }
}
