//! `Measures`: what containers and the platform's own programs use, as the kernel counts it.
//!
//! Takes nothing from the caller and changes nothing: reads of control groups, one read of the
//! interfaces in the instances' network namespace, one of `/proc/self`. A file that is gone
//! because its container ends at this moment counts as zero or as not measured.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;

use berth_container::{
    InstanceMeasures, MEASURED_MAX, Measures, NetworkMeasures, OwnProgram, Program,
    ProgramMeasures, Reply,
};

use crate::context::Context;
use crate::instances::Known;
use crate::network;
use crate::server::Answer;
use crate::worker::PROGRAMS;

/// The unit of times in `/proc/<pid>/stat`: USER_HZ, 100 a second for every program (proc(5)).
const TICK_US: u64 = 10_000;

/// The verb.
pub(crate) fn handle(context: &Context) -> Answer {
    let measures = Measures { instances: instances(context), programs: programs(context) };
    Ok((Reply::Measures(measures), Vec::new()))
}

fn instances(context: &Context) -> Vec<InstanceMeasures> {
    let mut all = context.instances.all();
    all.retain(|known| !known.is_gone());
    all.truncate(MEASURED_MAX);
    if all.is_empty() {
        return Vec::new();
    }
    // The calling thread's interfaces, not those of its process.
    let table = network::inside(context.net.namespace(), || {
        fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default()
    });
    let interfaces = match &table {
        Ok(table) => interfaces(table),
        Err(failure) => {
            context.log.line(format_args!("network traffic is not measured: {failure}"));
            BTreeMap::new()
        }
    };
    all.iter().map(|known| measure(known, &interfaces)).collect()
}

fn measure(known: &Known, interfaces: &BTreeMap<&str, NetworkMeasures>) -> InstanceMeasures {
    let (spec, leaf) = (&known.spec, &known.spec.leaf);
    let of = |address: Ipv4Addr| interfaces.get(network::interface(address).as_str()).copied();
    InstanceMeasures {
        instance: spec.instance,
        app: spec.app,
        role: spec.role,
        attempt: known.report.attempt,
        cpu_us: leaf.cpu_us(),
        throttled_us: leaf.throttled_us(),
        memory_bytes: leaf.memory_bytes().saturating_sub(leaf.inactive_file_bytes()),
        memory_peak_bytes: leaf.memory_peak_bytes(),
        memory_limit_bytes: u64::from(spec.limits.memory_mib) << 20,
        oom_kills: leaf.oom_kills(),
        processes: leaf.process_count(),
        network: spec.plug.and_then(|(address, _)| of(address)),
    }
}

/// `/proc/net/dev` (proc(5)): name, eight numbers of what came in, eight of what went out. Seen from
/// the instances' namespace, what comes in is what the container sent.
fn interfaces(table: &str) -> BTreeMap<&str, NetworkMeasures> {
    let parse = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse);
        let (came_in, went_out) = (numbers.next()?.ok()?, numbers.nth(7)?.ok()?);
        Some(NetworkMeasures { received_bytes: went_out, sent_bytes: came_in })
    };
    let lines = table.lines().skip(2).filter_map(|line| line.split_once(':'));
    lines.filter_map(|(name, rest)| Some((name.trim(), parse(rest)?))).collect()
}

fn programs(context: &Context) -> Vec<ProgramMeasures> {
    let workers = PROGRAMS.into_iter().filter_map(|program| {
        let leaf = context.workers.leaf(program)?;
        Some(ProgramMeasures {
            program: match program {
                Program::Route => OwnProgram::Route,
                Program::Wasm => OwnProgram::Wasm,
            },
            cpu_us: leaf.cpu_us(),
            memory_bytes: leaf.memory_bytes().saturating_sub(leaf.inactive_file_bytes()),
        })
    });
    itself().into_iter().chain(workers).collect()
}

/// This process.
fn itself() -> Option<ProgramMeasures> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let (cpu_us, pages) = (cpu_us(&stat)?, statm.split(' ').nth(1)?.parse::<u64>().ok()?);
    let memory_bytes = pages * rustix::param::page_size() as u64;
    Some(ProgramMeasures { program: OwnProgram::Agent, cpu_us, memory_bytes })
}

/// utime and stime, fields 14 and 15; the second may hold blanks and parentheses.
fn cpu_us(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * TICK_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_read_as_the_container_sees_it() {
        let table = "Inter-|   Receive                    |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n    \
            lo:       1       2    3    4    5     6          7         8       9       10\n\
            i0a4d0003:1234567890123 2 0 0 0 0 0 0 42 1 0 0 0 0 0 0\n  bad: x\n";
        let found = interfaces(table);
        assert_eq!(found["lo"], NetworkMeasures { received_bytes: 9, sent_bytes: 1 });
        let own = NetworkMeasures { received_bytes: 42, sent_bytes: 1_234_567_890_123 };
        assert_eq!(found[network::interface(Ipv4Addr::new(10, 77, 0, 3)).as_str()], own);
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 9 9 20 0 1 0 5";
        assert_eq!(cpu_us(stat), Some(2_000_000));
        assert!(itself().is_some_and(|own| own.memory_bytes > 1 << 20));
    }
}
