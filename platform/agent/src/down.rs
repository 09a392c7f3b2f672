//! `Down` ends everything of the data folder; `Retire` ends the agent alone.

use std::sync::Arc;
use std::time::Duration;

use berth_container::{FailureCode, Reply};

use crate::connection::Connection;
use crate::context::Context;
use crate::failure::Failure;
use crate::instances;
use crate::server::Answer;
use crate::{stop, worker};

/// Ends this process, so that another build of it takes over. Containers and workers stay.
pub(crate) fn retire(context: &Context, connection: &Connection) -> Answer {
    context.log.line("retiring");
    let _ = connection.reply(&Reply::Done {}, &[]);
    std::process::exit(0);
}

/// Stops every container, the workers and tools, and removes network, control groups and the run
/// folder; then ends this process. What fails is told, after everything else was tried.
pub(crate) fn handle(context: &Arc<Context>, connection: &Connection, grace_ms: u32) -> Answer {
    stop::check_grace(grace_ms)?;
    context.log.line("going down");
    context.instances.close();
    let mut failures = stop_all(context, Duration::from_millis(u64::from(grace_ms)));
    let mut step = |outcome: Result<(), Failure>| {
        if let Err(failure) = outcome {
            context.log.line(format_args!("going down: {failure}"));
            failures.push(failure.message);
        }
    };
    step(worker::stop_all(context, Duration::from_millis(u64::from(grace_ms))));
    for name in context.cgroups.names() {
        let leaf = context.cgroups.leaf(&name);
        step(leaf.kill().and_then(|()| leaf.remove()));
    }
    step(context.net.remove(&context.run));
    step(context.cgroups.remove());
    instances::sweep_disks(context);
    if !failures.is_empty() {
        return Err(Failure::machine(failures.join("; ")));
    }
    // The socket lies in the run folder, but this connection does not.
    crate::serve::remove_run_folder(&context.run)?;
    let _ = connection.reply(&Reply::Done {}, &[]);
    std::process::exit(0);
}

fn stop_all(context: &Arc<Context>, grace: Duration) -> Vec<String> {
    let stops: Vec<_> = context
        .instances
        .all()
        .into_iter()
        .map(|known| {
            let context = Arc::clone(context);
            std::thread::spawn(move || {
                let instance = known.spec.instance;
                stop::stop(&context, instance, grace)?;
                instances::forget(&context, instance)
            })
        })
        .collect();
    let outcomes = stops.into_iter().map(|stop| {
        stop.join().unwrap_or_else(|_| Err(Failure::machine("stopping a container panicked")))
    });
    outcomes
        .filter_map(Result::err)
        // Somebody else's stop, which was under way, ended it first.
        .filter(|failure| failure.code != FailureCode::NotFound)
        .map(|failure| failure.message)
        .collect()
}
