//! Runs programs and shows that time passes.

use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Writes one line for people.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
}

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    // What `cargo run` says now: a target folder that several clones share may hold the program
    // as another clone compiled it.
    let own = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    own.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")))
        .join("../..")
        .canonicalize()
        .unwrap_or_else(|_| PathBuf::from("."))
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(path) => PathBuf::from(path),
        None => root().join("target"),
    }
}

/// A command that starts in the workspace's root.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// What root needs of the caller's environment: how the world is reached.
const KEPT: &str =
    "DEBIAN_FRONTEND,HTTPS_PROXY,https_proxy,HTTP_PROXY,http_proxy,NO_PROXY,no_proxy";
/// What tests and benches that run as root read of it besides, and every variable of ours.
const KEPT_OF_TESTS: &str = "PATH,TMPDIR,RUST_BACKTRACE,NEXTEST,NEXTEST_RUN_ID,\
     NEXTEST_EXECUTION_MODE,CARGO_MANIFEST_DIR,CARGO_TARGET_DIR,BERTH_PROGRAMS,BERTH_WASMTIME";
/// A password is remembered for some minutes; it is used again well before.
const SUDO_PERIOD: Duration = Duration::from_secs(60);

/// A command as root: through sudo where we are not root. It never asks for a password, because it
/// may run where nobody can answer: call [`authorize`] before.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return command(program);
    }
    let mut sudo = command("sudo");
    sudo.args(["-n", "-H", &format!("--preserve-env={KEPT}"), "--"]);
    sudo.arg(program);
    sudo
}

/// Makes sure that [`as_root`] works from here on: sudo asks for its password now, in the
/// foreground, if it must, and is kept from forgetting it for as long as this program runs.
pub(crate) fn authorize() -> Result<()> {
    static KEPT_AWAKE: std::sync::Once = std::sync::Once::new();
    if is_root() {
        return Ok(());
    }
    if !has("sudo") {
        bail!("root is needed here: install sudo, or run this as root");
    }
    let may = || capture(as_root("true").stderr(Stdio::null())).is_ok();
    if !may() {
        say("-----> sudo asks for your password: packages, containers and their agent need root");
        run(Command::new("sudo").arg("-v"))
            .context("without sudo nothing can be started; run this as root instead")?;
        if !may() {
            bail!(
                "sudo forgets the password at once (timestamp_timeout in sudoers); run this as root instead"
            );
        }
    }
    KEPT_AWAKE.call_once(|| {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(SUDO_PERIOD);
                // Where it is forgotten all the same, the next use says so.
                let _ = capture(Command::new("sudo").args(["-n", "-v"]));
            }
        });
    });
    Ok(())
}

/// Lets cargo start what it built as root: through sudo where we are not root.
pub(crate) fn as_root_runner(cargo: &mut Command) {
    if is_root() {
        return;
    }
    let ours = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("BERTH_"))
        .fold(String::new(), |names, name| format!("{names},{name}"));
    let architecture = std::env::consts::ARCH.to_uppercase();
    let library = if cfg!(target_env = "musl") { "MUSL" } else { "GNU" };
    cargo.env(
        format!("CARGO_TARGET_{architecture}_UNKNOWN_LINUX_{library}_RUNNER"),
        format!("sudo -n -H --preserve-env={KEPT},{KEPT_OF_TESTS}{ours} --"),
    );
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    own_uid() == 0
}

/// The id of the user who called us.
pub(crate) fn own_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    // Nobody where there is no /proc: sudo is asked then.
    std::fs::metadata("/proc/self").map_or(65_534, |own| own.uid())
}

/// Whether a program is on the PATH.
pub(crate) fn has(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|folder| folder.join(program).is_file())
    })
}

/// Runs a command that speaks for itself; an exit code other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.status().with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}

/// Runs a command silently and gives its output; on failure the error holds what it said.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {shown}"))?;
    if !output.status.success() {
        bail!(
            "{shown} ended with {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn show(command: &Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    command
        .get_args()
        .fold(program, |shown, argument| format!("{shown} {}", argument.to_string_lossy()))
}

/// Does something that takes a while: its name stands on the terminal with the seconds passing,
/// and its time when it is done.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let result = wait(name, work);
    match &result {
        Ok(_) => say(&format!("-----> {name} ({:.1} s)", begun.elapsed().as_secs_f32())),
        Err(_) => {
            say(&format!(" !     {name} failed after {:.1} s", begun.elapsed().as_secs_f32()))
        }
    }
    result
}

/// Does something that is over at once as a rule: only where it is not, its name stands on the
/// terminal with the seconds passing.
pub(crate) fn wait<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let _moving = Moving::start(name);
    work()
}

/// A line that changes while something is waited for.
struct Moving {
    done: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Moving {
    fn start(name: &str) -> Self {
        let done = Arc::new((Mutex::new(false), Condvar::new()));
        let seen = Arc::clone(&done);
        let name = name.to_owned();
        let terminal = std::io::stderr().is_terminal();
        let shown = AtomicBool::new(false);
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            let (lock, changed) = &*seen;
            // A poisoned lock means that the waiter is gone: nothing is left to show.
            let Ok(mut finished) = lock.lock() else { return };
            // On a terminal each second, in a log file now and then.
            let period = Duration::from_secs(if terminal { 1 } else { 15 });
            while !*finished {
                let Ok((next, timeout)) = changed.wait_timeout(finished, period) else { return };
                finished = next;
                if timeout.timed_out() && !*finished {
                    let line = format!("       {name} … {} s", begun.elapsed().as_secs());
                    if terminal {
                        let _ = write!(std::io::stderr(), "\r{line}");
                        shown.store(true, Ordering::Relaxed);
                    } else {
                        say(&line);
                    }
                }
            }
            if shown.load(Ordering::Relaxed) {
                let _ = write!(std::io::stderr(), "\r\x1b[K");
            }
        });
        Self { done, thread: Some(thread) }
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        let (lock, changed) = &*self.done;
        if let Ok(mut finished) = lock.lock() {
            *finished = true;
        }
        changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
