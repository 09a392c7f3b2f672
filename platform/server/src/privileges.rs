//! Gives up root for good.

use std::io;

/// Becomes `id` in the supplementary groups `groups`, without capabilities or a way back. Call it
/// before any thread exists.
///
/// # Errors
/// What the kernel refuses; the caller must end then, because it may still be root.
pub fn drop_to(id: u32, groups: &[u32]) -> io::Result<()> {
    let (uid, gid) = (nix::unistd::Uid::from_raw(id), nix::unistd::Gid::from_raw(id));
    let groups: Vec<_> = groups.iter().map(|group| nix::unistd::Gid::from_raw(*group)).collect();
    nix::unistd::setgroups(&groups)?;
    // The bounding set can only be cut while CAP_SETPCAP is still there.
    for capability in rustix::thread::CapabilitySet::all().iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // Unknown to this kernel.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)?;
    rustix::thread::set_no_new_privs(true)?;
    if nix::unistd::setuid(nix::unistd::Uid::from_raw(0)).is_ok() {
        return Err(io::Error::other("root could be taken back after it was given up"));
    }
    Ok(())
}
