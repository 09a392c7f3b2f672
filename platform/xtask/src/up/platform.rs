//! The platform's process: started through sudo, started again when it ends, stopped over its API.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::addresses::{Addresses, get};
use crate::shell;

/// Where the development platform keeps its data.
pub(crate) const DATA: &str = "/var/lib/berth-dev";
/// The administrator's token, readable by whoever runs `up`.
pub(crate) const TOKEN: &str = "/var/lib/berth-dev/admin-token";

/// The platform's configuration is wrong: starting it again changes nothing.
const BAD_CONFIG: i32 = 64;
/// What instances may take to end after Ctrl-C.
const GRACE_MS: u32 = 10_000;
/// How long the first answer may take.
const HEALTHY_MAX: Duration = Duration::from_secs(60);
/// How long the end may take once it was asked for; the grace is part of it.
const END_MAX: Duration = Duration::from_secs(30);
/// How often something that others bring about is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// First and longest pause before it is started again.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// One that ran for this long gets the first pause again.
const STEADY: Duration = Duration::from_secs(10);

/// A running platform.
pub(crate) struct Platform {
    programs: PathBuf,
    addresses: Addresses,
    kept: Arc<Kept>,
}

/// What the thread that keeps the platform running and the others know of each other.
#[derive(Default)]
struct Kept {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// It is to end. What has lost its agent must be started once more for that: only an agent
    /// knows what runs.
    stopping: bool,
    down: Down,
    /// It has ended for good, and why where that was not asked for.
    ended: Option<Option<String>>,
}

/// Whether the platform was told to end with everything that runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Down {
    #[default]
    Untold,
    /// It is being told; whether it heard is not known yet.
    Telling,
    /// Its next end is the last one.
    Told,
}

impl Kept {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.state().stopping = true;
        self.changed.notify_all();
    }

    fn down(&self, down: Down) {
        self.state().down = down;
        self.changed.notify_all();
    }

    /// Whether an end of the process is the one that was asked for.
    fn was_told(&self) -> bool {
        let waited = self.changed.wait_while(self.state(), |state| state.down == Down::Telling);
        waited.unwrap_or_else(PoisonError::into_inner).down == Down::Told
    }

    fn end(&self, why: Option<String>) {
        self.state().ended = Some(why);
        self.changed.notify_all();
    }

    /// Waits until `holds`, at most for `time`; says whether it holds.
    fn wait(&self, time: Duration, holds: impl Fn(&State) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.state(), time, |state| !holds(state));
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        holds(&state)
    }
}

impl Platform {
    /// Starts `berthd serve` and keeps it running.
    pub(crate) fn start(programs: &Path, addresses: Addresses) -> Result<Self> {
        let kept = Arc::new(Kept::default());
        let platform = Self { programs: programs.to_owned(), addresses, kept };
        let child = platform.serve()?;
        let keeper = Self {
            programs: platform.programs.clone(),
            addresses: platform.addresses,
            kept: Arc::clone(&platform.kept),
        };
        std::thread::spawn(move || {
            let why = keeper.keep(child);
            keeper.kept.end(why);
        });
        Ok(platform)
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Starts it again whenever it ends, until it was told to end or cannot be started. Says why
    /// where nobody asked for the end.
    fn keep(&self, mut child: Child) -> Option<String> {
        let mut pause = PAUSE;
        loop {
            let begun = Instant::now();
            let status = child.wait();
            if self.kept.was_told() {
                return None;
            }
            let shown = match status {
                Ok(status) if status.code() == Some(BAD_CONFIG) => {
                    return Some("berthd could not start; its reason is above".to_owned());
                }
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            };
            shell::say(&format!(" !     berthd ended ({shown}); starting it again"));
            if begun.elapsed() > STEADY {
                pause = PAUSE;
            }
            std::thread::sleep(PAUSE);
            self.kept.wait(pause.saturating_sub(PAUSE), |state| state.stopping);
            pause = (pause * 2).min(PAUSE_MAX);
            if let Err(error) = shell::authorize() {
                return Some(format!("{error:#}"));
            }
            // Whoever gave up on being heard asked the agent itself meanwhile.
            if self.kept.was_told() {
                return None;
            }
            child = match self.serve() {
                Ok(child) => child,
                Err(error) => return Some(format!("{error:#}")),
            };
        }
    }

    fn serve(&self) -> Result<Child> {
        let Addresses { http, api, ssh } = self.addresses;
        let mut command = shell::as_root(self.programs.join("berthd"));
        command
            .args(["serve", "--data", DATA, "--http", &http.to_string()])
            .args(["--api", &api.to_string(), "--ssh", &ssh.to_string()])
            .args(["--admin-uid", &shell::own_uid().to_string()])
            .stdin(Stdio::null())
            // The line that tells a program where it listens; people get the addresses from us.
            .stdout(Stdio::null())
            // Its own group: Ctrl-C reaches us alone, and we say `down`.
            .process_group(0);
        command.spawn().context("cannot start berthd")
    }

    /// Waits for `GET /healthz` to answer 200.
    pub(crate) fn wait_until_healthy(&self, interrupts: &AtomicUsize) -> Result<()> {
        shell::step("Starting the platform", || {
            let deadline = Instant::now() + HEALTHY_MAX;
            while Instant::now() < deadline {
                if interrupts.load(Ordering::SeqCst) > 0 {
                    bail!("interrupted");
                }
                if let Some(why) = self.ended() {
                    bail!("{why}");
                }
                if matches!(get(self.addresses.api, "localhost", "/healthz"), Ok(200)) {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            bail!(
                "berthd does not answer on {} after {} s; its messages are above",
                self.addresses.api,
                HEALTHY_MAX.as_secs()
            )
        })
    }

    /// Why it has ended, if it has.
    pub(crate) fn ended(&self) -> Option<String> {
        let ended = self.kept.state().ended.clone()?;
        Some(ended.unwrap_or_else(|| "the platform was stopped".to_owned()))
    }

    /// Returns at Ctrl-C, or with the reason when the platform cannot be kept running.
    pub(crate) fn wait_for_interrupt(&self, interrupts: &AtomicUsize) -> Result<()> {
        while interrupts.load(Ordering::SeqCst) == 0 {
            if self.kept.wait(Duration::from_millis(100), |state| state.ended.is_some()) {
                bail!("{}", self.ended().unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Stops instances, router and agent; data stays.
    pub(crate) fn stop(&self) -> Result<()> {
        self.kept.stop();
        shell::step("Stopping the platform", || {
            let deadline = Instant::now() + END_MAX;
            let (mut told, mut ended) = (false, false);
            while !ended && Instant::now() < deadline {
                // One that was just started answers a little later.
                told = told || self.ask_down(GRACE_MS).is_ok();
                ended = self.kept.wait(LOOK, |state| state.ended.is_some());
            }
            if told && ended {
                return Ok(());
            }
            // No control process answers, or it hangs: the agent is asked by root.
            self.kept.down(Down::Told);
            shell::authorize()?;
            let mut down = shell::as_root(self.programs.join("berthd"));
            shell::capture(down.args(["down", "--data", DATA, "--grace-ms", "1000"]))?;
            // berthd ends with its agent.
            if !self.kept.wait(END_MAX, |state| state.ended.is_some()) {
                bail!(
                    "the apps are stopped, but berthd did not end within {} s; `ps -C berthd` shows it",
                    END_MAX.as_secs()
                );
            }
            Ok(())
        })
    }

    /// What the second Ctrl-C does.
    pub(crate) fn down_at_once(&self) -> impl Fn() + Send + 'static {
        let platform = Self {
            programs: self.programs.clone(),
            addresses: self.addresses,
            kept: Arc::clone(&self.kept),
        };
        move || {
            platform.kept.stop();
            if let Err(error) = platform.ask_down(0) {
                shell::say(&format!(" !     {error:#}"));
            }
        }
    }

    /// Tells the control process to end with everything; needs no root.
    fn ask_down(&self, grace_ms: u32) -> Result<()> {
        let token =
            std::fs::read_to_string(TOKEN).with_context(|| format!("cannot read {TOKEN}"))?;
        let mut down = super::samples::berth(&self.programs, &self.addresses, token.trim());
        down.args(["down", "--yes", "--grace-ms", &grace_ms.to_string()]).process_group(0);
        self.kept.down(Down::Telling);
        let told = shell::capture(&mut down);
        self.kept.down(if told.is_ok() { Down::Told } else { Down::Untold });
        told.map(drop)
    }
}
