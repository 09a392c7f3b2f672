//! Kills a process exactly after something that it wrote.
//!
//! The kernel tells of every write; the process is stopped at it, what it has written is looked at,
//! and it is killed there or goes on. It is the product as it is: nothing in it knows of this.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// A file that came to its place by rename: the number of its folder and its name.
pub type Renamed = (usize, String);

/// Watches folders from its making on.
pub struct Watch {
    inotify: OwnedFd,
    numbers: Vec<i32>,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Panics
    /// When a folder is not there.
    pub fn on(folders: &[&Path]) -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).expect("inotify");
        let flags = WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::CREATE;
        let numbers = folders.iter().map(|folder| {
            inotify::add_watch(&inotify, *folder, flags)
                .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        });
        let numbers = numbers.collect();
        Self { inotify, numbers }
    }

    /// Whatever was written since; waits a little when nothing was. Nothing at all is `None`.
    fn next(&self) -> Option<Vec<Renamed>> {
        let wait = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let _ = poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], Some(&wait));
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut renamed = None;
        loop {
            match reader.next() {
                Ok(event) => {
                    let renamed = renamed.get_or_insert_with(Vec::new);
                    let number = self.numbers.iter().position(|wd| *wd == event.wd());
                    if event.events().contains(inotify::ReadFlags::MOVED_TO)
                        && let (Some(number), Some(name)) = (number, event.file_name())
                    {
                        renamed.push((number, name.to_string_lossy().into_owned()));
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => return renamed,
            }
        }
    }

    /// Stops `pid` at each write, and now and then without one, and asks `seen` about the files that were renamed since the last
    /// one. At its first yes the process is left stopped, and true is given; false when `over` says
    /// that nothing will come any more.
    ///
    /// # Panics
    /// After `seconds` without either.
    #[track_caller]
    pub fn stop_when(
        &self,
        pid: u32,
        seconds: u64,
        mut seen: impl FnMut(&[Renamed]) -> bool,
        mut over: impl FnMut() -> bool,
    ) -> bool {
        let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < Duration::from_secs(seconds), "nothing came in {seconds} s");
            // Without a write the last one is looked at again: others see a commit a moment after
            // its bytes were written.
            let mut renamed = match self.next() {
                Some(renamed) => renamed,
                None if over() => return false,
                None => Vec::new(),
            };
            kill(pid, Signal::SIGSTOP).expect("SIGSTOP");
            await_stop(pid);
            // What was renamed until the stop counts as well.
            renamed.extend(self.rest());
            if seen(&renamed) {
                return true;
            }
            kill(pid, Signal::SIGCONT).expect("SIGCONT");
        }
    }

    fn rest(&self) -> Vec<Renamed> {
        let mut all = Vec::new();
        let ready = |watch: &Self| {
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            let mut fds = [PollFd::new(&watch.inotify, PollFlags::IN)];
            poll(&mut fds, Some(&now)).is_ok_and(|count| count > 0)
        };
        while ready(self) {
            all.extend(self.next().unwrap_or_default());
        }
        all
    }
}

/// The signal takes effect when each thread is back from the kernel; one that is gone needs none.
fn await_stop(pid: Pid) {
    let begun = Instant::now();
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')) {
            return;
        }
        if stat.is_empty() {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "it does not stop: {stat}");
        std::thread::yield_now();
    }
}
