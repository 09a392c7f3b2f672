//! The network namespace of a data folder: made once, pinned as a file, found again.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::fstatfs;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::failure::{Because, Failure};

/// `NSFS_MAGIC` of linux/magic.h.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// The namespace pinned at `pin`; made when it is not there.
pub(super) fn open_or_make(pin: &Path) -> Result<OwnedFd, Failure> {
    if let Some(namespace) = open(pin) {
        return Ok(namespace);
    }
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(pin)
        .because(|| format!("making {}", pin.display()))?;
    let target = pin.to_path_buf();
    let made = std::thread::spawn(move || {
        #[expect(unsafe_code, reason = "the thread shares nothing that depends on its network")]
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
        mount_bind("/proc/thread-self/ns/net", &target)
    });
    made.join()
        .map_err(|_| Failure::machine("making a network namespace panicked"))?
        .because(|| format!("making a network namespace at {}", pin.display()))?;
    open(pin).ok_or_else(|| Failure::machine(format!("{} is no namespace", pin.display())))
}

fn open(pin: &Path) -> Option<OwnedFd> {
    let file = File::open(pin).ok()?;
    (fstatfs(&file).ok()?.f_type == NSFS_MAGIC).then(|| file.into())
}

/// Whether a namespace is pinned there.
pub(super) fn is_pinned(pin: &Path) -> bool {
    open(pin).is_some()
}

/// Removes the pin; one that is not there is fine.
pub(super) fn unpin(pin: &Path) -> Result<(), Failure> {
    if is_pinned(pin) {
        unmount(pin, UnmountFlags::DETACH).because(|| format!("unpinning {}", pin.display()))?;
    }
    match fs::remove_file(pin) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).because(|| format!("removing {}", pin.display()))
        }
        _ => Ok(()),
    }
}

/// Works inside a network namespace, on a thread of its own; programs started there are inside
/// as well.
pub(crate) fn inside<T: Send>(
    namespace: &OwnedFd,
    work: impl FnOnce() -> T + Send,
) -> Result<T, Failure> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .because(|| "entering the network namespace")
                .map(|()| work())
        });
        worker.join().unwrap_or_else(|_| Err(Failure::machine("work in a namespace panicked")))
    })
}

/// Settings of the namespace: it forwards, checks that a source belongs to its interface, and
/// has no IPv6 but on loopback.
pub(super) fn settings() -> Result<(), Failure> {
    let settings = [
        ("ipv4/ip_forward", "1"),
        ("ipv4/conf/all/rp_filter", "1"),
        ("ipv4/conf/default/rp_filter", "1"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        ("ipv6/conf/default/disable_ipv6", "1"),
    ];
    for (name, value) in settings {
        let path = Path::new("/proc/sys/net").join(name);
        // A kernel without IPv6 has nothing to switch off.
        if path.exists() || !name.starts_with("ipv6") {
            fs::write(&path, value).because(|| format!("setting {}", path.display()))?;
        }
    }
    Ok(())
}

/// Switches IPv6 off on an interface of the calling thread's namespace.
pub(super) fn without_ipv6(interface: &str) -> Result<(), Failure> {
    let path = Path::new("/proc/sys/net/ipv6/conf").join(interface).join("disable_ipv6");
    // A kernel without IPv6 has nothing to switch off.
    if path.exists() {
        fs::write(&path, "1").because(|| format!("setting {}", path.display()))?;
    }
    Ok(())
}
