//! Project quotas: the kernel bounds a folder of a file system that others use too. ext4 and XFS
//! have them, where the file system was made and mounted for it (`prjquota`).

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Bound, Size};

/// `FS_IOC_FSGETXATTR`, `FS_IOC_FSSETXATTR` and `FS_XFLAG_PROJINHERIT` of linux/fs.h.
const GET_ATTRIBUTES: libc::c_ulong = 0x801c_581f;
const SET_ATTRIBUTES: libc::c_ulong = 0x401c_5820;
const INHERIT: u32 = 0x200;
/// `PRJQUOTA`, `Q_SETQUOTA`, `QIF_LIMITS` of linux/quota.h.
const PROJECT: u32 = 2;
const SET_QUOTA: u32 = 0x0080_0008;
const LIMITS: u32 = 5;
/// `Q_XGETQSTATV`, `FS_QSTATV_VERSION1` and `FS_QUOTA_PDQ_ENFD` of linux/dqblk_xfs.h.
const GET_STATE: u32 = 0x5808;
const STATE_VERSION: u8 = 1;
const PROJECTS_ENFORCED: u16 = 1 << 5;
/// Numbers of our projects are above those that people give theirs.
const OURS: u32 = 0x4000_0000;

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_bytes: u32,
    extents: u32,
    project: u32,
    copy_extent_bytes: u32,
    reserved: [u8; 8],
}

/// Bounds an empty folder, or one that was bounded before.
pub(super) fn bound(path: &Path, size: Size) -> Bound {
    let bounded = is_enforced(path)
        && File::open(path)
            .and_then(|folder| {
                let inode = u32::try_from(folder.metadata()?.ino() % u64::from(OURS));
                let project = OURS | inode.map_err(std::io::Error::other)?;
                limit(&folder, project, size)?;
                let mut attributes = attributes(&folder)?;
                attributes.project = project;
                attributes.flags |= INHERIT;
                set_attributes(&folder, &attributes)
            })
            .is_ok();
    if bounded { Bound::Kernel } else { Bound::Watched }
}

/// Gives the project's number free, before its folder goes.
pub(super) fn release(path: &Path) {
    let Ok(folder) = File::open(path) else { return };
    if let Ok(attributes) = attributes(&folder)
        && attributes.project & OURS != 0
    {
        // A number without limits is one that nobody uses; a failure leaves limits on a number
        // that is only ever given with new ones.
        let _ = limit(&folder, attributes.project, Size { bytes: 0, files: 0 });
    }
}

/// Whether the file system that holds `path` enforces limits of projects.
pub(super) fn is_enforced(path: &Path) -> bool {
    let Ok(folder) = File::open(path) else { return false };
    // Longer than `struct fs_quota_statv`, whose first bytes are version, padding, flags.
    let mut state = [0_u8; 512];
    state[0] = STATE_VERSION;
    let asked = quotactl(&folder, GET_STATE, 0, state.as_mut_ptr().cast());
    let flags = u16::from_ne_bytes([state[2], state[3]]);
    asked.is_ok() && flags & PROJECTS_ENFORCED != 0
}

fn limit(folder: &File, project: u32, size: Size) -> std::io::Result<()> {
    // Blocks are 1 KiB.
    let blocks = size.bytes / 1024;
    let mut wanted = libc::dqblk {
        dqb_bhardlimit: blocks,
        dqb_bsoftlimit: blocks,
        dqb_curspace: 0,
        dqb_ihardlimit: size.files,
        dqb_isoftlimit: size.files,
        dqb_curinodes: 0,
        dqb_btime: 0,
        dqb_itime: 0,
        dqb_valid: LIMITS,
    };
    quotactl(folder, SET_QUOTA, project, (&raw mut wanted).cast())
}

fn quotactl(
    folder: &File,
    command: u32,
    project: u32,
    argument: *mut libc::c_void,
) -> std::io::Result<()> {
    #[expect(unsafe_code, reason = "the argument has the kernel's layout and outlives the call")]
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            folder.as_raw_fd(),
            (command << 8) | PROJECT,
            project,
            argument,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn attributes(folder: &File) -> std::io::Result<Attributes> {
    let mut found = Attributes::default();
    #[expect(unsafe_code, reason = "the structure has the kernel's layout and outlives the call")]
    let outcome = unsafe { libc::ioctl(folder.as_raw_fd(), GET_ATTRIBUTES, &raw mut found) };
    if outcome == 0 { Ok(found) } else { Err(std::io::Error::last_os_error()) }
}

fn set_attributes(folder: &File, attributes: &Attributes) -> std::io::Result<()> {
    #[expect(unsafe_code, reason = "the structure has the kernel's layout and outlives the call")]
    let outcome =
        unsafe { libc::ioctl(folder.as_raw_fd(), SET_ATTRIBUTES, &raw const *attributes) };
    if outcome == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
