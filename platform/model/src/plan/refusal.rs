//! Why a change is not made.

use super::config::{CONFIG_BYTES_MAX, CONFIG_NAMES_MAX};
use super::{BLOCKS, ConfigName, DOMAINS_MAX, SCALE_MAX};
use crate::addon::LINKS_MAX;
use crate::volume::{SIZE_MIB_MAX, SIZE_MIB_MIN, VOLUMES_MAX};
use crate::{AppName, Domain, MountPath, ProcessName, VolumeName};

/// Why a change is not made, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is nothing to change.
    #[error("there is no such app")]
    NoApp,
    /// Names are unique on the platform.
    #[error("the app name '{0}' is taken; choose another one")]
    NameTaken(AppName),
    /// Every block of user ids is in use.
    #[error(
        "the platform has {BLOCKS} apps, as many as it can hold; destroy one that is not needed any more"
    )]
    Full,
    /// The app does not have such a process.
    #[error("the app has no process type '{process}'; it has {}", list(known))]
    NoProcess {
        /// What was asked for.
        process: ProcessName,
        /// What there is.
        known: Vec<ProcessName>,
    },
    /// The manifest says how many instances run.
    #[error(
        "the number of instances stands in 'formation' of the app's app.json; change it there, or remove it from there, and push"
    )]
    Formation,
    /// One target serves every request.
    #[error(
        "a Wasm app has one instance, which serves every request at once; it can be scaled to 0 or 1"
    )]
    WasmScale,
    /// Too many instances.
    #[error("{process}={count} is more than the {SCALE_MAX} instances that one process may have")]
    ScaleTooLarge {
        /// Of which process.
        process: ProcessName,
        /// How many.
        count: u16,
    },
    /// Not the name of a variable.
    #[error(
        "'{0}' is not a name for a variable: use letters, digits and underscores, not beginning with a digit, 256 bytes at most"
    )]
    BadConfigName(String),
    /// The platform sets it.
    #[error("{0} is set by the platform; the app must listen on the port that it names")]
    ReservedConfigName(ConfigName),
    /// Both at once.
    #[error("{0} is to be set and unset at once; leave one out")]
    SetAndUnset(ConfigName),
    /// One value is too long.
    #[error("the value of {name} has {bytes} bytes; 65536 are allowed")]
    ConfigValueTooLarge {
        /// Of which variable.
        name: ConfigName,
        /// How long it is.
        bytes: usize,
    },
    /// An environment cannot hold it.
    #[error("the value of {0} holds a NUL byte, which an environment cannot hold; encode it")]
    ConfigValueNul(ConfigName),
    /// All values together are too long.
    #[error(
        "the configuration would have {names} variables of {bytes} bytes together; {CONFIG_NAMES_MAX} of {CONFIG_BYTES_MAX} bytes are allowed"
    )]
    ConfigTooLarge {
        /// How many variables.
        names: usize,
        /// How many bytes.
        bytes: usize,
    },
    /// Another app has it.
    #[error("the domain '{0}' is taken")]
    DomainTaken(Domain),
    /// Names below the platform's domain follow from app names.
    #[error("the domain '{0}' is the platform's own; below it each app has its default host name")]
    DomainReserved(Domain),
    /// Not a name.
    #[error("'{0}' is an address, not a host name")]
    DomainIsAddress(Domain),
    /// The app does not have it.
    #[error("the app does not have the domain '{0}'")]
    NoDomain(Domain),
    /// Enough.
    #[error(
        "the app has {DOMAINS_MAX} domains, as many as it may have; remove one, or use a wildcard"
    )]
    TooManyDomains,
    /// Names of volumes are unique in an app.
    #[error("the app has a volume '{0}'; choose another name")]
    VolumeTaken(VolumeName),
    /// Two folders of one process.
    #[error("the volume '{volume}' is at {path} in that process; choose a folder beside it")]
    VolumePathTaken {
        /// Where.
        path: MountPath,
        /// Which is there.
        volume: VolumeName,
    },
    /// Enough.
    #[error("the app has {VOLUMES_MAX} volumes, as many as it may have")]
    TooManyVolumes,
    /// Too small or too large.
    #[error("a volume of {0} MiB is not possible: {SIZE_MIB_MIN} MiB to {SIZE_MIB_MAX} MiB are")]
    VolumeSize(u32),
    /// Two instances would write to the same files.
    #[error(
        "{process} mounts the volume '{volume}' and cannot run {count} times: a volume is one \
         instance's at a time. Keep {process}=1, or keep its data in a service that many may use"
    )]
    VolumeAlone {
        /// Which process.
        process: ProcessName,
        /// What it mounts.
        volume: VolumeName,
        /// How often it is to run.
        count: u16,
    },
    /// A Wasm app has no folders.
    #[error("a Wasm app has no folders, and so no volumes")]
    WasmVolume,
    /// The app does not have it.
    #[error("the app does not have the volume '{0}'")]
    NoVolume(VolumeName),
    /// An instance has it, or may have it any time.
    #[error(
        "{process} uses the volume '{volume}': stop the app, or scale {process} to 0, before you \
         remove what the volume holds"
    )]
    VolumeInUse {
        /// Which process.
        process: ProcessName,
        /// What it mounts.
        volume: VolumeName,
    },
    /// What volumes hold is never removed in passing.
    #[error(
        "the app has the volumes {}; destroying it removes what they hold: say so with --volumes \
         (?volumes=true), or remove them first",
        volumes(.0)
    )]
    HasVolumes(Vec<VolumeName>),
    /// The platform looks after it.
    #[error("'{0}' is an add-on; the platform looks after it: use `berth addons`")]
    IsAddon(AppName),
    /// It is an app.
    #[error("'{0}' is an app, not an add-on")]
    NotAddon(AppName),
    /// Once is enough.
    #[error("the add-on '{0}' is attached to this app already; detach it first")]
    Attached(AppName),
    /// There is nothing to end.
    #[error("the add-on '{0}' is not attached to this app")]
    NotAttached(AppName),
    /// It has another value.
    #[error(
        "the app has a variable {0} of its own; unset it, or choose other names with --as PREFIX"
    )]
    ExportTaken(ConfigName),
    /// Others would lose their data.
    #[error("the add-on is attached to {}; detach it first", apps(.0))]
    AddonInUse(Vec<AppName>),
    /// Enough.
    #[error("the app is attached to {LINKS_MAX} add-ons, as many as it may be")]
    TooManyLinks,
    /// A Wasm app sends requests to named servers only.
    #[error("a Wasm app cannot be attached to an add-on: it opens no connections of its own")]
    WasmLink,
    /// There is nothing that could run.
    #[error("nothing was released yet; push first")]
    NoRelease,
    /// It must be started first.
    #[error("the app is stopped; start it")]
    Stopped,
    /// No release of this number.
    #[error("there is no release v{0}")]
    NoSuchRelease(u64),
    /// No release served before the current one.
    #[error("no other release has served before the current one; name the release to go back to")]
    NothingBefore,
    /// It serves.
    #[error("v{0} is the release that serves already")]
    AlreadyCurrent(u64),
    /// Not the name of a branch.
    #[error("this is not the name of a branch: use 1 to 255 bytes without control characters")]
    BadBranch,
}

fn apps(names: &[AppName]) -> String {
    names.iter().map(AppName::as_str).collect::<Vec<_>>().join(", ")
}

fn volumes(names: &[VolumeName]) -> String {
    names.iter().map(VolumeName::as_str).collect::<Vec<_>>().join(", ")
}

fn list(processes: &[ProcessName]) -> String {
    if processes.is_empty() {
        return "none".to_owned();
    }
    processes.iter().map(ProcessName::as_str).collect::<Vec<_>>().join(", ")
}
