//! A disk as a sparse file with a file system of its own, mounted through a loop device, which the
//! kernel frees with its last user.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, mount};

use super::{Life, inodes};
use crate::failure::{Because, Failure};

/// Makes (or empties) a sparse file of `mib` MiB with an ext4 file system.
pub(super) fn make(path: &Path, mib: u32, life: Life) -> Result<(), Failure> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .because(|| format!("making the disk {}", path.display()))?;
    file.set_len(u64::from(mib) << 20).because(|| format!("sizing the disk {}", path.display()))?;
    // No blocks kept for root, no discard of a file that is new.
    let features = match life {
        Life::OneContainer => "^has_journal,^resize_inode",
        Life::Kept => "^resize_inode",
    };
    let output = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-m", "0", "-O", features, "-E"])
        .args(["lazy_itable_init=1,nodiscard,root_owner=0:0", "-N"])
        .arg(inodes(mib).to_string())
        .arg(path)
        .stdin(Stdio::null())
        .env_clear()
        .env("PATH", crate::PROGRAM_PATH)
        .output()
        .because(|| "starting mkfs.ext4 (package e2fsprogs)")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::machine(format!("mkfs.ext4 on {} failed: {}", path.display(), said.trim())))
}

/// Whether this machine lets us have loop devices: some that are containers themselves do not.
pub(super) fn is_possible() -> bool {
    let control = OpenOptions::new().read(true).write(true).open(CONTROL);
    control.and_then(|control| free_number(&control)).is_ok_and(|number| {
        // Without its node a number is of no use.
        Path::new(&device(number)).exists()
    })
}

/// Mounts a disk in the caller's mount namespace. The loop device lives as long as the mount.
pub(super) fn attach(path: &Path, target: &Path) -> Result<(), Failure> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .because(|| format!("opening the disk {}", path.display()))?;
    let (name, _device) =
        loop_device(&file).because(|| format!("finding a loop device for {}", path.display()))?;
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOATIME;
    mount(&name, target, "ext4", flags, c"discard")
        .because(|| format!("mounting the disk {} on {}", path.display(), target.display()))
}

/// Whether a loop device has the file, and so perhaps a mount the file system in it.
pub(super) fn is_attached(path: &Path) -> Result<bool, Failure> {
    let devices = std::fs::read_dir("/sys/block").because(|| "listing /sys/block")?;
    Ok(devices.flatten().any(|device| {
        // One without a file has no such entry.
        let file = std::fs::read(device.path().join("loop/backing_file"));
        file.is_ok_and(|file| file.trim_ascii_end() == path.as_os_str().as_bytes())
    }))
}

const CONTROL: &str = "/dev/loop-control";
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// Another process may take the free device first; each try is a new number.
const LOOP_TRIES_MAX: u32 = 64;

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    /// `lo_device`, `lo_inode`, `lo_rdevice`, `lo_offset`, `lo_sizelimit`.
    places: [u64; 5],
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    /// File name, crypt name and key, which stay empty.
    texts: [u8; 64 + 64 + 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// Binds `file` to a free loop device, which the kernel frees with its last user.
fn loop_device(file: &File) -> std::io::Result<(String, OwnedFd)> {
    let control = OpenOptions::new().read(true).write(true).open(CONTROL)?;
    let fd = u32::try_from(file.as_raw_fd()).map_err(std::io::Error::other)?;
    let config = LoopConfig {
        fd,
        block_size: 0,
        places: [0; 5],
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: LO_FLAGS_AUTOCLEAR,
        texts: [0; 160],
        init: [0; 2],
        reserved: [0; 8],
    };
    let mut tries = 0;
    loop {
        let name = device(free_number(&control)?);
        let device = OpenOptions::new().read(true).write(true).open(&name)?;
        #[expect(
            unsafe_code,
            reason = "the structure has the kernel's layout and outlives the call"
        )]
        let bound = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
        if bound == 0 {
            return Ok((name, device.into()));
        }
        let error = std::io::Error::last_os_error();
        tries += 1;
        if error.raw_os_error() != Some(libc::EBUSY) || tries == LOOP_TRIES_MAX {
            return Err(error);
        }
    }
}

/// The number of a device that nobody uses at this moment; the kernel makes one where there is
/// none.
fn free_number(control: &File) -> std::io::Result<i32> {
    #[expect(unsafe_code, reason = "ioctl without an argument on a descriptor that we hold")]
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
    if number < 0 { Err(std::io::Error::last_os_error()) } else { Ok(number) }
}

fn device(number: i32) -> String {
    format!("/dev/loop{number}")
}
