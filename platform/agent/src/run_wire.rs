//! What the agent and the run process of one container say to each other.
//!
//! `spec.json` in the run folder says what the container is; it holds no secret. Messages are
//! JSON datagrams with descriptors beside them, like those between berthd and the agent. A run
//! process may be older than the agent that adopts it: version n-1 is understood.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use berth_container::logfile::LogLimits;
use berth_container::{ContainerState, Exit, FailureCode, Reach, Role, Terminal};
use berth_model::{AppId, Digest, InstanceId, Limits, MountPath, VolumeId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::cgroup::Leaf;
use crate::context::IdBlock;
use crate::failure::{Because, Failure};

/// Version of these messages.
pub(crate) const RUN_PROTOCOL: u32 = 1;
/// The user that everything in a container runs as, inside its namespace.
pub(crate) const APP_USER: u16 = 1000;
/// Bytes of a payload: argument vector and environment. The kernel takes 2 MiB of both.
pub(crate) const PAYLOAD_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// What the container is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunSpec {
    pub(crate) instance: InstanceId,
    pub(crate) app: AppId,
    pub(crate) role: Role,
    pub(crate) ids: IdBlock,
    pub(crate) layers: Vec<Digest>,
    pub(crate) limits: Limits,
    pub(crate) tty: Option<Terminal>,
    pub(crate) stdin: bool,
    pub(crate) time_ms_max: u32,
    /// Address and next hop; none for a build container.
    pub(crate) plug: Option<(Ipv4Addr, Ipv4Addr)>,
    pub(crate) leaf: Leaf,
    /// Where the run processes themselves are.
    pub(crate) runs: Leaf,
    /// The data folder.
    pub(crate) data: PathBuf,
    /// Where the platform's programs lie.
    pub(crate) bin: PathBuf,
    pub(crate) log: LogLimits,
    /// The app's caches, for a build container.
    pub(crate) caches: Option<PathBuf>,
    pub(crate) disk: PathBuf,
    /// An older agent wrote none.
    #[serde(default)]
    pub(crate) volumes: Vec<RunVolume>,
    /// What it reaches of other apps. An older agent wrote none.
    #[serde(default)]
    pub(crate) links: Vec<Reach>,
}

/// A volume of the container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunVolume {
    pub(crate) volume: VolumeId,
    pub(crate) disk: PathBuf,
    pub(crate) size_mib: u32,
    pub(crate) path: MountPath,
    pub(crate) fresh: bool,
}

impl RunSpec {
    /// Reads a run folder's specification.
    pub(crate) fn read(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join("spec.json");
        let text = fs::read(&path).because(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).because(|| format!("reading {}", path.display()))
    }

    /// Writes it.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), Failure> {
        write_private(&folder.join("spec.json"), self)
    }

    /// Where the container's log files lie.
    pub(crate) fn logs(&self) -> PathBuf {
        self.data.join("logs").join(self.instance.to_string())
    }
}

/// How a container ended, in `exit.json`.
pub(crate) fn write_exit(folder: &Path, exit: &Exit) -> Result<(), Failure> {
    write_private(&folder.join("exit.json"), exit)
}

/// How a container ended; none when its run process did not come to write it.
pub(crate) fn read_exit(folder: &Path) -> Option<Exit> {
    serde_json::from_slice(&fs::read(folder.join("exit.json")).ok()?).ok()
}

fn write_private(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_vec(value).because(|| format!("writing {}", path.display()))?;
    let fresh = path.with_extension("new");
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|mut file| file.write_all(&text))
        .and_then(|()| fs::rename(&fresh, path))
        .because(|| format!("writing {}", path.display()))
}

/// From the agent to the run process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub(crate) enum Ask {
    /// First and only message on the socket that the run process was started with. Descriptors:
    /// the network namespace of the instances, the payload, and stdin if there is one.
    /// -> `Started` or `Failed`.
    Begin,
    /// -> `Hello`, then `Report` at each change until the connection closes.
    Watch,
    /// Ends the container and this process.
    Stop { grace_ms: u32 },
    /// Descriptors as in the agent's verb. -> `Attached` with a terminal, then `Exited`.
    Exec { tty: Option<Terminal>, time_ms_max: u32 },
}

/// From the run process to the agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "tell")]
pub(crate) enum Tell {
    /// Who speaks. With the peer's pid from the kernel this cannot be another process.
    Hello(Identity),
    /// Where the container stands.
    Report(Report),
    /// The container runs; a terminal or a listener may be beside it.
    Started(Report),
    /// A terminal is beside this.
    Attached,
    /// A command ended.
    Exited { exit: Exit },
    /// Something failed.
    Failed { code: FailureCode, message: String },
}

/// What tells one process from any other, ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// Clock ticks since the machine's start, from `/proc/<pid>/stat`.
    pub(crate) starttime: u64,
    pub(crate) boot_id: String,
    pub(crate) protocol: u32,
}

/// Where a container stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) state: ContainerState,
    pub(crate) attempt: u32,
    pub(crate) last_exit: Option<Exit>,
    pub(crate) started_at_ms: i64,
    /// Process 1 of the container, as the host names it; none while it waits.
    pub(crate) init: Option<u32>,
}

impl Identity {
    /// Of the process `pid`.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in parentheses may hold anything; what counts comes after the last one.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        let starttime = after
            .split_whitespace()
            .nth(19)
            .and_then(|field| field.parse().ok())
            .ok_or_else(|| io::Error::other("no start time in /proc/<pid>/stat"))?;
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        Ok(Self { pid, starttime, boot_id, protocol: RUN_PROTOCOL })
    }
}

impl From<Failure> for Tell {
    fn from(failure: Failure) -> Self {
        Self::Failed { code: failure.code, message: failure.message }
    }
}

/// Sends one message.
pub(crate) fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    descriptors: &[OwnedFd],
) -> io::Result<()> {
    berth_container::client::send(socket, &serde_json::to_vec(message)?, descriptors)
}

/// Receives one message; `None` when the other side closed the connection.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: impl AsFd,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    loop {
        match berth_container::client::receive(&socket) {
            Ok((bytes, _)) if bytes.is_empty() => return Ok(None),
            Ok((bytes, descriptors)) => {
                return Ok(Some((serde_json::from_slice(&bytes)?, descriptors)));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
