//! `Start`: checks every number, makes the run folder and hands the descriptors on, unread, to
//! the container's own run process.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use berth_container::logfile::LogLimits;
use berth_container::{FailureCode, LAYERS_MAX, Reply, Role, Start};
use berth_model::Limits;
use berth_model::addon::LINKS_MAX;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::context::{Context, IdBlock};
use crate::failure::{Because, Failure};
use crate::instances::{self, Instances};
use crate::network::hop;
use crate::run_wire::{Ask, RunSpec, Tell, receive, send};
use crate::server::Answer;
use crate::volumes;

/// A run process must say within this whether the container runs.
const START_TIME_MAX: Duration = Duration::from_secs(120);
/// Longest run of a command or a build.
pub(crate) const TIME_MS_MAX: u32 = 86_400_000;
/// Free space of the data folder's disk below which nothing is built or run: the smaller of 10 %
/// and this. Instances are started down to an eighth of it: what served must come up again.
const FREE_BYTES_MIN: u64 = 2 << 30;

pub(crate) fn handle(context: &Arc<Context>, start: Start, descriptors: Vec<OwnedFd>) -> Answer {
    check(&start, context.ids.blocks)?;
    let wanted = usize::from(start.role != Role::Build) + usize::from(start.stdin);
    let spare = usize::from(start.role == Role::Build);
    if descriptors.len() < wanted || descriptors.len() > wanted + spare {
        return Err(Failure::refused(format!(
            "{} descriptors came with the start of {}; it takes {wanted}",
            descriptors.len(),
            start.instance
        )));
    }
    check_machine(context, &start)?;
    check_ids(context, &start)?;
    let (instance, app, role) = (start.instance, start.app, start.role);
    let instances: &Instances = &context.instances;
    let blocks = [context.app_block(start.block), context.build_block(start.block)];
    let mounts: BTreeSet<_> = start.volumes.iter().map(|mount| mount.volume).collect();
    let spec = instances.reserve(instance, app, role, blocks, &mounts, |address| {
        let hop = hop(context.network.base);
        spec(context, &start, address.map(|address| (address, hop)))
    })?;
    let started = prepare(context, &spec).and_then(|()| launch(context, &spec, descriptors));
    match started {
        Ok(attached) => {
            let address = spec.plug.map(|(address, _)| address);
            Ok((Reply::Started { address }, attached))
        }
        Err(failure) => {
            undo(context, &spec);
            Err(failure)
        }
    }
}

/// Every number of the request; nothing of the machine.
fn check(start: &Start, blocks: u16) -> Result<(), Failure> {
    let refuse = |what: String| Err(Failure::refused(format!("{}: {what}", start.instance)));
    if start.block >= blocks {
        return refuse(format!("block {} is not below {blocks}", start.block));
    }
    if start.layers.is_empty() || start.layers.len() > LAYERS_MAX {
        return refuse(format!("{} layers; 1 to {LAYERS_MAX} are possible", start.layers.len()));
    }
    let Limits { memory_mib, cpu_milli, pids, disk_mib } = start.limits;
    let bounds = [
        ("memory_mib", memory_mib, 16, 1 << 20),
        ("cpu_milli", cpu_milli, 10, 1_024_000),
        ("pids", pids, 4, 100_000),
        ("disk_mib", disk_mib, 8, 1 << 20),
    ];
    for (name, value, least, most) in bounds {
        if !(least..=most).contains(&value) {
            return refuse(format!("{name} {value} is not between {least} and {most}"));
        }
    }
    let time = start.time_ms_max;
    match start.role {
        Role::Instance if time != 0 => return refuse("an instance has no time limit".into()),
        Role::Run | Role::Build if time == 0 || time > TIME_MS_MAX => {
            return refuse(format!("time_ms_max {time} is not between 1 and {TIME_MS_MAX}"));
        }
        _ => {}
    }
    if start.tty.is_some() && start.role != Role::Run {
        return refuse("only a run has a terminal".into());
    }
    if start.stdin && (start.role != Role::Run || start.tty.is_some()) {
        return refuse("only a run without terminal has standard input".into());
    }
    if !start.links.is_empty() && start.role == Role::Build {
        return refuse("a build container reaches no add-on".into());
    }
    if start.links.len() > LINKS_MAX {
        return refuse(format!("{} links; {LINKS_MAX} are possible", start.links.len()));
    }
    if start.links.iter().any(|link| link.app == start.app || link.port == 0) {
        return refuse("a link is to a port of another app".into());
    }
    volumes::check(start)
}

/// What the machine must have: the layers, room on the disk, an id without a past.
fn check_machine(context: &Context, start: &Start) -> Result<(), Failure> {
    for layer in &start.layers {
        if !context.tree(layer).is_dir() {
            return Err(Failure::not_found(format!("layer {layer} is not unpacked")));
        }
    }
    let past = [context.instance_run(start.instance), context.instance_logs(start.instance)];
    if past.iter().any(|path| path.exists()) {
        return Err(Failure::new(
            FailureCode::Conflict,
            format!("{} was used before; ids are used once", start.instance),
        ));
    }
    let disk = rustix::fs::statvfs(&context.data).because(|| "measuring the data folder's disk")?;
    let (free, all) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
    let floor = (all / 10).min(FREE_BYTES_MIN);
    let least = match start.role {
        Role::Instance => floor / 8,
        Role::Run | Role::Build => floor,
    };
    if free < least {
        return Err(Failure::new(
            FailureCode::Limit,
            format!(
                "the disk of {} has {} MiB left; {} MiB must stay free: remove something",
                context.data.display(),
                free >> 20,
                least >> 20
            ),
        ));
    }
    Ok(())
}

/// No process may run under the app's user ids that is not one of its containers': it would be
/// whatever is left of an app that had them before.
fn check_ids(context: &Context, start: &Start) -> Result<(), Failure> {
    let blocks = [context.app_block(start.block), context.build_block(start.block)];
    let ours = |known: &instances::Known| known.spec.app == start.app && !known.is_gone();
    if context.instances.all().iter().any(ours) {
        return Ok(());
    }
    let known = |block: IdBlock| context.instances.all().iter().any(|k| k.spec.ids == block);
    for process in fs::read_dir("/proc").because(|| "listing processes")?.flatten() {
        let number = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let (Some(pid), Ok(owner)) = (number, process.metadata()) else { continue };
        let Some(block) = blocks.iter().find(|block| block.has(owner.uid())) else { continue };
        // A container of another app is named with more than this says.
        if is_alive(pid) && !known(*block) {
            let (uid, app) = (owner.uid(), start.app);
            return Err(Failure::new(
                FailureCode::Conflict,
                format!("process {pid} runs under user id {uid}, one of those for {app}: end it"),
            ));
        }
    }
    Ok(())
}

/// A process that ended and that nobody waited for is none.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, after)| after.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

fn spec(
    context: &Context,
    start: &Start,
    plug: Option<(std::net::Ipv4Addr, std::net::Ipv4Addr)>,
) -> RunSpec {
    let builds = start.role == Role::Build;
    RunSpec {
        instance: start.instance,
        app: start.app,
        role: start.role,
        ids: if builds { context.build_block(start.block) } else { context.app_block(start.block) },
        layers: start.layers.clone(),
        limits: start.limits,
        tty: start.tty,
        stdin: start.stdin,
        time_ms_max: start.time_ms_max,
        plug,
        leaf: context.cgroups.leaf(&start.instance.to_string()),
        runs: context.cgroups.leaf("runs"),
        data: context.data.clone(),
        bin: context.bin.clone(),
        log: LogLimits::default(),
        caches: builds.then(|| context.cache_disk(start.app)),
        disk: context.instance_disk(start.instance),
        volumes: start.volumes.iter().map(|mount| volumes::run_volume(context, mount)).collect(),
        links: start.links.clone(),
    }
}

/// The run folder, the log folder and the control group.
fn prepare(context: &Context, spec: &RunSpec) -> Result<(), Failure> {
    let folder = context.instance_run(spec.instance);
    make_folder(&folder)?;
    // The container's init passes through as the root of its user namespace; no one else does.
    chown(&folder, Some(0), Some(spec.ids.host(0)))
        .and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(0o710)))
        .because(|| format!("opening {} to its container", folder.display()))?;
    spec.write(&folder)?;
    make_folder(&spec.logs())?;
    spec.leaf.create(spec.limits.into())
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    DirBuilder::new().mode(0o700).create(path).because(|| format!("making {}", path.display()))
}

/// Starts the run process and hears whether the container runs.
fn launch(
    context: &Arc<Context>,
    spec: &Arc<RunSpec>,
    mut descriptors: Vec<OwnedFd>,
) -> Result<Vec<OwnedFd>, Failure> {
    let folder = context.instance_run(spec.instance);
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .because(|| "making a socket pair")?;
    let errors = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(folder.join("errors"))
        .because(|| "making the run process's error file")?;
    let status = Command::new(context.program("berth-agent"))
        .args(["run", "--dir"])
        .arg(&folder)
        .env_clear()
        .env("PATH", crate::PROGRAM_PATH)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::from(errors))
        .status()
        .because(|| "starting berth-agent run")?;
    if !status.success() {
        return Err(Failure::machine(format!("berth-agent run ended at once: {status}")));
    }
    let network = context.net.namespace().try_clone().because(|| "sharing the network")?;
    descriptors.insert(0, network);
    send(&ours, &Ask::Begin, &descriptors).because(|| "handing the start to the run process")?;
    drop(descriptors);
    say_neighbours(context)?;
    let timeout = Some(START_TIME_MAX);
    rustix::net::sockopt::set_socket_timeout(&ours, rustix::net::sockopt::Timeout::Recv, timeout)
        .because(|| "setting a time limit")?;
    match receive::<Tell>(&ours).because(|| "waiting for the container")? {
        Some((Tell::Started(_), attached)) => {
            instances::take_over(context, spec)?;
            Ok(attached)
        }
        Some((Tell::Failed { code, message }, _)) => Err(Failure::new(code, message)),
        _ => Err(Failure::machine(format!(
            "the run process ended before the container ran: {}",
            last_words(&folder)
        ))),
    }
}

fn last_words(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("errors")).unwrap_or_default();
    let text: String = text.trim().chars().take(600).collect();
    if text.is_empty() { "it said nothing".into() } else { text }
}

/// A container that did not come to run leaves nothing, not even logs: its id may be used again.
fn undo(context: &Context, spec: &RunSpec) {
    // A run process that lives on against all expectation must not start it again.
    if let Ok(socket) = instances::connect(&context.instance_run(spec.instance)) {
        let _ = send(&socket, &Ask::Stop { grace_ms: 0 }, &[]);
    }
    instances::finish(context, spec);
    let forgotten = instances::forget(context, spec.instance)
        .and_then(|()| instances::remove_folder(&spec.logs()));
    if let Err(failure) = forgotten {
        context.log.line(format_args!("undoing the start of {}: {failure}", spec.instance));
    }
}

/// Tells the network which containers may talk, if any may.
pub(crate) fn say_neighbours(context: &Context) -> Result<(), Failure> {
    context.net.replace_talks(context.instances.neighbours(), context.instances.links())
}

#[cfg(test)]
mod tests {
    use berth_container::{Reach, VolumeMount};
    use berth_model::volume::{SIZE_MIB_MAX, SIZE_MIB_MIN, VOLUMES_MAX};
    use berth_model::{AppId, Digest, InstanceId, VolumeId};

    use super::*;

    fn start() -> Start {
        Start {
            instance: InstanceId::new(1, [1; 10]),
            app: AppId::new(1, [1; 10]),
            block: 0,
            role: Role::Instance,
            layers: vec![Digest::from_sha256([1; 32])],
            limits: Limits::default(),
            tty: None,
            stdin: false,
            time_ms_max: 0,
            volumes: Vec::new(),
            links: Vec::new(),
        }
    }

    fn mount(size_mib: u32, path: &str) -> VolumeMount {
        let volume = VolumeId::new(1, [1; 10]);
        VolumeMount { volume, size_mib, path: path.parse().unwrap(), fresh: true }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!(check(&start(), 1023), Ok(()));
        let refused = |change: fn(&mut Start)| {
            let mut start = start();
            change(&mut start);
            assert!(
                check(&start, 1023).is_err_and(|f| f.code == FailureCode::Refused),
                "{start:?}"
            );
        };
        refused(|s| s.block = 1023);
        refused(|s| s.layers.clear());
        refused(|s| s.layers = vec![Digest::from_sha256([1; 32]); LAYERS_MAX + 1]);
        refused(|s| s.limits.memory_mib = 0);
        refused(|s| s.limits.memory_mib = u32::MAX);
        refused(|s| s.limits.cpu_milli = 0);
        refused(|s| s.limits.pids = 0);
        refused(|s| s.limits.disk_mib = 0);
        refused(|s| s.time_ms_max = 1);
        refused(|s| s.role = Role::Run);
        refused(|s| {
            s.volumes = vec![mount(SIZE_MIB_MAX + 1, "/data")];
        });
        refused(|s| s.volumes = vec![mount(SIZE_MIB_MIN - 1, "/data")]);
        refused(|s| {
            s.volumes = vec![mount(64, "/data"); VOLUMES_MAX + 1];
        });
        refused(|s| s.volumes = vec![mount(64, "/data"), mount(64, "/data/in")]);
        refused(|s| {
            (s.role, s.time_ms_max) = (Role::Run, 1);
            s.volumes = vec![mount(64, "/data")];
        });
        refused(|s| s.links = vec![Reach { app: s.app, port: 5432 }]);
        refused(|s| s.links = vec![Reach { app: AppId::new(2, [2; 10]), port: 0 }]);
        refused(|s| {
            s.links = vec![Reach { app: AppId::new(2, [2; 10]), port: 5432 }; LINKS_MAX + 1];
        });
        refused(|s| s.stdin = true);
        refused(|s| s.tty = Some(berth_container::Terminal { rows: 1, columns: 1 }));
    }
}
