//! What is measured: names, units, and how numbers of several moments or instances become one.

use berth_measures::Merge;
use berth_route::LATENCY_BOUNDS_US;

/// One number of a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// Of several moments.
    pub(crate) merge: Merge,
    /// Of instances that have one name at the same time, while one takes the other's place.
    pub(crate) across: Merge,
    /// The program of the platform that it is of.
    pub(crate) process: Option<&'static str>,
}

const fn field(name: &'static str, unit: &'static str, merge: Merge, across: Merge) -> Field {
    Field { name, unit, merge, across, process: None }
}

const fn own(process: &'static str, name: &'static str, unit: &'static str) -> Field {
    Field { name, unit, merge: Merge::Mean, across: Merge::Max, process: Some(process) }
}

use Merge::{Max, Mean, Sum};

/// Of an instance.
pub(crate) const INSTANCE: [Field; 10] = [
    field("cpu", "cores", Mean, Sum),
    field("throttled", "s/s", Mean, Sum),
    field("memory", "B", Mean, Sum),
    field("memory_peak", "B", Max, Max),
    field("memory_limit", "B", Max, Max),
    field("network_in", "B/s", Mean, Sum),
    field("network_out", "B/s", Mean, Sum),
    field("processes", "1", Max, Sum),
    field("restarts", "1", Sum, Sum),
    field("oom_kills", "1", Sum, Sum),
];

/// Of the machine and of the platform's own programs.
pub(crate) const HOST: [Field; 16] = [
    field("cpu", "cores", Mean, Max),
    field("cpu_total", "cores", Max, Max),
    field("memory", "B", Mean, Max),
    field("memory_total", "B", Max, Max),
    field("disk", "B", Mean, Max),
    field("disk_total", "B", Max, Max),
    field("load", "1", Mean, Max),
    own("control", "cpu", "cores"),
    own("control", "memory", "B"),
    own("agent", "cpu", "cores"),
    own("agent", "memory", "B"),
    own("router", "cpu", "cores"),
    own("router", "memory", "B"),
    own("wasm", "cpu", "cores"),
    own("wasm", "memory", "B"),
    // Whether the router's counters were compared in this period: then an app without a record
    // had no requests.
    field(COUNTED, "", Max, Max),
];

/// It is not shown.
pub(crate) const COUNTED: &str = "counted";

/// Counters of an app in one record: six classes of answers, answers of the router's own, retries,
/// bytes in and out; the buckets of times follow.
pub(crate) const CLASSES: usize = 6;
pub(crate) const FAULTS: usize = 6;
pub(crate) const RETRIES: usize = 7;
pub(crate) const RECEIVED: usize = 8;
pub(crate) const SENT: usize = 9;
pub(crate) const BUCKETS: usize = 10;
/// Numbers in a record of an app.
pub(crate) const APP_WIDTH: usize = BUCKETS + LATENCY_BOUNDS_US.len() + 1;

/// What is told of an app's requests: name and unit.
pub(crate) const APP: [(&str, &str); 13] = [
    ("requests", "1/s"),
    ("requests_2xx", "1/s"),
    ("requests_3xx", "1/s"),
    ("requests_4xx", "1/s"),
    ("requests_5xx", "1/s"),
    ("requests_aborted", "1/s"),
    ("router_errors", "1/s"),
    ("error_ratio", "1"),
    ("received", "B/s"),
    ("sent", "B/s"),
    ("latency_p50", "ms"),
    ("latency_p95", "ms"),
    ("latency_p99", "ms"),
];

/// A measure of an app's requests from its counts in so many seconds. No answer has no time and no
/// part that failed.
pub(crate) fn of_app(name: &str, counts: &[f64], seconds: f64) -> Option<f64> {
    let requests: f64 = counts[..CLASSES].iter().sum();
    let rate = |count: f64| Some(count / seconds);
    let time = |q: f64| {
        berth_measures::quantile(&LATENCY_BOUNDS_US, &counts[BUCKETS..], q).map(|us| us / 1000.0)
    };
    match name {
        "requests" => rate(requests),
        "requests_2xx" => rate(counts[1]),
        "requests_3xx" => rate(counts[2]),
        "requests_4xx" => rate(counts[3]),
        "requests_5xx" => rate(counts[4]),
        "requests_aborted" => rate(counts[5]),
        "router_errors" => rate(counts[FAULTS]),
        "error_ratio" => (requests > 0.0).then(|| counts[4] / requests),
        "received" => rate(counts[RECEIVED]),
        "sent" => rate(counts[SENT]),
        "latency_p50" => time(0.5),
        "latency_p95" => time(0.95),
        "latency_p99" => time(0.99),
        _ => None,
    }
}

/// Names that an app's measures have.
pub(crate) fn app_names() -> impl Iterator<Item = &'static str> {
    APP.iter().map(|(name, _)| *name).chain(INSTANCE.iter().map(|field| field.name))
}

/// Names that the host's measures have.
pub(crate) fn host_names() -> impl Iterator<Item = &'static str> {
    HOST.iter().filter(|field| field.process.is_none()).map(|field| field.name).filter(is_shown)
}

/// Whether a name is for others.
pub(crate) fn is_shown(name: &&str) -> bool {
    *name != COUNTED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_apps_measures_come_from_its_counts() {
        let mut counts = vec![0.0; APP_WIDTH];
        assert_eq!(of_app("requests", &counts, 10.0), Some(0.0));
        assert_eq!(of_app("error_ratio", &counts, 10.0), None);
        assert_eq!(of_app("latency_p50", &counts, 10.0), None);
        (counts[1], counts[4], counts[SENT]) = (30.0, 10.0, 1000.0);
        // All between 6.3 and 10 milliseconds.
        counts[BUCKETS + 10] = 40.0;
        assert_eq!(of_app("requests", &counts, 10.0), Some(4.0));
        assert_eq!(of_app("requests_5xx", &counts, 10.0), Some(1.0));
        assert_eq!(of_app("error_ratio", &counts, 10.0), Some(0.25));
        assert_eq!(of_app("sent", &counts, 10.0), Some(100.0));
        let p95 = of_app("latency_p95", &counts, 10.0).unwrap();
        assert!((9.5..=10.0).contains(&p95), "{p95}");
        for (name, _) in APP {
            assert!(of_app(name, &counts, 1.0).is_some(), "{name}");
        }
    }

    #[test]
    fn names_are_used_once_for_apps_and_once_for_the_host() {
        let apps: std::collections::BTreeSet<_> = app_names().collect();
        assert_eq!(apps.len(), APP.len() + INSTANCE.len());
        let host: std::collections::BTreeSet<_> = host_names().collect();
        assert_eq!(host.len(), 7);
    }
}
