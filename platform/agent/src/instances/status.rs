//! What the agent tells of its containers: states, measures, listening sockets, logs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use berth_container::{InstanceStatus, Reply, logfile};
use berth_model::InstanceId;

use super::Known;
use crate::connection::{Connection, Woken};
use crate::context::Context;
use crate::failure::{Because, Failure};
use crate::run_wire::now_ms;
use crate::server::Answer;

/// How often a watcher looks at what no one tells: sockets that are listened on. What was seen is
/// told for as long.
const LOOK: Duration = Duration::from_millis(500);
/// A process that has run this long and listens has opened its sockets.
const SETTLED_MS: i64 = 60_000;
/// Sockets that are told of one container.
const LISTENING_MAX: usize = 16;

/// Every container, measured now.
pub(crate) fn list(context: &Context) -> Answer {
    Ok((Reply::Instances { instances: statuses(context) }, Vec::new()))
}

/// Every container, now and after each change, until the caller goes.
pub(crate) fn watch(context: &Context, connection: &Connection) -> Answer {
    let mut told: Option<Vec<InstanceStatus>> = None;
    loop {
        let seen = context.instances.generation();
        let now = statuses(context);
        if told.as_ref().is_none_or(|before| differ(before, &now)) {
            let reply = Reply::Instances { instances: now.clone() };
            connection.reply(&reply, &[]).because(|| "telling a watcher")?;
        }
        told = Some(now);
        context.instances.changed_after(seen, Instant::now() + LOOK);
        let gone = connection.wait(None, Some(Instant::now()));
        if gone.because(|| "watching the watcher")? == Woken::Closed {
            return Ok((Reply::Done {}, Vec::new()));
        }
    }
}

/// Whether anything but the measures changed.
fn differ(before: &[InstanceStatus], now: &[InstanceStatus]) -> bool {
    let still =
        |status: &InstanceStatus| InstanceStatus { memory_bytes: 0, cpu_us: 0, ..status.clone() };
    before.len() != now.len() || before.iter().zip(now).any(|(a, b)| still(a) != still(b))
}

fn statuses(context: &Context) -> Vec<InstanceStatus> {
    let all = context.instances.all();
    let seen = context.instances.listeners();
    seen.forget_others(&all);
    all.iter().map(|known| status(known, seen.of(known))).collect()
}

/// What listens in each container, as it was seen last. The kernel's tables take it 4 ms for a
/// container, whatever runs there, and a deployment asks for all containers again and again.
#[derive(Debug, Default)]
pub(super) struct Listeners(Mutex<BTreeMap<InstanceId, Seen>>);

#[derive(Debug)]
struct Seen {
    attempt: u32,
    at: Instant,
    sockets: Vec<SocketAddr>,
}

impl Listeners {
    /// Looks where what is known is neither of this moment nor settled: what listens goes on
    /// listening.
    fn of(&self, known: &Known) -> Vec<SocketAddr> {
        let Some(init) = known.report.init else { return Vec::new() };
        let (instance, attempt) = (known.spec.instance, known.report.attempt);
        let settled = now_ms() - known.report.started_at_ms > SETTLED_MS;
        if let Some(seen) = self.lock().get(&instance)
            && seen.attempt == attempt
            && (seen.at.elapsed() < LOOK || (settled && !seen.sockets.is_empty()))
        {
            return seen.sockets.clone();
        }
        let sockets = listening(init);
        let seen = Seen { attempt, at: Instant::now(), sockets: sockets.clone() };
        self.lock().insert(instance, seen);
        sockets
    }

    fn forget_others(&self, all: &[Known]) {
        self.lock().retain(|id, _| all.iter().any(|known| known.spec.instance == *id));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn status(known: &Known, listening: Vec<SocketAddr>) -> InstanceStatus {
    let (spec, report) = (&known.spec, &known.report);
    InstanceStatus {
        instance: spec.instance,
        app: spec.app,
        role: spec.role,
        state: report.state,
        address: spec.plug.map(|(address, _)| address),
        attempt: report.attempt,
        last_exit: report.last_exit.clone(),
        listening,
        started_at_ms: report.started_at_ms,
        memory_bytes: spec.leaf.memory_bytes(),
        cpu_us: spec.leaf.cpu_us(),
    }
}

/// TCP sockets that are listened on in the network namespace of a process.
fn listening(pid: u32) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for name in ["tcp", "tcp6"] {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
        found.extend(table.lines().skip(1).filter_map(parse_listener));
    }
    found.sort();
    found.dedup();
    found.truncate(LISTENING_MAX);
    found
}

/// A line of `/proc/net/tcp` or `tcp6` whose state is LISTEN (0A).
fn parse_listener(line: &str) -> Option<SocketAddr> {
    let fields: Vec<&str> = line.split_whitespace().take(4).collect();
    if fields.get(3) != Some(&"0A") {
        return None;
    }
    let (address, port) = fields[1].split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Words of four bytes, each in the machine's order.
    let word = |index: usize| {
        let digits = address.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// Read-only descriptors of a container's log files, oldest first.
pub(crate) fn logs(context: &Context, instance: InstanceId) -> Answer {
    let folder = context.instance_logs(instance);
    let paths = logfile::files(&folder, logfile::LogLimits::default());
    if paths.is_empty() {
        return Err(Failure::not_found(format!("there are no logs of {instance}")));
    }
    let files: Vec<OwnedFd> =
        paths.iter().filter_map(|path| File::open(path).ok()).map(OwnedFd::from).collect();
    Ok((Reply::Done {}, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_are_read_from_the_kernels_tables() {
        let four =
            "   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000";
        assert_eq!(parse_listener(four), Some(SocketAddr::from(([127, 0, 0, 1], 5000))));
        let six =
            "   0: 00000000000000000000000000000000:1388 00000000000000000000000000000000:0000 0A";
        assert_eq!(parse_listener(six), Some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 5000))));
        let connected = four.replace(" 0A ", " 01 ");
        assert_eq!(parse_listener(&connected), None);
    }
}
