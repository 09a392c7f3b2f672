//! Giving up: user ids, capabilities, system calls, resources.

use libcontainer::oci_spec::runtime::LinuxSeccomp;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags, set_capabilities};
use serde::{Deserialize, Serialize};

use crate::failure::{Because, Failure};
use crate::runner::{CORE_BYTES_MAX, seccomp};

/// Resources of one process; those of all together are the control group's.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Largest file, bytes.
    pub(crate) file_bytes: u64,
    /// Processor time, seconds.
    pub(crate) cpu_s: u64,
    /// Open files.
    pub(crate) files: u64,
}

/// Capabilities that a child keeps, over what its user namespace owns.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kept {
    /// None.
    Nothing,
    /// Owners and modes of files.
    Owners,
    /// Reading files whatever their mode.
    Reading,
}

impl Kept {
    fn set(self) -> CapabilitySet {
        match self {
            Self::Nothing => CapabilitySet::empty(),
            Self::Owners => {
                CapabilitySet::CHOWN | CapabilitySet::DAC_OVERRIDE | CapabilitySet::FOWNER
            }
            Self::Reading => CapabilitySet::DAC_READ_SEARCH,
        }
    }
}

/// A network namespace without even a loopback interface that is up, and no one's System V objects
/// or host name.
pub(crate) fn leave_network() -> Result<(), Failure> {
    let flags = UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    #[expect(unsafe_code, reason = "this process has one thread")]
    unsafe { rustix::thread::unshare_unsafe(flags) }.because(|| "leaving the network")
}

/// The root of the user namespace that this process has just entered.
pub(crate) fn become_inner_root() -> Result<(), Failure> {
    ids(0)
}

/// Gives up everything but `kept`, for good: a process of `id` that cannot gain anything and makes
/// only the calls of a container.
pub(crate) fn drop_to(id: u32, kept: Kept, limits: Limits) -> Result<(), Failure> {
    let filter: LinuxSeccomp =
        serde_json::from_value(seccomp::profile()).because(|| "reading the list of calls")?;
    resources(limits)?;
    rustix::thread::set_no_new_privs(true).because(|| "giving up new privileges")?;
    bounding(kept.set())?;
    ids(id)?;
    let kept = kept.set();
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).because(|| "giving up capabilities")?;
    libcontainer::seccomp::initialize_seccomp(&filter).because(|| "loading the filter")?;
    look()
}

/// Ends this process when the thread that started it ends. A change of ids unbinds it again.
pub(crate) fn bind_to_agent() -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .because(|| "binding this life to the agent's")
}

/// Does not trust that all of it worked.
fn look() -> Result<(), Failure> {
    use rustix::thread::{SecureComputingMode, no_new_privs, secure_computing_mode};
    let filtered = secure_computing_mode().is_ok_and(|mode| mode == SecureComputingMode::Filter);
    if filtered && no_new_privs().unwrap_or(false) {
        return Ok(());
    }
    Err(Failure::machine("a child of the agent is not confined as it must be"))
}

fn bounding(kept: CapabilitySet) -> Result<(), Failure> {
    for bit in 0..64_u32 {
        if kept.bits() & (1 << bit) != 0 {
            continue;
        }
        #[expect(unsafe_code, reason = "prctl with numbers alone")]
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, bit, 0, 0, 0) };
        if dropped != 0 {
            // The first number that the kernel does not know.
            break;
        }
    }
    Ok(())
}

fn ids(id: u32) -> Result<(), Failure> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    setgroups(&[]).because(|| "giving up groups")?;
    setresgid(gid, gid, gid).because(|| format!("becoming the group {id}"))?;
    setresuid(uid, uid, uid).because(|| format!("becoming the user {id}"))
}

fn resources(limits: Limits) -> Result<(), Failure> {
    for (resource, value) in [
        (Resource::Fsize, limits.file_bytes),
        (Resource::Cpu, limits.cpu_s),
        (Resource::Nofile, limits.files),
        (Resource::Core, CORE_BYTES_MAX),
    ] {
        // Above the present hard limit needs a capability that may be missing: clamp.
        let most = getrlimit(resource).maximum.map_or(value, |most| most.min(value));
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        setrlimit(resource, limit).because(|| format!("limiting {resource:?}"))?;
    }
    Ok(())
}
