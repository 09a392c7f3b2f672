//! A program in a view of its own: system folders read-only, what it is shown, nothing else.
//!
//! It runs under an id of the platform as a child of the platform's init, which is process 1 of a
//! new process namespace: whatever the program leaves behind ends with it.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use super::mounts::{Attributes, own_root};
use super::privileges::{Kept, Limits, bind_to_agent, drop_to, leave_network};
use super::view::View;
use crate::failure::{Because, Failure};

/// Where the platform's own programs are in the view.
const PROGRAMS: &str = "berth";

/// What runs, and in which view.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Program {
    /// An empty folder to build the view on.
    pub(crate) view: PathBuf,
    /// The folder of the platform's programs; shown at `/berth`, where init is looked for.
    pub(crate) bin: PathBuf,
    /// What else is shown.
    pub(crate) shown: Vec<Shown>,
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// Host user and group id.
    pub(crate) id: u32,
    pub(crate) limits: Limits,
}

/// A folder in the view.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) from: PathBuf,
    /// Name at the root of the view.
    pub(crate) name: String,
    pub(crate) writable: bool,
}

impl Program {
    /// Becomes the program, with the descriptors as 0, 1, 2 and so on. Returns in the process that
    /// waits for it, never: it ends with the program's exit code.
    pub(crate) fn become_it(self, descriptors: Vec<OwnedFd>) -> Result<(), Failure> {
        own_root()?;
        self.enter_view()?;
        leave_network()?;
        #[expect(unsafe_code, reason = "this process has one thread")]
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) }
            .because(|| "making a process namespace")?;
        #[expect(unsafe_code, reason = "this process has one thread")]
        match unsafe { nix::unistd::fork() }.because(|| "forking")? {
            nix::unistd::ForkResult::Parent { child } => {
                // Only the program may keep these open: their ends mean something.
                drop(descriptors);
                wait(child)
            }
            nix::unistd::ForkResult::Child => {
                place(descriptors)?;
                drop_to(self.id, Kept::Nothing, self.limits)?;
                bind_to_agent()?;
                crate::runner::reset_signals();
                Err(self.execute())
            }
        }
    }

    fn enter_view(&self) -> Result<(), Failure> {
        let view = View::begin(&self.view)?;
        let programs = Attributes { executable: true, ..Attributes::default() };
        view.folder(&self.bin, PROGRAMS, programs)?;
        for shown in &self.shown {
            let attributes = Attributes { writable: shown.writable, ..Attributes::default() };
            view.folder(&shown.from, &shown.name, attributes)?;
        }
        for device in ["null", "zero", "urandom"] {
            view.device(device)?;
        }
        view.enter()
    }

    /// Returns only on failure.
    fn execute(&self) -> Failure {
        let text = |text: &[u8]| CString::new(text).because(|| "preparing the program");
        let prepared = || -> Result<_, Failure> {
            let init = text(format!("/{PROGRAMS}/berth-init").as_bytes())?;
            let mut argv = vec![init.clone(), text(b"--")?];
            for word in &self.argv {
                argv.push(text(word.as_bytes())?);
            }
            let env =
                self.env.iter().map(|(name, value)| text(format!("{name}={value}").as_bytes()));
            Ok((init, argv, env.collect::<Result<Vec<_>, _>>()?))
        };
        match prepared() {
            Ok((init, argv, env)) => match nix::unistd::execve(&init, &argv, &env) {
                Err(error) => Failure::machine(format!(
                    "executing {} failed: {error}",
                    Path::new(std::ffi::OsStr::from_bytes(init.as_bytes())).display()
                )),
                Ok(never) => match never {},
            },
            Err(failure) => failure,
        }
    }
}

/// Puts the descriptors at 0, 1, 2…; everything above closes with the exec.
pub(crate) fn place(descriptors: Vec<OwnedFd>) -> Result<(), Failure> {
    // Out of the way first, so that none is overwritten before its turn.
    let moved: Vec<OwnedFd> = descriptors
        .into_iter()
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(&fd, 64))
        .collect::<Result<_, _>>()
        .because(|| "moving descriptors")?;
    for (number, fd) in (0..).zip(&moved) {
        nix::unistd::dup2(fd.as_raw_fd(), number).because(|| "placing descriptors")?;
    }
    let first = libc::c_uint::try_from(moved.len()).unwrap_or(3).max(3);
    #[expect(unsafe_code, reason = "marks descriptors for closing at exec; none is closed now")]
    let marked = unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    if marked == 0 { Ok(()) } else { Err(Failure::machine("closing descriptors failed")) }
}

/// Ends as the process in the new namespace ended.
pub(crate) fn wait(child: nix::unistd::Pid) -> ! {
    use nix::sys::wait::{WaitStatus, waitpid};
    // The agent hears the end of the socket when the program took over.
    close_everything();
    let code = loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => break code,
            Ok(WaitStatus::Signaled(_, signal, _)) => break 128 + signal as i32,
            Err(nix::errno::Errno::EINTR) | Ok(_) => {}
            Err(_) => break 1,
        }
    };
    std::process::exit(code)
}

fn close_everything() {
    #[expect(unsafe_code, reason = "this process only waits and ends from here on")]
    unsafe {
        libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0);
    }
}
