//! Process 1 of a container: passes signals on, reaps what others left, ends as its child ends.

use std::ffi::{CStr, OsString};
use std::io;

use crate::system::{self, Event};

/// Found, but it cannot be run.
const EXIT_CANNOT_RUN: i32 = 126;
/// Not found.
const EXIT_NOT_FOUND: i32 = 127;

/// Signals that mean something between a terminal and its processes, or that only a kernel sends.
const NOT_PASSED_ON: [i32; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// Runs `argv` and ends with its exit code, or 128 + signal. Signals go to its process group: a
/// shell that waits for the real program does not pass them on itself.
pub(crate) fn run(argv: &[OsString]) -> i32 {
    prepare();
    let main = match system::spawn(argv) {
        Ok(pid) => pid,
        Err(error) => {
            eprintln!("berth-init: cannot start {}: {error}", argv[0].display());
            return EXIT_CANNOT_RUN;
        }
    };
    loop {
        match system::wait_event() {
            Event::Child => {
                let mut code = None;
                while let Some(ended) = system::reap() {
                    if ended.pid == main {
                        code = Some(ended.code);
                    }
                }
                if let Some(code) = code {
                    return code;
                }
            }
            Event::Signal(signal) if NOT_PASSED_ON.contains(&signal) => {}
            Event::Signal(signal) => system::signal_group(main, signal),
        }
    }
}

/// Keeps a container alive and reaps until SIGTERM or SIGINT.
pub(crate) fn idle() -> i32 {
    prepare();
    loop {
        match system::wait_event() {
            Event::Child => while system::reap().is_some() {},
            Event::Signal(libc::SIGTERM | libc::SIGINT) => return 0,
            Event::Signal(_) => {}
        }
    }
}

fn prepare() {
    system::block_signals();
    system::reset_dispositions();
    if std::process::id() == 1 {
        // A container whose run process died must not live on unseen.
        system::die_with_parent();
    }
}

/// Says why a program did not start, in the child, and gives the exit code that shells use.
pub(crate) fn not_started(program: &CStr, error: &io::Error) -> i32 {
    let name = program.to_string_lossy();
    let (code, why) = match error.raw_os_error() {
        Some(libc::ENOENT) if name.contains('/') => (
            EXIT_NOT_FOUND,
            "there is no such file, or the interpreter in its '#!' line is missing".to_owned(),
        ),
        Some(libc::ENOENT) => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            (EXIT_NOT_FOUND, format!("it is not in PATH ({})", path.display()))
        }
        Some(libc::EACCES) => {
            (EXIT_CANNOT_RUN, "it is not executable: set its executable bit (chmod +x)".to_owned())
        }
        Some(libc::ENOEXEC) => (
            EXIT_CANNOT_RUN,
            "it is neither a program for this machine nor a script with a '#!' line".to_owned(),
        ),
        _ => (EXIT_CANNOT_RUN, error.to_string()),
    };
    eprintln!("berth-init: cannot run '{name}': {why}");
    code
}
