//! The container in the words of the OCI runtime specification.
//!
//! No argument vector and no environment is in it: the file lies on disk (on tmpfs, root's), and
//! both travel by descriptor. `config.json` is written again for each attempt.

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use berth_container::Role;
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};

use super::root::{Layout, has};
use super::{seccomp, volume};
use crate::context::BLOCK_IDS;
use crate::failure::{Because, Failure};
use crate::run_wire::{APP_USER, RunSpec};

/// Where the platform's init is in every container.
pub(crate) const INIT: &str = "/.berth/init";
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Open files of one process, where our own hard limit allows it.
pub(super) const OPEN_FILES_MAX: u64 = 65_536;

/// No memory of an app is ever written down. At one byte the kernel writes no file and gives a
/// program that takes core dumps nothing; at 0 it would give it everything.
pub(crate) const CORE_BYTES_MAX: u64 = 1;

/// Writes the bundle of one attempt.
pub(crate) fn write(folder: &Path, layout: &Layout, spec: &RunSpec) -> Result<(), Failure> {
    let text = serde_json::to_vec(&config(folder, layout, spec)?)
        .because(|| "writing the container's specification")?;
    let path = layout.bundle.join("config.json");
    fs::write(&path, text).because(|| format!("writing {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
        .because(|| format!("closing {}", path.display()))
}

fn config(folder: &Path, layout: &Layout, spec: &RunSpec) -> Result<Value, Failure> {
    let none: [&str; 0] = [];
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": spec.tty.is_some(),
            "user": { "uid": APP_USER, "gid": APP_USER, "umask": 0o022 },
            "args": [INIT],
            "env": none,
            "cwd": "/",
            "capabilities": {
                "bounding": none, "effective": none, "inheritable": none,
                "permitted": none, "ambient": none
            },
            "rlimits": rlimits(),
            "noNewPrivileges": true
        },
        "root": { "path": layout.rootfs, "readonly": false },
        "hostname": host_name(spec),
        "mounts": mounts(folder, layout, spec)?,
        "linux": {
            "uidMappings": [mapping(spec)],
            "gidMappings": [mapping(spec)],
            "cgroupsPath": spec.leaf.oci_path(),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "user" }, { "type": "mount" }, { "type": "pid" }, { "type": "ipc" },
                { "type": "uts" }, { "type": "network" }, { "type": "cgroup" }
            ],
            "seccomp": seccomp::profile(),
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
                "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"
            ]
        }
    }))
}

fn mapping(spec: &RunSpec) -> Value {
    json!({ "containerID": 0, "hostID": spec.ids.base, "size": BLOCK_IDS })
}

fn rlimits() -> Value {
    // Root without CAP_SYS_RESOURCE cannot raise a hard limit, not even for its child.
    let own = getrlimit(Resource::Nofile).maximum.unwrap_or(OPEN_FILES_MAX);
    let files = own.min(OPEN_FILES_MAX);
    json!([
        { "type": "RLIMIT_NOFILE", "soft": files, "hard": files },
        { "type": "RLIMIT_CORE", "soft": CORE_BYTES_MAX, "hard": CORE_BYTES_MAX }
    ])
}

/// `ins-` and the last digits of the id: a host name has no underscore.
fn host_name(spec: &RunSpec) -> String {
    let id = spec.instance.to_string();
    format!("ins-{}", &id[id.len() - 12..])
}

fn mounts(folder: &Path, layout: &Layout, spec: &RunSpec) -> Result<Vec<Value>, Failure> {
    let memory = |to: &str, options: &[&str]| json!({ "destination": to, "type": "tmpfs", "source": "tmpfs", "options": options });
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc",
                "options": ["nosuid", "noexec", "nodev"] }),
        memory("/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] }),
        memory("/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"] }),
        bound(&spec.bin.join("berth-init"), INIT, false),
    ];
    mounts.extend(control_group(spec));
    for (name, text) in files(spec) {
        let path = folder.join(name);
        fs::write(&path, text).because(|| format!("writing {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
            .because(|| format!("opening {}", path.display()))?;
        mounts.push(bound(&path, &format!("/etc/{name}"), false));
    }
    let rootfs = fs::File::open(&layout.rootfs).because(|| "opening the container's root")?;
    let lacks = || !has(rootfs.as_fd(), CERTIFICATES);
    if (spec.role == Role::Build || lacks()) && Path::new(CERTIFICATES).is_file() {
        let real = fs::canonicalize(CERTIFICATES).because(|| "finding the host's certificates")?;
        mounts.push(bound(&real, CERTIFICATES, false));
    }
    if spec.caches.is_some() {
        mounts.push(bound(layout.caches(), "/caches", true));
    }
    for (index, volume) in spec.volumes.iter().enumerate() {
        mounts.push(bound(&volume::place(folder, index), volume.path.as_str(), true));
    }
    Ok(mounts)
}

/// The container's own control group where programs look for their limits, and nothing above it.
/// It is a folder of the host, which keeps its own flags; memory for one folder per controller
/// comes first where there are several.
fn control_group(spec: &RunSpec) -> Vec<Value> {
    let shown = spec.leaf.shown();
    let mut mounts = Vec::new();
    if shown.len() > 1 {
        mounts.push(json!({
            "destination": "/sys/fs/cgroup", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "noexec", "nodev", "mode=755", "size=64k"]
        }));
    }
    mounts.extend(shown.iter().map(|(from, to)| {
        json!({
            "destination": to, "type": "bind", "source": from,
            "options": ["bind", "ro", "nosuid", "noexec", "nodev"]
        })
    }));
    mounts
}

/// A file or folder of the host; never with devices or set-user-id.
fn bound(from: &Path, to: &str, writable: bool) -> Value {
    let mut options = vec!["bind", "nosuid", "nodev"];
    if !writable {
        options.push("ro");
    }
    json!({ "destination": to, "type": "bind", "source": from, "options": options })
}

/// Files of `/etc` that the platform writes.
fn files(spec: &RunSpec) -> Vec<(&'static str, String)> {
    let name = host_name(spec);
    let own = spec.plug.map_or(Ipv4Addr::LOCALHOST, |(address, _)| address);
    let hosts =
        format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{own}\t{name}\n");
    let mut files = vec![("hosts", hosts), ("hostname", format!("{name}\n"))];
    // The name service answers at the next hop. A build has no way to it; its proxy resolves.
    let names = spec.plug.map(|(_, hop)| format!("nameserver {hop}\n"));
    files.push(("resolv.conf", names.unwrap_or_default()));
    files
}

/// The state folder of libcontainer within a run folder.
pub(crate) fn state(folder: &Path) -> PathBuf {
    folder.join("s")
}
