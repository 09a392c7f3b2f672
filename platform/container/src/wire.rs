//! Messages between `berthd` and `berth-agent`.
//!
//! One message is one `SOCK_SEQPACKET` datagram of JSON, at most [`MESSAGE_BYTES_MAX`], with up to
//! [`DESCRIPTORS_MAX`] descriptors beside it. A connection carries one request and its replies;
//! closing it cancels what it started, unless the request says otherwise.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use berth_model::{AppId, Digest, InstanceId, Limits, MountPath, PackageName, VolumeId};
use serde::{Deserialize, Serialize};

use crate::measures::Measures;
use crate::network::NetworkSettings;

/// Version of this protocol. An agent understands this one and the one before.
pub const PROTOCOL: u32 = 1;
/// Largest message.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// Most descriptors beside one message.
pub const DESCRIPTORS_MAX: usize = 8;
/// Most layers in one container; the overlay's option page and its lower limit stay far off.
pub const LAYERS_MAX: usize = 128;
/// The port that every web instance is asked to listen on.
pub const APP_PORT: u16 = 5000;

/// A request. The comment of each verb says which descriptors go with it and come back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verb", deny_unknown_fields)]
pub enum Request {
    /// -> `Hello`.
    Hello {
        /// The caller's [`PROTOCOL`].
        protocol: u32,
    },
    /// Unpacks a layer's tar into the tree of its DiffID. Descriptor: the tar, read to its end.
    /// -> `Done`; at once when the tree is there.
    LayerUnpack {
        /// The digest that the tar must have.
        diff_id: Digest,
    },
    /// -> `Layers`: the DiffIDs of all trees that are there.
    LayerList,
    /// Writes one directory of a running build container as a canonical tar. Descriptor: where
    /// the tar goes. -> `Sealed`. Refused while processes other than PID 1 run in the container.
    LayerSeal {
        /// The build container.
        instance: InstanceId,
        /// Which directory.
        part: Part,
    },
    /// Creates and starts a container. Descriptors: [0] a [`Payload`] as JSON, read to its end by
    /// the container's own run process. -> `Started`; a build container's descriptor is the
    /// listening TCP socket of its CONNECT proxy (127.0.0.1:[`PROXY_PORT`] in its network
    /// namespace). The container outlives the connection.
    Start(Start),
    /// Ends a container: SIGTERM to PID 1, SIGKILL after the grace. -> `Exited` when it is gone
    /// and nothing of it is left but its logs.
    Stop {
        /// Which.
        instance: InstanceId,
        /// At most 600,000.
        grace_ms: u32,
    },
    /// Runs a command in a running container as the app's user. Descriptors: [0] a [`Payload`];
    /// without `tty`: [1] stdin, [2] stdout, [3] stderr. -> with `tty` first `Attached` with the
    /// terminal's master, then `Exited`. Closing the connection kills the command.
    Exec {
        /// Which container.
        instance: InstanceId,
        /// A terminal of this size.
        tty: Option<Terminal>,
        /// Killed after this; at most 86,400,000.
        time_ms_max: u32,
    },
    /// -> `Instances`: every container of this data folder.
    List,
    /// -> `Instances` now and again after each change of any of them, until the connection closes.
    Watch,
    /// -> `Measures`: what every container and the platform's own programs use.
    Measures,
    /// -> `Done` with read-only descriptors of the log files of an instance, oldest first.
    Logs {
        /// Which.
        instance: InstanceId,
    },
    /// The router acknowledged a table without this instance: its address may be given out again
    /// (after the agent's own quarantine). -> `Done`.
    AddressFree {
        /// Which.
        instance: InstanceId,
    },
    /// Starts a long-lived program of the platform under its own id, again whenever it ends, or
    /// finds it running. Descriptors: the listeners, first the control listener (a unix stream
    /// socket), for `Route` then the HTTP listener, for `Wasm` then the request listener (unix
    /// stream). -> `Worker`. A program that runs with another build id is asked to end (SIGTERM,
    /// drain) and replaced, and so is one with other listeners. Without descriptors it is only
    /// found (`NotFound` where none is). Its listeners come back beside the reply. Outlives the
    /// connection.
    Worker {
        /// Which.
        program: Program,
    },
    /// Runs a bounded tool on hostile input under the tool id, in a cgroup and an empty network
    /// namespace, seeing only what it needs. Descriptors: [0] stdin, [1] stdout, [2] stderr, [3]
    /// the tool's control channel where it has one. -> `Exited`. Closing the connection kills it.
    Tool {
        /// Which.
        tool: Tool,
    },
    /// Makes a stack from Debian packages. Descriptors: [0] where the tar of the root file system
    /// goes, [1] where progress lines go. First reply: `Attached` with the listening socket of the
    /// scratch namespace's CONNECT proxy; then `Done`. Closing the connection cancels.
    Stack {
        /// Which.
        stack: Stack,
    },
    /// Gives the stack that any platform of this machine made last. Descriptor: where its tar goes.
    /// Waits for one that is being made. -> `Done`, or `NotFound`.
    StackFind {
        /// Which.
        stack: Stack,
    },
    /// As `Stack`, of Debian's essential packages, a few that every program expects, and these.
    AddonStack {
        /// Which; at most [`berth_model::addon::PACKAGES_MAX`].
        packages: BTreeSet<PackageName>,
    },
    /// As `StackFind`, of these packages.
    AddonStackFind {
        /// Which.
        packages: BTreeSet<PackageName>,
    },
    /// Removes trees whose DiffIDs are not named, log files and disks of instances that are not
    /// named and not running. Descriptor: JSON [`Live`]. -> `Done`.
    Gc,
    /// -> `Volumes`: every volume's disk of this data folder.
    VolumeList,
    /// Removes a volume's disk and what it holds; one that is not there is fine. -> `Done`. Refused
    /// (`Conflict`) while a container has it.
    VolumeRemove {
        /// Which.
        volume: VolumeId,
    },
    /// Drops an app's named build caches. -> `Done`.
    CacheDrop {
        /// Whose.
        app: AppId,
    },
    /// Ends the agent alone, so that another build of it takes over; containers and workers stay.
    /// -> `Done`.
    Retire,
    /// Stops everything of this data folder: instances, workers, tools, then the agent itself,
    /// its network namespace, mounts and rules. -> `Done`.
    Down {
        /// Grace of each instance; at most 600,000.
        grace_ms: u32,
    },
}

/// A program that the agent keeps running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// `berthd route`.
    Route,
    /// `berthd wasm`.
    Wasm,
}

/// A bounded tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "program", deny_unknown_fields)]
pub enum Tool {
    /// `git receive-pack` on the repository of an app; descriptor [3] is the hooks' socketpair.
    ReceivePack {
        /// Whose repository.
        app: AppId,
        /// `--stateless-rpc`, for HTTP.
        stateless: bool,
        /// `--http-backend-info-refs`, for HTTP.
        advertise: bool,
        /// 0 to 2: the client's protocol version.
        version: u8,
        /// Largest pack, MiB.
        pack_mib_max: u32,
    },
    /// `git upload-pack` on the repository of an app.
    UploadPack {
        /// Whose repository.
        app: AppId,
        /// `--stateless-rpc`, for HTTP.
        stateless: bool,
        /// `--http-backend-info-refs`, for HTTP.
        advertise: bool,
        /// 0 to 2: the client's protocol version.
        version: u8,
    },
    /// `berthd compile`: a component on stdin, machine code on stdout.
    Compile {
        /// Which engine's settings.
        engine: Engine,
    },
}

/// The two engines, which share no pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// Buildpacks and extensions.
    Extensions,
    /// Apps.
    Apps,
}

/// A stack that the agent can make. The package lists are the agent's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stack {
    /// `debian-12`, what apps run on.
    Debian12Run,
    /// `debian-12`, what builds run on: the run base and compilers, headers, language runtimes.
    Debian12Build,
}

/// A directory of a build container that becomes a layer. Entries keep their path from the root;
/// everything in it is owned by 1000:1000.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "of", deny_unknown_fields)]
pub enum Part {
    /// `/workspace`.
    Workspace,
    /// `/layers/<buildpack>/<layer>`, each a name of `[a-z0-9-]`, 1 to 63 bytes, and nothing else.
    Layer {
        /// Buildpack id.
        buildpack: berth_model::ProcessName,
        /// Layer name.
        layer: berth_model::ProcessName,
    },
}

/// What a container is for; it decides isolation, network and life time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// An instance of a process: an interface, restarted with back-off when it ends.
    Instance,
    /// A one-off command or a release phase: an interface, never restarted.
    Run,
    /// A build container: only `lo` and the CONNECT proxy, PID 1 idles, the app's caches mounted
    /// at `/caches`, `/workspace` and `/layers` empty but for restored layers.
    Build,
}

/// What `Start` needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The container's id; an id that was used before is refused.
    pub instance: InstanceId,
    /// Whose it is.
    pub app: AppId,
    /// The app's block of user ids.
    pub block: u16,
    /// What it is for.
    pub role: Role,
    /// Layers from the lowest to the highest; each must have been unpacked.
    pub layers: Vec<Digest>,
    /// What it may use.
    pub limits: Limits,
    /// A terminal on the main process (`Run` only): `Started` then carries the master as its
    /// descriptor.
    pub tty: Option<Terminal>,
    /// The main process's stdin is descriptor [1] (`Run` without `tty` only); else /dev/null.
    pub stdin: bool,
    /// Killed after this (`Run` and `Build`); 0 for an instance.
    pub time_ms_max: u32,
    /// What it mounts (`Instance` only), at most [`berth_model::volume::VOLUMES_MAX`]; no other
    /// container may have any of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeMount>,
    /// Ports of other apps' instances that it reaches, at most
    /// [`berth_model::addon::LINKS_MAX`]; none of a build container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Reach>,
}

/// A port of another app's instances. Every other port of them, and every instance of yet other
/// apps, stays out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    /// Whose instances.
    pub app: AppId,
    /// TCP.
    pub port: u16,
}

/// A volume that a container mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeMount {
    /// Which.
    pub volume: VolumeId,
    /// What it may hold, when its disk is made; MiB.
    pub size_mib: u32,
    /// Where the container finds it; its user owns it.
    pub path: MountPath,
    /// Make its disk if it has none. Without this a disk that is gone is a failure: an app must
    /// not go on with an empty folder in place of its data.
    pub fresh: bool,
}

/// A terminal's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terminal {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// What the process in the container is. It travels in a descriptor, because it holds secrets and
/// because the agent must not interpret it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// Argument vector; the first is looked up in the container's PATH.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory in the container.
    pub working_dir: String,
}

/// What `Gc` keeps. It travels in a descriptor, for its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Live {
    /// Trees.
    pub layers: Vec<Digest>,
    /// Instances whose logs are kept.
    pub instances: Vec<InstanceId>,
    /// Apps whose caches are kept.
    pub apps: Vec<AppId>,
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reply")]
pub enum Reply {
    /// The agent is there.
    Hello {
        /// The agent's [`PROTOCOL`].
        protocol: u32,
        /// Build id of its programs.
        build: String,
        /// User ids of this data folder.
        ids: Ids,
        /// Addresses of instances.
        network: Network,
    },
    /// It is done.
    Done {},
    /// A terminal or a listener is beside this message; more replies follow.
    Attached {},
    /// Trees.
    Layers {
        /// Their DiffIDs.
        diff_ids: Vec<Digest>,
    },
    /// A layer was written.
    Sealed {
        /// Bytes of the tar.
        bytes: u64,
        /// Entries in it.
        entries: u64,
    },
    /// A container runs.
    Started {
        /// Its address; none for a build container.
        address: Option<Ipv4Addr>,
    },
    /// A process ended.
    Exited(Exit),
    /// All containers.
    Instances {
        /// In no particular order.
        instances: Vec<InstanceStatus>,
    },
    /// What is used.
    Measures(Measures),
    /// All volumes.
    Volumes {
        /// In no particular order.
        volumes: Vec<VolumeStatus>,
    },
    /// A worker runs.
    Worker {
        /// Its process.
        pid: u32,
        /// How often it was started again since the agent started.
        restarts: u32,
    },
    /// It was refused or failed.
    Failed {
        /// What failed.
        code: FailureCode,
        /// For people: what failed, on what, what to do.
        message: String,
    },
}

/// The user ids of a data folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// `berthd serve`.
    pub control: u32,
    /// `berthd route`.
    pub route: u32,
    /// `berthd wasm`.
    pub wasm: u32,
    /// git and the compiler.
    pub tool: u32,
    /// Apps that can have a block; block numbers are below this.
    pub blocks: u16,
}

/// The network of a data folder's instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// First address of the /16.
    pub base: Ipv4Addr,
    /// The host's end of the uplink: where requests come from.
    pub gateway: Ipv4Addr,
    /// What it follows. An agent that does not say so knows of no settings.
    #[serde(default)]
    pub settings: NetworkSettings,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; 128 + signal when a signal ended it, as shells do.
    pub code: i32,
    /// The kernel ended it for its memory.
    pub oom: bool,
    /// It was ended because its time was over.
    pub timed_out: bool,
    /// Most memory it used, bytes; 0 when not known.
    pub memory_peak_bytes: u64,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its id.
    pub instance: InstanceId,
    /// Whose it is.
    pub app: AppId,
    /// What it is for.
    pub role: Role,
    /// Where it stands.
    pub state: ContainerState,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// Which start of its process, from 1.
    pub attempt: u32,
    /// How the last attempt ended.
    pub last_exit: Option<Exit>,
    /// TCP ports that its processes listen on, with the address they listen on.
    pub listening: Vec<std::net::SocketAddr>,
    /// Unix milliseconds of the start of this attempt.
    pub started_at_ms: i64,
    /// Memory in use, bytes.
    pub memory_bytes: u64,
    /// Processor time used by all attempts, microseconds.
    pub cpu_us: u64,
}

/// The disk of one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// Which.
    pub volume: VolumeId,
    /// Bytes that it takes on the machine's disk, what its own file system needs included.
    pub used_bytes: u64,
    /// The container that has it.
    pub instance: Option<InstanceId>,
}

/// Where a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    /// Being made.
    Starting,
    /// Its main process runs.
    Running,
    /// Its main process ended and is started again after a back-off.
    Waiting,
    /// It ended for good; its last exit says how.
    Exited,
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The caller may not speak to the agent, or the message is not one of the protocol.
    Refused,
    /// There is no such instance, layer, repository or worker.
    NotFound,
    /// It exists already, or is busy.
    Conflict,
    /// A limit was reached: entries, bytes, depth, disk, memory.
    Limit,
    /// The bytes are not what their digest says, or the tar is not one we accept.
    Invalid,
    /// The time was over.
    TimedOut,
    /// The machine refused: a mount, a namespace, a device. The message has the cause.
    Machine,
}

/// Port of the CONNECT proxy on 127.0.0.1 in a build container.
pub const PROXY_PORT: u16 = 3128;
