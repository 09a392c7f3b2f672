//! The system calls that the standard library does not offer, as safe functions.
#![expect(unsafe_code, reason = "signals, fork and exec have no safe interface")]

use std::ffi::{CStr, CString, OsStr, c_int};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

/// What happened to this process or its children.
pub(crate) enum Event {
    /// A child ended or stopped.
    Child,
    /// A signal came from outside.
    Signal(c_int),
}

/// How a child ended.
pub(crate) struct Ended {
    pub(crate) pid: i32,
    /// Its exit code; 128 + signal when a signal ended it.
    pub(crate) code: i32,
}

/// Gives every signal its default disposition; ignored ones survive exec otherwise.
pub(crate) fn reset_dispositions() {
    // The kernel's structure: handler, flags, restorer, mask. All zero is SIG_DFL.
    let default = [0_usize; 4];
    for signal in 1..=64_usize {
        // By the system call, because C libraries refuse to touch the two signals they use.
        // SAFETY: SIG_DFL installs no code, and `default` has the kernel's size and outlives the
        // call. Errors (KILL and STOP have no disposition) are fine.
        unsafe {
            let none = std::ptr::null_mut::<usize>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, 8_usize);
        }
    }
}

/// Blocks every signal, so that [`wait_event`] sees them all.
pub(crate) fn block_signals() {
    set_mask(true);
}

fn set_mask(block: bool) {
    // SAFETY: the set is initialised by the call before its use; both calls only read and write it.
    unsafe {
        let mut set = std::mem::zeroed();
        if block {
            libc::sigfillset(&mut set)
        } else {
            libc::sigemptyset(&mut set)
        };
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

/// Waits for the next blocked signal.
pub(crate) fn wait_event() -> Event {
    loop {
        // SAFETY: the set is initialised by sigfillset; sigwaitinfo takes a null for the details.
        let signal = unsafe {
            let mut set = std::mem::zeroed();
            libc::sigfillset(&mut set);
            libc::sigwaitinfo(&set, std::ptr::null_mut())
        };
        match signal {
            libc::SIGCHLD => return Event::Child,
            signal if signal > 0 => return Event::Signal(signal),
            // EINTR after a stop and continue.
            _ => {}
        }
    }
}

/// Reaps one child that has ended, if there is one.
pub(crate) fn reap() -> Option<Ended> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the result.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    if pid <= 0 {
        return None;
    }
    let code = if libc::WIFSIGNALED(status) {
        128 + libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    };
    Some(Ended { pid, code })
}

/// Sends a signal to the process group of a child.
pub(crate) fn signal_group(leader: i32, signal: c_int) {
    // SAFETY: sending a signal touches no memory. A group that is gone is fine.
    unsafe { libc::kill(-leader, signal) };
}

/// Descriptor 3 as it was inherited; using it when it is not open is an error, not harm.
pub(crate) fn descriptor_three() -> BorrowedFd<'static> {
    // SAFETY: nothing in this program closes descriptor 3 while the relay runs, and the relay
    // opens nothing before it has asked for it.
    unsafe { BorrowedFd::borrow_raw(3) }
}

/// Asks the kernel to kill this process when its parent ends.
pub(crate) fn die_with_parent() {
    // SAFETY: the option takes a number.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Starts `argv` in a process group of its own: in the foreground of the controlling terminal
/// where standard input is one, else in a new session. Gives its pid.
///
/// The calling process must have one thread.
pub(crate) fn spawn(argv: &[impl AsRef<OsStr>]) -> io::Result<i32> {
    let argv: Vec<CString> =
        argv.iter().map(|word| CString::new(word.as_ref().as_bytes())).collect::<Result<_, _>>()?;
    // SAFETY: this process has one thread, so the child may do anything.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            enter_group();
            set_mask(false);
            let error = execute(&argv);
            std::process::exit(crate::process_one::not_started(&argv[0], &error))
        }
        pid => Ok(pid),
    }
}

/// Replaces this process by the program, looked up in PATH if its name has no slash. What cannot
/// be run is an error, never handed to a shell instead.
fn execute(argv: &[CString]) -> io::Error {
    let name = argv[0].as_bytes();
    if name.contains(&b'/') {
        return execute_file(&argv[0], argv);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut last = io::Error::from_raw_os_error(libc::ENOENT);
    for folder in path.as_bytes().split(|byte| *byte == b':').filter(|folder| !folder.is_empty()) {
        let Ok(file) = CString::new([folder, b"/", name].concat()) else { continue };
        let error = execute_file(&file, argv);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            // A directory later in PATH may have one that works.
            Some(libc::EACCES) => last = error,
            _ => return error,
        }
    }
    last
}

fn execute_file(file: &CStr, argv: &[CString]) -> io::Error {
    let mut pointers: Vec<_> = argv.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: `pointers` ends with a null, and its strings outlive the call.
    unsafe { libc::execv(file.as_ptr(), pointers.as_ptr()) };
    io::Error::last_os_error()
}

fn enter_group() {
    // SAFETY: none of these touches memory; each may fail, and then the state before it holds.
    // The caller blocks signals, so taking the foreground cannot stop the process (SIGTTOU).
    unsafe {
        if libc::isatty(0) == 1 && libc::tcgetsid(0) == libc::getsid(0) {
            libc::setpgid(0, 0);
            libc::tcsetpgrp(0, libc::getpid());
        } else {
            libc::setsid();
            if libc::isatty(0) == 1 {
                libc::ioctl(0, libc::TIOCSCTTY, 0);
            }
        }
    }
}
