//! The platform's process: started through sudo, started again when it ends, stopped with `down`.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::shell;

/// Where the development platform keeps its data.
pub(crate) const DATA: &str = "/var/lib/berth-dev";
/// The administrator's token, readable by whoever runs `up`.
pub(crate) const TOKEN: &str = "/var/lib/berth-dev/admin-token";
/// The API's address.
pub(crate) const API: &str = "127.0.0.1:8081";
/// The router's address.
pub(crate) const HTTP: &str = "127.0.0.1:8080";
/// The SSH server's address.
pub(crate) const SSH: &str = "127.0.0.1:2222";

/// A running platform.
pub(crate) struct Platform {
    programs: PathBuf,
    stopping: Arc<AtomicBool>,
    ended: mpsc::Receiver<Result<()>>,
}

impl Platform {
    /// Starts `berthd serve` and keeps it running.
    pub(crate) fn start(programs: &Path) -> Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let (tell, ended) = mpsc::channel();
        let mut child = serve(programs)?;
        let (programs, stop) = (programs.to_owned(), Arc::clone(&stopping));
        let again = programs.clone();
        std::thread::spawn(move || {
            let mut pause = Duration::from_millis(200);
            loop {
                let begun = Instant::now();
                let status = child.wait();
                if stop.load(Ordering::SeqCst) {
                    let _ = tell.send(Ok(()));
                    return;
                }
                // 64: the configuration is wrong, another try changes nothing.
                if status.as_ref().is_ok_and(|status| status.code() == Some(64)) {
                    let _ = tell.send(Err(anyhow::anyhow!("berthd refused its configuration")));
                    return;
                }
                shell::say(&format!(" !     berthd ended ({status:?}); starting it again"));
                if begun.elapsed() > Duration::from_secs(10) {
                    pause = Duration::from_millis(200);
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_secs(5));
                child = match serve(&again) {
                    Ok(child) => child,
                    Err(error) => {
                        let _ = tell.send(Err(error));
                        return;
                    }
                };
            }
        });
        Ok(Self { programs, stopping, ended })
    }

    /// Waits for `GET /healthz` to answer 200.
    pub(crate) fn wait_until_healthy(&self, interrupts: &AtomicUsize) -> Result<()> {
        shell::step("Starting the platform", || {
            let deadline = Instant::now() + Duration::from_secs(60);
            while Instant::now() < deadline {
                if interrupts.load(Ordering::SeqCst) > 0 {
                    bail!("interrupted");
                }
                if let Ok(Err(error)) = self.ended.try_recv() {
                    return Err(error);
                }
                if super::samples::get(API, "localhost", "/healthz")
                    .is_ok_and(|status| status == 200)
                {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            bail!("berthd does not answer on {API} after 60 s; its messages are above")
        })
    }

    /// Returns at Ctrl-C, or when the platform cannot be kept running.
    pub(crate) fn wait_for_interrupt(&self, interrupts: &AtomicUsize) {
        while interrupts.load(Ordering::SeqCst) == 0 {
            if let Ok(Err(error)) = self.ended.recv_timeout(Duration::from_millis(100)) {
                shell::say(&format!(" !     {error:#}"));
                return;
            }
        }
    }

    /// Stops instances, router and agent; data stays.
    pub(crate) fn stop(self, _interrupts: &AtomicUsize) -> Result<()> {
        self.stopping.store(true, Ordering::SeqCst);
        shell::step("Stopping the platform", || {
            down(&self.programs, 10_000)?;
            match self.ended.recv_timeout(Duration::from_secs(30)) {
                Ok(result) => result,
                Err(_) => bail!("berthd did not end within 30 s"),
            }
        })
    }

    /// What the second Ctrl-C does.
    pub(crate) fn down_at_once(&self) -> impl Fn() + Send + 'static {
        let (programs, stopping) = (self.programs.clone(), Arc::clone(&self.stopping));
        move || {
            stopping.store(true, Ordering::SeqCst);
            if let Err(error) = down(&programs, 0) {
                shell::say(&format!(" !     {error:#}"));
            }
        }
    }
}

fn serve(programs: &Path) -> Result<Child> {
    let mut command = shell::as_root(programs.join("berthd"));
    command
        .args(["serve", "--data", DATA, "--http", HTTP, "--api", API, "--ssh", SSH, "--admin-uid"])
        .arg(shell::own_uid().to_string())
        .stdin(Stdio::null())
        // Its own group: Ctrl-C reaches us alone, and we say `down`.
        .process_group(0);
    command.spawn().context("cannot start berthd")
}

fn down(programs: &Path, grace_ms: u32) -> Result<()> {
    shell::capture(
        shell::as_root(programs.join("berthd"))
            .args(["down", "--data", DATA, "--grace-ms", &grace_ms.to_string()])
            .process_group(0),
    )
    .map(drop)
}
