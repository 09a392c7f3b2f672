//! Terminals of containers: always from the container's own devpts, so that its programs can
//! name them.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use berth_container::Terminal;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::failure::{Because, Failure};

/// Where the container runtime sends the master of the main process's terminal.
pub(crate) struct Console {
    path: PathBuf,
    listener: UnixListener,
}

impl Console {
    pub(crate) fn listen(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join("console");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).because(|| "listening for a terminal")?;
        Ok(Self { path, listener })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The master, which was sent before the runtime returned.
    pub(crate) fn accept(self, size: Option<Terminal>) -> Result<OwnedFd, Failure> {
        self.listener.set_nonblocking(true).because(|| "waiting for a terminal")?;
        let (stream, _) = self.listener.accept().because(|| "waiting for a terminal")?;
        let _ = std::fs::remove_file(&self.path);
        let mut name = [0_u8; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut name)];
        recvmsg(&stream, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            .because(|| "receiving a terminal")?;
        let master = ancillary
            .drain()
            .find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
                _ => None,
            })
            .ok_or_else(|| Failure::machine("the container sent no terminal"))?;
        drop(stream.take(0));
        resize(&master, size)?;
        Ok(master)
    }
}

/// A new terminal of the mount namespace that the caller is in: master and its other end.
pub(crate) fn open(size: Terminal) -> Result<(OwnedFd, OwnedFd), Failure> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = openat(CWD, "/dev/pts/ptmx", flags, Mode::empty())
        .because(|| "opening the container's /dev/pts/ptmx")?;
    unlockpt(&master).because(|| "unlocking a terminal")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let end = ioctl_tiocgptpeer(&master, flags).because(|| "opening a terminal")?;
    resize(&master, Some(size))?;
    Ok((master, end))
}

fn resize(master: &OwnedFd, size: Option<Terminal>) -> Result<(), Failure> {
    let Some(size) = size else { return Ok(()) };
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master.as_fd(), size).because(|| "setting a terminal's size")
}
