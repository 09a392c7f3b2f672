//! The loop of the run process: the container's output, its end and restarts, and what the agent
//! asks.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use berth_container::{ContainerState, Exit, Role};
use berth_model::log::LogStream;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::commands::{Commands, exit_code};
use super::launch::{Launcher, Stdio};
use super::oom::OomWatch;
use super::output::{Flow, Log, Output};
use super::restart::Backoff;
use super::watchdog::Watchdog;
use crate::failure::{Because, Failure};
use crate::run_wire::{Ask, Identity, Report, Tell, now_ms, receive, send, write_exit};

/// Connections at one time, those of commands aside.
const CALLERS_MAX: usize = 64;

/// One container's supervisor.
pub(crate) struct Supervisor {
    launcher: Launcher,
    listener: OwnedFd,
    /// Held, never looked at.
    _lock: OwnedFd,
    log: Log,
    report: Report,
    attempt: Option<Attempt>,
    outputs: Vec<Output>,
    callers: Vec<OwnedFd>,
    watchers: Vec<OwnedFd>,
    stoppers: Vec<OwnedFd>,
    commands: Commands,
    backoff: Backoff,
    restart_at: Option<Instant>,
    kill_at: Option<Instant>,
    late_at: Option<Instant>,
    timed_out: bool,
    stopping: bool,
    oom: OomWatch,
}

/// A running process 1.
struct Attempt {
    pid: i32,
    process: OwnedFd,
    since: Instant,
    oom_kills_before: u64,
    oom: bool,
    /// Looks at its disk, where the kernel does not bound it.
    watchdog: Option<Watchdog>,
}

/// What became ready.
#[derive(Clone, Copy)]
enum Source {
    Listener,
    Oom,
    Watchdog,
    Init,
    Output(usize),
    Caller(usize),
    Watcher(usize),
    Command(usize),
    CommandCaller(usize),
}

impl Supervisor {
    /// Starts the first attempt. A failure of it is the failure of the start.
    pub(crate) fn begin(
        launcher: Launcher,
        listener: OwnedFd,
        lock: OwnedFd,
        stdin: Option<OwnedFd>,
    ) -> Result<(Self, Option<OwnedFd>), Failure> {
        let log = Log::open(&launcher.spec)?;
        let oom = OomWatch::of(&launcher.spec.leaf);
        let late_at = (launcher.spec.role != Role::Instance)
            .then(|| Instant::now() + Duration::from_millis(u64::from(launcher.spec.time_ms_max)));
        let mut supervisor = Self {
            launcher,
            listener,
            _lock: lock,
            log,
            report: Report {
                state: ContainerState::Starting,
                attempt: 0,
                last_exit: None,
                started_at_ms: 0,
                init: None,
            },
            attempt: None,
            outputs: Vec::new(),
            callers: Vec::new(),
            watchers: Vec::new(),
            stoppers: Vec::new(),
            commands: Commands::default(),
            backoff: Backoff::default(),
            restart_at: None,
            kill_at: None,
            late_at,
            timed_out: false,
            stopping: false,
            oom,
        };
        let attached = supervisor.launch(stdin)?;
        Ok((supervisor, attached))
    }

    pub(crate) fn report(&self) -> Report {
        self.report.clone()
    }

    fn launch(&mut self, stdin: Option<OwnedFd>) -> Result<Option<OwnedFd>, Failure> {
        let spec = &self.launcher.spec;
        self.report.attempt += 1;
        self.log.attempt = self.report.attempt;
        spec.leaf.create(spec.limits.into())?;
        let stdin = match stdin {
            Some(stdin) => stdin,
            None => std::fs::File::open("/dev/null").because(|| "opening /dev/null")?.into(),
        };
        let (out, stdout) = Output::make(spec, LogStream::Stdout)?;
        let (err, stderr) = Output::make(spec, LogStream::Stderr)?;
        let oom_kills_before = spec.leaf.oom_kills();
        let launched = self.launcher.launch(Stdio { stdin, stdout, stderr })?;
        let pid = i32::try_from(launched.init).because(|| "reading a pid")?;
        let number = rustix::process::Pid::from_raw(pid)
            .ok_or_else(|| Failure::machine("the container has no process"))?;
        let process = pidfd_open(number, PidfdFlags::empty())
            .because(|| "opening the container's process")?;
        self.outputs = vec![out, err];
        let since = Instant::now();
        let watchdog = launched.watchdog;
        self.attempt =
            Some(Attempt { pid, process, since, oom_kills_before, oom: false, watchdog });
        self.report.state = ContainerState::Running;
        self.report.started_at_ms = now_ms();
        self.report.init = Some(launched.init);
        Ok(launched.attached)
    }

    /// Until the container ended for good.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        while !self.finished() {
            for source in self.wait()? {
                self.handle(source);
            }
            self.handle_time();
        }
        self.conclude()
    }

    fn finished(&self) -> bool {
        self.attempt.is_none() && self.restart_at.is_none()
    }

    /// Waits for the next thing to do. Indices are from the highest down, so that taking one out
    /// of its list leaves the others in place.
    fn wait(&self) -> Result<Vec<Source>, Failure> {
        let mut sources = vec![(Source::Listener, self.listener.as_fd())];
        sources.extend(self.oom.event().map(|event| (Source::Oom, event)));
        let watchdog = self.attempt.as_ref().and_then(|attempt| attempt.watchdog.as_ref());
        sources.extend(watchdog.map(|watchdog| (Source::Watchdog, watchdog.process())));
        let outputs = self.outputs.iter().enumerate().rev();
        sources.extend(outputs.map(|(i, output)| (Source::Output(i), output.pipe.as_fd())));
        let callers = self.callers.iter().enumerate().rev();
        sources.extend(callers.map(|(i, caller)| (Source::Caller(i), caller.as_fd())));
        let watchers = self.watchers.iter().enumerate().rev();
        sources.extend(watchers.map(|(i, watcher)| (Source::Watcher(i), watcher.as_fd())));
        for (i, command) in self.commands.running.iter().enumerate().rev() {
            sources.push((Source::CommandCaller(i), command.caller.as_fd()));
            sources.push((Source::Command(i), command.process.as_fd()));
        }
        // Last: what was written before the end is in the log before the end.
        if let Some(attempt) = &self.attempt {
            sources.push((Source::Init, attempt.process.as_fd()));
        }
        let mut polled: Vec<PollFd<'_>> =
            sources.iter().map(|(_, fd)| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        let timeout = self.next_time().map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error).because(|| "waiting for the container"),
        }
        let ready = polled.iter().map(|fd| !fd.revents().is_empty());
        Ok(sources.iter().zip(ready).filter(|(_, ready)| *ready).map(|((s, _), _)| *s).collect())
    }

    fn next_time(&self) -> Option<Instant> {
        let times = [self.restart_at, self.kill_at, self.late_at, self.oom.look_at()];
        times.into_iter().flatten().chain(self.commands.deadline()).min()
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Listener => {
                if let Ok(caller) = accept_with(&self.listener, SocketFlags::CLOEXEC)
                    && self.callers.len() < CALLERS_MAX
                {
                    self.callers.push(caller);
                }
            }
            Source::Oom => self.oom.heard(),
            Source::Watchdog => {
                let watchdog = self.attempt.as_mut().and_then(|attempt| attempt.watchdog.take());
                if let Some(watchdog) = watchdog {
                    self.log.system(&watchdog.verdict());
                    self.signal(Signal::KILL);
                }
            }
            Source::Output(index) => {
                if let Some(output) = self.outputs.get_mut(index)
                    && output.take(&mut self.log) == Flow::Ended
                {
                    self.outputs.remove(index);
                }
            }
            Source::Caller(index) => {
                let caller = self.callers.remove(index);
                self.ask(caller);
            }
            Source::Watcher(index) => drop(self.watchers.remove(index)),
            // Whoever waits for a command says no more: it went away.
            Source::CommandCaller(index) => self.commands.running[index].kill(),
            Source::Command(index) => self.commands.ended(index),
            Source::Init => self.ended(),
        }
    }

    fn ask(&mut self, caller: OwnedFd) {
        let Ok(Some((ask, descriptors))) = receive::<Ask>(&caller) else { return };
        match ask {
            Ask::Begin => {}
            Ask::Watch => {
                let hello = Identity::of(std::process::id()).map(Tell::Hello);
                let report = Tell::Report(self.report.clone());
                let told = hello.and_then(|hello| send(&caller, &hello, &[]));
                if told.and_then(|()| send(&caller, &report, &[])).is_ok() {
                    self.watchers.push(caller);
                }
            }
            Ask::Stop { grace_ms } => {
                self.stoppers.push(caller);
                self.stop(Duration::from_millis(u64::from(grace_ms)));
            }
            Ask::Exec { tty, time_ms_max } => {
                let (spec, init) = (&self.launcher.spec, self.report.init);
                self.commands.start(spec, init, caller, tty, time_ms_max, descriptors);
            }
        }
    }

    fn stop(&mut self, grace: Duration) {
        let at = Instant::now() + grace;
        self.kill_at = Some(self.kill_at.map_or(at, |known| known.min(at)));
        if !self.stopping {
            self.log.system("stopping");
            self.signal(Signal::TERM);
        }
        self.stopping = true;
        self.restart_at = None;
    }

    fn signal(&self, signal: Signal) {
        if let Some(attempt) = &self.attempt {
            let _ = pidfd_send_signal(&attempt.process, signal);
        }
    }

    fn handle_time(&mut self) {
        let now = Instant::now();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.kill_at) {
            self.kill_at = None;
            self.signal(Signal::KILL);
        }
        if due(self.late_at) {
            self.late_at = None;
            self.timed_out = self.attempt.is_some();
            self.log.system("its time is over: ended");
            self.signal(Signal::KILL);
        }
        if self.oom.is_due(now) {
            self.look_for_victim(now);
        }
        self.commands.end_late(now);
        if due(self.restart_at) {
            self.restart_at = None;
            if let Err(failure) = self.launch(None) {
                self.log.system(&format!("the start failed: {failure}"));
                // Without its run folder it is nobody's any more.
                if self.launcher.folder.join("spec.json").exists() {
                    self.plan_restart(Duration::ZERO);
                }
            }
            self.tell();
        }
    }

    fn look_for_victim(&mut self, now: Instant) {
        let kills = self.launcher.spec.leaf.oom_kills();
        let victim = self.attempt.as_mut().filter(|attempt| kills > attempt.oom_kills_before);
        let found = victim.map(|attempt| attempt.oom = true).is_some();
        self.oom.looked(found, now);
        if found {
            self.signal(Signal::KILL);
        }
    }

    /// Process 1 ended, and with it everything in the container.
    fn ended(&mut self) {
        let Some(attempt) = self.attempt.take() else { return };
        let leaf = &self.launcher.spec.leaf;
        let code = exit_code(attempt.pid);
        let oom = attempt.oom || leaf.oom_kills() > attempt.oom_kills_before;
        let _ = leaf.kill();
        let exit = Exit {
            code,
            oom,
            timed_out: self.timed_out,
            memory_peak_bytes: leaf.memory_peak_bytes(),
        };
        for output in std::mem::take(&mut self.outputs) {
            output.drain(&mut self.log);
        }
        self.log.system(&describe(&exit, self.launcher.spec.limits.memory_mib));
        self.report.last_exit = Some(exit);
        self.report.init = None;
        self.kill_at = None;
        if self.launcher.spec.role == Role::Instance && !self.stopping {
            self.plan_restart(attempt.since.elapsed());
            self.tell();
        }
    }

    fn plan_restart(&mut self, ran: Duration) {
        let mut chance = [0_u8; 8];
        let _ = rustix::rand::getrandom(&mut chance, rustix::rand::GetRandomFlags::empty());
        let wait = self.backoff.after(ran, u64::from_le_bytes(chance));
        self.log.system(&format!("starting again in {:.1} s", wait.as_secs_f64()));
        self.report.state = ContainerState::Waiting;
        self.restart_at = Some(Instant::now() + wait);
    }

    fn tell(&mut self) {
        let report = Tell::Report(self.report.clone());
        self.watchers.retain(|watcher| send(watcher, &report, &[]).is_ok());
    }

    /// Writes down how it ended and tells everyone; the agent clears away what is left.
    fn conclude(mut self) -> Result<(), Failure> {
        self.report.state = ContainerState::Exited;
        let exit = self.report.last_exit.clone().unwrap_or(Exit {
            code: 255,
            oom: false,
            timed_out: false,
            memory_peak_bytes: 0,
        });
        write_exit(&self.launcher.folder, &exit)?;
        while !self.commands.running.is_empty() {
            self.commands.ended(0);
        }
        self.log.close();
        let report = Tell::Report(self.report.clone());
        for watcher in &self.watchers {
            let _ = send(watcher, &report, &[]);
        }
        for stopper in &self.stoppers {
            let _ = send(stopper, &Tell::Exited { exit: exit.clone() }, &[]);
        }
        Ok(())
    }
}

fn describe(exit: &Exit, memory_mib: u32) -> String {
    let peak = exit.memory_peak_bytes >> 20;
    match exit.code {
        _ if exit.oom => format!(
            "ended by the kernel for its memory: the limit is {memory_mib} MiB, the peak was {peak} MiB"
        ),
        _ if exit.timed_out => "ended: its time was over".into(),
        code if code > 128 => format!("ended by signal {}", code - 128),
        code => format!("exited with code {code}"),
    }
}
