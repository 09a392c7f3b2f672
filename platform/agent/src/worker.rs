//! `Worker`: the long-lived programs of the platform, `berthd route` and `berthd wasm`.
//!
//! Each runs under its own id in its own control group, on listeners that berthd opened; the router
//! also on the name service's sockets, which the agent opens in the instances' namespace. The agent
//! keeps duplicates of them: a program that ends is started again on the same sockets, so that no
//! connection is refused meanwhile. Programs outlive the agent; the next one finds them by what
//! this one wrote down, takes the listeners back out of the program, and goes on.

mod adopt;
mod launch;
mod process;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use berth_container::{FailureCode, Program, Reply};

use crate::cgroup::Leaf;
use crate::context::Context;
use crate::failure::{Because, Failure};
use crate::server::Answer;

pub(crate) use adopt::adopt;
pub(crate) use launch::{WorkerJob, child};
use process::Process;

/// Both programs.
pub(crate) const PROGRAMS: [Program; 2] = [Program::Route, Program::Wasm];
/// Between two starts of a program that ends at once.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A program that ran this long starts at once again.
const STEADY: Duration = Duration::from_secs(10);
/// A replaced program may finish its connections this long.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(60);
/// How often the log of a running program is cut.
const LOG_LOOK: Duration = Duration::from_secs(30);

/// What the agent knows of its programs.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    route: Slot,
    wasm: Slot,
}

#[derive(Debug, Default)]
struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    listeners: Arc<Vec<OwnedFd>>,
    /// Sockets that the agent opened itself: the name service's, for the router.
    own: Arc<Vec<OwnedFd>>,
    process: Option<Arc<Process>>,
    restarts: u32,
    /// Counts instructions from outside: a supervisor of an older one ends.
    epoch: u64,
    /// Everything is being stopped.
    closed: bool,
}

impl Workers {
    /// The control group of a program that runs.
    pub(crate) fn leaf(&self, program: Program) -> Option<Leaf> {
        self.slot(program).lock().process.as_ref().map(|process| process.leaf().clone())
    }

    fn slot(&self, program: Program) -> &Slot {
        match program {
            Program::Route => &self.route,
            Program::Wasm => &self.wasm,
        }
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Starts the program. A router that an older agent started may have been taken back without
    /// the name service's sockets: the next one gets them all the same.
    fn launch(&mut self, context: &Context, program: Program) -> Result<Arc<Process>, Failure> {
        if program == Program::Route && self.own.is_empty() {
            self.own = Arc::new(context.net.open_name_sockets()?);
        }
        launch::launch(context, program, &self.listeners, &self.own)
    }

    fn answer(&self) -> Answer {
        let process = self.process.as_ref().ok_or_else(|| Failure::machine("it ended at once"))?;
        let listeners: Vec<OwnedFd> = self
            .listeners
            .iter()
            .map(OwnedFd::try_clone)
            .collect::<Result<_, _>>()
            .because(|| "duplicating the listeners")?;
        Ok((Reply::Worker { pid: process.pid(), restarts: self.restarts }, listeners))
    }
}

/// The verb. Without descriptors it only finds a program: its listeners come back.
pub(crate) fn ensure(
    context: &Arc<Context>,
    program: Program,
    descriptors: Vec<OwnedFd>,
) -> Answer {
    let slot = context.workers.slot(program);
    let mut state = slot.lock();
    if state.closed {
        let message = "everything is being stopped; nothing can be started";
        return Err(Failure::new(FailureCode::Conflict, message));
    }
    let same = descriptors.is_empty() || launch::same_sockets(&state.listeners, &descriptors);
    if let Some(process) = &state.process {
        if same && process.build() == context.build && !process.has_ended() {
            return state.answer();
        }
    } else if descriptors.is_empty() && state.listeners.is_empty() {
        return Err(Failure::not_found(format!("{} does not run", launch::word(program))));
    }
    if !same {
        launch::check(program, &descriptors)?;
        state.listeners = Arc::new(descriptors);
    }
    // The old one stops accepting; whoever connects meanwhile waits in the sockets' queues.
    if let Some(old) = state.process.take() {
        drain(context, old)?;
    }
    state.process = Some(state.launch(context, program)?);
    state.epoch += 1;
    slot.changed.notify_all();
    supervise(context, program, state.epoch)?;
    state.answer()
}

/// Lets a program finish what it has, in the background.
fn drain(context: &Arc<Context>, process: Arc<Process>) -> Result<(), Failure> {
    process.terminate();
    let context = Arc::clone(context);
    std::thread::Builder::new()
        .name("drain".into())
        .spawn(move || {
            process.wait(Instant::now() + DRAIN_TIME_MAX);
            if let Err(failure) = process.clear() {
                context.log.line(format_args!("replacing a worker: {failure}"));
            }
        })
        .because(|| "starting a thread")
        .map(drop)
}

/// Starts the program again whenever it ends, until the next instruction.
fn supervise(context: &Arc<Context>, program: Program, epoch: u64) -> Result<(), Failure> {
    let context = Arc::clone(context);
    std::thread::Builder::new()
        .name(launch::word(program).into())
        .spawn(move || {
            let mut pause = BACKOFF_MIN;
            while let Some(process) = current(&context, program, epoch) {
                let since = Instant::now();
                while !process.wait(Instant::now() + LOG_LOOK) {
                    launch::cut_log(&context, program);
                }
                if since.elapsed() >= STEADY {
                    pause = BACKOFF_MIN;
                }
                context.log.line(format_args!("{} ended", launch::word(program)));
                restart(&context, program, epoch, &process, &mut pause);
            }
        })
        .because(|| "starting a thread")
        .map(drop)
}

/// The process that a supervisor looks after; none when it has nothing to do any more.
fn current(context: &Context, program: Program, epoch: u64) -> Option<Arc<Process>> {
    let state = context.workers.slot(program).lock();
    (state.epoch == epoch && !state.closed).then(|| state.process.clone()).flatten()
}

/// Waits out the back-off and starts the program, as often as it takes.
fn restart(context: &Context, program: Program, epoch: u64, ended: &Process, pause: &mut Duration) {
    let slot = context.workers.slot(program);
    loop {
        let until = Instant::now() + *pause;
        *pause = (*pause * 2).min(BACKOFF_MAX);
        let mut state = slot.lock();
        while state.epoch == epoch && !state.closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = slot.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.epoch != epoch || state.closed {
            return;
        }
        let started = ended.clear().and_then(|()| state.launch(context, program));
        match started {
            Ok(process) => {
                state.process = Some(process);
                state.restarts += 1;
                return;
            }
            Err(failure) => context.log.line(format_args!("{}: {failure}", launch::word(program))),
        }
    }
}

/// Ends both programs: asked first, killed after the grace.
pub(crate) fn stop_all(context: &Context, grace: Duration) -> Result<(), Failure> {
    let mut processes = Vec::new();
    for program in PROGRAMS {
        let slot = context.workers.slot(program);
        let mut state = slot.lock();
        state.closed = true;
        state.listeners = Arc::default();
        state.own = Arc::default();
        slot.changed.notify_all();
        processes.extend(state.process.take());
    }
    processes.iter().for_each(|process| process.terminate());
    let deadline = Instant::now() + grace;
    for process in &processes {
        process.wait(deadline);
        process.clear()?;
    }
    PROGRAMS.iter().try_for_each(|program| launch::forget(context, *program))
}
