//! From what was counted at two moments to one record per thing.
//!
//! Pure: takes counters as the agent, the router, the Wasm worker and `/proc` gave them, and gives
//! numbers in the order of [`super::fields`]. A counter that is smaller than before began anew, with
//! the program that counts or with the interface: all of it is new then.

use std::collections::HashMap;
use std::time::Duration;

use berth_container::{InstanceMeasures, Measures, OwnProgram, ProgramMeasures};
use berth_extensions::AppStats;
use berth_model::{AppId, InstanceId};
use berth_route::{AppMetrics, LATENCY_BOUNDS_US};

use super::fields::{APP_WIDTH, BUCKETS, FAULTS, HOST, INSTANCE, RECEIVED, RETRIES, SENT};
use super::host::Host;

/// Everything that was counted at one moment; nothing where nobody answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted {
    pub(crate) agent: Option<Measures>,
    /// When the router that counted was started, and its counters.
    pub(crate) router: Option<(u64, Vec<AppMetrics>)>,
    pub(crate) wasm: Option<Vec<AppStats>>,
    pub(crate) host: Host,
}

/// Numbers, some of which were not measured.
pub(crate) type Values = Vec<Option<f64>>;

/// What happened between two moments.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    pub(crate) instances: Vec<(InstanceId, Values)>,
    /// Only those with requests.
    pub(crate) apps: Vec<(AppId, Values)>,
    pub(crate) host: Values,
}

/// What of a counter is new.
fn since(now: u64, before: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

/// `elapsed`: between both; nothing without a moment before, when only what is no rate is told.
pub(crate) fn sample(before: Option<(&Counted, Duration)>, now: &Counted) -> Sample {
    let counted = before.and_then(|(before, _)| apps(before, now));
    Sample {
        instances: instances(before, now),
        host: host(before, now, counted.is_some()),
        apps: counted.unwrap_or_default(),
    }
}

fn instances(before: Option<(&Counted, Duration)>, now: &Counted) -> Vec<(InstanceId, Values)> {
    let mut found = Vec::new();
    let known = before.and_then(|(before, elapsed)| Some((before.agent.as_ref()?, elapsed)));
    let earlier: HashMap<InstanceId, &InstanceMeasures> = known
        .map(|(measures, _)| measures.instances.iter().map(|one| (one.instance, one)).collect())
        .unwrap_or_default();
    for one in now.agent.iter().flat_map(|measures| &measures.instances) {
        if one.role != berth_container::Role::Instance {
            continue;
        }
        let earlier = earlier.get(&one.instance).copied();
        found.push((one.instance, instance(one, earlier, known.map(|(_, elapsed)| elapsed))));
    }
    let known = before.and_then(|(before, elapsed)| Some((before.wasm.as_ref()?, elapsed)));
    let earlier: HashMap<InstanceId, &AppStats> = known
        .map(|(apps, _)| apps.iter().map(|one| (one.instance, one)).collect())
        .unwrap_or_default();
    for one in now.wasm.iter().flatten() {
        let earlier = earlier.get(&one.instance).copied();
        found.push((one.instance, wasm(one, earlier, known.map(|(_, elapsed)| elapsed))));
    }
    found
}

/// One that was not there at the moment before began since: all that it counted is new.
fn instance(
    now: &InstanceMeasures,
    before: Option<&InstanceMeasures>,
    elapsed: Option<Duration>,
) -> Values {
    let us = |of: fn(&InstanceMeasures) -> u64| {
        let new = since(of(now), before.map_or(0, of));
        elapsed.map(|elapsed| new as f64 / 1e6 / elapsed.as_secs_f64())
    };
    let traffic = |of: fn(&berth_container::NetworkMeasures) -> u64| {
        let earlier = before.and_then(|before| before.network.as_ref()).map_or(0, of);
        let new = since(of(now.network.as_ref()?), earlier);
        elapsed.map(|elapsed| new as f64 / elapsed.as_secs_f64())
    };
    let count = |of: fn(&InstanceMeasures) -> u64| {
        elapsed.map(|_| since(of(now), before.map_or(0, of)) as f64)
    };
    let values: [Option<f64>; INSTANCE.len()] = [
        us(|one| one.cpu_us),
        us(|one| one.throttled_us),
        Some(now.memory_bytes as f64),
        (now.memory_peak_bytes > 0).then_some(now.memory_peak_bytes as f64),
        Some(now.memory_limit_bytes as f64),
        traffic(|network| network.received_bytes),
        traffic(|network| network.sent_bytes),
        Some(f64::from(now.processes)),
        // The first attempt is no restart.
        count(|one| u64::from(one.attempt.saturating_sub(1))),
        count(|one| one.oom_kills),
    ];
    values.to_vec()
}

/// A Wasm app has no memory between requests, and no interface or processes of its own.
fn wasm(now: &AppStats, before: Option<&AppStats>, elapsed: Option<Duration>) -> Values {
    let new = since(now.cpu_us, before.map_or(0, |before| before.cpu_us));
    let mut values = vec![None; INSTANCE.len()];
    values[0] = elapsed.map(|elapsed| new as f64 / 1e6 / elapsed.as_secs_f64());
    values[3] = (now.memory_peak_bytes > 0).then_some(now.memory_peak_bytes as f64);
    values
}

/// Apps that had requests since; nothing where the router was not heard at both moments, or was
/// another one whose beginning was not seen.
fn apps(before: &Counted, now: &Counted) -> Option<Vec<(AppId, Values)>> {
    let (started, metrics) = now.router.as_ref()?;
    let (started_before, earlier) = before.router.as_ref()?;
    let earlier: HashMap<AppId, &AppMetrics> = match started == started_before {
        true => earlier.iter().map(|one| (one.app, one)).collect(),
        // It began after the moment before.
        false => HashMap::new(),
    };
    let new = metrics.iter().filter_map(|one| {
        let values = app(one, earlier.get(&one.app).copied());
        let some = values.iter().any(|value| value.is_some_and(|value| value > 0.0));
        some.then_some((one.app, values))
    });
    Some(new.collect())
}

fn app(now: &AppMetrics, before: Option<&AppMetrics>) -> Values {
    // Every counter of an app begins anew together.
    let before = before.filter(|before| before.requests <= now.requests);
    let mut values = vec![Some(0.0); APP_WIDTH];
    let mut set = |index: usize, of: &dyn Fn(&AppMetrics) -> u64| {
        values[index] = Some(since(of(now), before.map_or(0, of)) as f64);
    };
    for class in 0..now.statuses.len() {
        set(class, &|one| one.statuses[class]);
    }
    set(FAULTS, &|one| one.faults);
    set(RETRIES, &|one| one.retries);
    set(RECEIVED, &|one| one.bytes_in);
    set(SENT, &|one| one.bytes_out);
    for bucket in 0..=LATENCY_BOUNDS_US.len() {
        set(BUCKETS + bucket, &|one| one.latency.get(bucket).copied().unwrap_or(0));
    }
    values
}

fn host(before: Option<(&Counted, Duration)>, now: &Counted, counted: bool) -> Values {
    let cores = |now: Option<u64>, of: &dyn Fn(&Counted) -> Option<u64>| {
        let (before, elapsed) = before?;
        Some(since(now?, of(before)?) as f64 / 1e6 / elapsed.as_secs_f64())
    };
    let own = |program: OwnProgram, at: &Counted| -> Option<ProgramMeasures> {
        let found = at.agent.as_ref()?.programs.iter().find(|one| one.program == program);
        found.copied()
    };
    let mut values = vec![
        cores(now.host.cpu_us, &|at| at.host.cpu_us),
        now.host.cpus,
        now.host.memory.map(|(used, _)| used),
        now.host.memory.map(|(_, total)| total),
        now.host.disk.map(|(used, _)| used),
        now.host.disk.map(|(_, total)| total),
        now.host.load,
        cores(now.host.own.map(|(us, _)| us), &|at| at.host.own.map(|(us, _)| us)),
        now.host.own.map(|(_, bytes)| bytes as f64),
    ];
    for program in [OwnProgram::Agent, OwnProgram::Route, OwnProgram::Wasm] {
        let cpu = |at: &Counted| own(program, at).map(|one| one.cpu_us);
        values.push(cores(cpu(now), &cpu));
        values.push(own(program, now).map(|one| one.memory_bytes as f64));
    }
    values.push(counted.then_some(1.0));
    debug_assert_eq!(values.len(), HOST.len());
    values
}

#[cfg(test)]
mod tests {
    use berth_container::{NetworkMeasures, Role};

    use super::*;

    fn id(n: u8) -> InstanceId {
        InstanceId::new(1, [n; 10])
    }

    fn one(cpu_us: u64, sent_bytes: u64, attempt: u32) -> InstanceMeasures {
        InstanceMeasures {
            instance: id(1),
            app: AppId::new(1, [1; 10]),
            role: Role::Instance,
            attempt,
            cpu_us,
            throttled_us: 0,
            memory_bytes: 100,
            memory_peak_bytes: 0,
            memory_limit_bytes: 1000,
            oom_kills: u64::from(attempt - 1),
            processes: 3,
            network: Some(NetworkMeasures { received_bytes: 0, sent_bytes }),
        }
    }

    fn counted(instances: Vec<InstanceMeasures>, router: Option<(u64, u64)>) -> Counted {
        let metrics = |requests| AppMetrics {
            app: AppId::new(1, [1; 10]),
            requests,
            statuses: [0, requests, 0, 0, 0, 0],
            faults: 0,
            retries: 0,
            bytes_in: 0,
            bytes_out: requests * 10,
            total_us: 0,
            latency: vec![requests],
        };
        Counted {
            agent: Some(Measures { instances, programs: Vec::new() }),
            router: router.map(|(started, requests)| (started, vec![metrics(requests)])),
            ..Counted::default()
        }
    }

    const TWO: Duration = Duration::from_secs(2);

    #[test]
    fn rates_are_what_is_new_in_the_time_between() {
        let before = counted(vec![one(1_000_000, 500, 1)], None);
        let now = counted(vec![one(2_000_000, 900, 1)], None);
        let (_, values) = &sample(Some((&before, TWO)), &now).instances[0];
        assert_eq!((values[0], values[6], values[8]), (Some(0.5), Some(200.0), Some(0.0)));
        let (_, first) = &sample(None, &now).instances[0];
        assert_eq!((first[0], first[2], first[8]), (None, Some(100.0), None));
    }

    #[test]
    fn a_restart_counts_and_what_began_anew_is_all_new() {
        let before = counted(vec![one(1_000_000, 5_000, 1)], None);
        let now = counted(vec![one(1_200_000, 100, 2)], None);
        let (_, values) = &sample(Some((&before, TWO)), &now).instances[0];
        assert_eq!((values[6], values[8], values[9]), (Some(50.0), Some(1.0), Some(1.0)));
        let (_, began) = &sample(Some((&counted(vec![], None), TWO)), &now).instances[0];
        assert_eq!((began[0], began[8]), (Some(0.6), Some(1.0)));
    }

    #[test]
    fn builds_and_runs_are_no_instances() {
        let mut build = one(1, 1, 1);
        build.role = Role::Build;
        assert!(sample(None, &counted(vec![build], None)).instances.is_empty());
    }

    #[test]
    fn requests_are_told_only_between_two_moments_of_a_router() {
        let requests = |before: Option<(u64, u64)>, now: Option<(u64, u64)>| {
            let (before, now) = (counted(vec![], before), counted(vec![], now));
            let sample = sample(Some((&before, TWO)), &now);
            let counted = sample.host.last().copied().flatten().is_some();
            (counted, sample.apps.first().map(|(_, values)| values[1].unwrap()))
        };
        assert_eq!(requests(Some((7, 10)), Some((7, 25))), (true, Some(15.0)));
        assert_eq!(requests(Some((7, 10)), Some((7, 10))), (true, None), "none came");
        assert_eq!(requests(None, Some((7, 25))), (false, None), "nobody knows since when");
        assert_eq!(requests(Some((7, 10)), None), (false, None));
        assert_eq!(requests(Some((7, 30)), Some((8, 25))), (true, Some(25.0)), "a new router");
        assert_eq!(requests(Some((7, 30)), Some((7, 4))), (true, Some(4.0)), "counted anew");
        assert!(sample(None, &counted(vec![], Some((7, 1)))).apps.is_empty());
    }
}
