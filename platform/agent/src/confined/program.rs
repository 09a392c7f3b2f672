//! A program in a view of its own: system folders read-only, what it is shown, nothing else.
//!
//! It runs under an id of the platform as a child of the platform's init, which is process 1 of a
//! new process namespace: whatever the program leaves behind ends with it.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount, mount_remount};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use super::mounts::{Attributes, attach, become_root, clone_tree, own_root};
use super::privileges::{Kept, Limits, bind_to_agent, drop_to, leave_network};
use crate::failure::{Because, Failure};

/// Folders of the system, where they are. Some are links on most machines.
const SYSTEM: [&str; 6] = ["usr", "bin", "sbin", "lib", "lib32", "lib64"];
const DEVICES: [&str; 3] = ["null", "zero", "urandom"];
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
        self.build_view()?;
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

    fn build_view(&self) -> Result<(), Failure> {
        let root = &self.view;
        let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
        mount("view", root, "tmpfs", flags, c"mode=0755,size=64k")
            .because(|| format!("mounting a view at {}", root.display()))?;
        let programs = Attributes { executable: true, ..Attributes::default() };
        for name in SYSTEM {
            let host = Path::new("/").join(name);
            match fs::symlink_metadata(&host) {
                Ok(found) if found.is_symlink() => {
                    let target = fs::read_link(&host).because(|| format!("reading /{name}"))?;
                    std::os::unix::fs::symlink(target, root.join(name))
                        .because(|| format!("showing /{name}"))?;
                }
                Ok(found) if found.is_dir() => self.show(&host, name, programs)?,
                _ => {}
            }
        }
        self.show(&self.bin, PROGRAMS, programs)?;
        for shown in &self.shown {
            let attributes = Attributes { writable: shown.writable, ..Attributes::default() };
            self.show(&shown.from, &shown.name, attributes)?;
        }
        self.show_devices()?;
        self.show_file("/etc/ld.so.cache", Attributes::default())?;
        mount_remount(root, flags | MountFlags::RDONLY, c"")
            .because(|| "closing the view")?;
        become_root(root)
    }

    fn show(&self, from: &Path, name: &str, attributes: Attributes<'_>) -> Result<(), Failure> {
        let at = self.view.join(name);
        let tree = clone_tree(from, attributes)?;
        fs::create_dir(&at).because(|| format!("showing /{name}"))?;
        attach(&tree, &at)
    }

    fn show_devices(&self) -> Result<(), Failure> {
        for name in DEVICES {
            let path = format!("/dev/{name}");
            let at = self.view.join(&path[1..]);
            fs::create_dir_all(self.view.join("dev")).because(|| "showing /dev")?;
            fs::write(&at, "").because(|| format!("showing {path}"))?;
            // A plain bind keeps the device usable; the view itself allows none.
            rustix::mount::mount_bind(&path, &at).because(|| format!("showing {path}"))?;
        }
        Ok(())
    }

    /// A file that may be missing.
    fn show_file(&self, path: &str, attributes: Attributes<'_>) -> Result<(), Failure> {
        if !Path::new(path).exists() {
            return Ok(());
        }
        let at = self.view.join(&path[1..]);
        let folder = at.parent().unwrap_or(&self.view);
        fs::create_dir_all(folder).because(|| format!("showing {path}"))?;
        fs::write(&at, "").because(|| format!("showing {path}"))?;
        attach(&clone_tree(Path::new(path), attributes)?, &at)
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
            let env = self.env.iter().map(|(name, value)| text(format!("{name}={value}").as_bytes()));
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

/// Ends as the program ended.
fn wait(child: nix::unistd::Pid) -> ! {
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
