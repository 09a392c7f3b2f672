//! What was counted last, for Prometheus: counters as they are, so that a server that misses a
//! period misses nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use berth_container::OwnProgram;
use berth_model::{AppId, InstanceId};
use berth_route::{AppMetrics, LATENCY_BOUNDS_US};
use berth_store::{Store, StoreError};

use super::sample::Counted;
use super::{Measures, Named};
use crate::extensions::prometheus::Families;

/// Every name and what it means. Names follow Prometheus' rules: base units, `_total` for counters.
const MEANINGS: [(&str, &str); 28] = [
    ("berth_measured_timestamp_seconds", "When the values of this platform were read."),
    ("berth_instance_cpu_seconds_total", "Processor time of an instance."),
    ("berth_instance_throttled_seconds_total", "Time kept from the processor by the limit."),
    ("berth_instance_memory_bytes", "Memory that the instance cannot do without."),
    ("berth_instance_memory_peak_bytes", "Most memory so far, what files take included."),
    ("berth_instance_memory_limit_bytes", "Memory that the instance may use."),
    ("berth_instance_network_receive_bytes_total", "Bytes to the instance, since its last start."),
    (
        "berth_instance_network_transmit_bytes_total",
        "Bytes from the instance, since its last start.",
    ),
    ("berth_instance_processes", "Processes and threads."),
    ("berth_instance_restarts_total", "Starts after the first."),
    ("berth_instance_oom_kills_total", "Processes that the kernel ended for their memory."),
    ("berth_wasm_cpu_seconds_total", "Processor time of a Wasm app's requests."),
    ("berth_wasm_failures_total", "Requests of a Wasm app that did not end well."),
    ("berth_wasm_memory_peak_bytes", "Most linear memory of one request."),
    ("berth_http_requests_total", "Requests by class of their answer."),
    ("berth_http_router_errors_total", "Answers that the router made itself, or cut."),
    ("berth_http_retries_total", "Attempts after a first one."),
    ("berth_http_received_bytes_total", "Bytes of request bodies."),
    ("berth_http_sent_bytes_total", "Bytes of response bodies."),
    ("berth_http_request_duration_seconds", "Time from a request's head to its answer's end."),
    ("berth_host_cpu_seconds_total", "Processor time of the machine."),
    ("berth_host_cpus", "Processors of the machine."),
    ("berth_host_memory_used_bytes", "Memory that is not available for more."),
    ("berth_host_memory_size_bytes", "Memory of the machine."),
    ("berth_host_disk_used_bytes", "What is taken of the data folder's disk."),
    ("berth_host_disk_size_bytes", "Size of the data folder's disk."),
    ("berth_host_load1", "Load of the last minute."),
    ("berth_program_cpu_seconds_total", "Processor time of the platform's own programs."),
];
const PROGRAM_MEMORY: (&str, &str) =
    ("berth_program_memory_bytes", "Memory of the platform's own programs.");

/// Names of the classes of answers.
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "aborted"];

/// What was counted last, and when.
#[derive(Debug)]
pub(crate) struct Latest {
    pub(crate) at_ms: i64,
    pub(crate) counted: Arc<Counted>,
    pub(crate) names: HashMap<InstanceId, Named>,
}

impl Measures {
    /// The text form of Prometheus (version 0.0.4); empty before anything was counted.
    ///
    /// # Errors
    /// The store's.
    pub async fn prometheus(&self, store: &Store) -> Result<String, StoreError> {
        let Some(latest) = self.latest() else { return Ok(String::new()) };
        let routed = latest.counted.router.iter().flat_map(|(_, apps)| apps).map(|one| one.app);
        let ids: BTreeSet<AppId> =
            routed.chain(latest.names.values().map(|named| named.app)).collect();
        let mut apps = HashMap::with_capacity(ids.len());
        for id in ids {
            // One that is gone has no name that is its own.
            if let Some(app) = store.app(id).await? {
                apps.insert(id, app.name.to_string());
            }
        }
        Ok(latest.text(&apps))
    }
}

impl Latest {
    fn text(&self, apps: &HashMap<AppId, String>) -> String {
        let mut families = Families::default();
        for (name, meaning) in MEANINGS.into_iter().chain([PROGRAM_MEMORY]) {
            families.help(name, meaning);
        }
        let at = self.at_ms as f64 / 1000.0;
        families.add("gauge", "berth_measured_timestamp_seconds", &[], at);
        self.instances(&mut families, apps);
        for one in self.counted.router.iter().flat_map(|(_, apps)| apps) {
            if let Some(app) = apps.get(&one.app) {
                requests(&mut families, app, one);
            }
        }
        self.host(&mut families);
        families.text()
    }

    fn instances(&self, families: &mut Families, apps: &HashMap<AppId, String>) {
        let labels = |id: &InstanceId| {
            let named = self.names.get(id)?;
            let label = format!("{}.{}", named.process, named.slot);
            Some((apps.get(&named.app)?.clone(), named.process.clone(), label, id.to_string()))
        };
        for one in self.counted.agent.iter().flat_map(|measures| &measures.instances) {
            let Some((app, process, label, id)) = labels(&one.instance) else { continue };
            // While one takes another's place both have the name; the id tells them apart.
            let labels = [
                ("app", app.as_str()),
                ("process", process.as_str()),
                ("instance_name", label.as_str()),
                ("id", id.as_str()),
            ];
            let mut add = |kind, name: &str, value: f64| {
                families.add(kind, &format!("berth_instance_{name}"), &labels, value);
            };
            add("counter", "cpu_seconds_total", one.cpu_us as f64 / 1e6);
            add("counter", "throttled_seconds_total", one.throttled_us as f64 / 1e6);
            add("gauge", "memory_bytes", one.memory_bytes as f64);
            if one.memory_peak_bytes > 0 {
                add("gauge", "memory_peak_bytes", one.memory_peak_bytes as f64);
            }
            add("gauge", "memory_limit_bytes", one.memory_limit_bytes as f64);
            if let Some(network) = one.network {
                add("counter", "network_receive_bytes_total", network.received_bytes as f64);
                add("counter", "network_transmit_bytes_total", network.sent_bytes as f64);
            }
            add("gauge", "processes", f64::from(one.processes));
            add("counter", "restarts_total", f64::from(one.attempt.saturating_sub(1)));
            add("counter", "oom_kills_total", one.oom_kills as f64);
        }
        for one in self.counted.wasm.iter().flatten() {
            let Some((app, process, label, id)) = labels(&one.instance) else { continue };
            let labels = [
                ("app", app.as_str()),
                ("process", process.as_str()),
                ("instance_name", label.as_str()),
                ("id", id.as_str()),
            ];
            let cpu = one.cpu_us as f64 / 1e6;
            families.add("counter", "berth_wasm_cpu_seconds_total", &labels, cpu);
            families.add("counter", "berth_wasm_failures_total", &labels, one.failures as f64);
            let peak = one.memory_peak_bytes as f64;
            families.add("gauge", "berth_wasm_memory_peak_bytes", &labels, peak);
        }
    }

    fn host(&self, families: &mut Families) {
        let host = &self.counted.host;
        let seconds = |us: u64| us as f64 / 1e6;
        for (kind, name, value) in [
            ("counter", "berth_host_cpu_seconds_total", host.cpu_us.map(seconds)),
            ("gauge", "berth_host_cpus", host.cpus),
            ("gauge", "berth_host_memory_used_bytes", host.memory.map(|(used, _)| used)),
            ("gauge", "berth_host_memory_size_bytes", host.memory.map(|(_, size)| size)),
            ("gauge", "berth_host_disk_used_bytes", host.disk.map(|(used, _)| used)),
            ("gauge", "berth_host_disk_size_bytes", host.disk.map(|(_, size)| size)),
            ("gauge", "berth_host_load1", host.load),
        ] {
            if let Some(value) = value {
                families.add(kind, name, &[], value);
            }
        }
        let own = host.own.map(|(us, bytes)| (OwnProgram::Control, us, bytes));
        let others = self.counted.agent.iter().flat_map(|measures| &measures.programs);
        let others = others.map(|one| (one.program, one.cpu_us, one.memory_bytes));
        for (program, us, bytes) in own.into_iter().chain(others) {
            let labels = [("program", program.as_str())];
            families.add("counter", "berth_program_cpu_seconds_total", &labels, seconds(us));
            families.add("gauge", PROGRAM_MEMORY.0, &labels, bytes as f64);
        }
    }
}

fn requests(families: &mut Families, app: &str, one: &AppMetrics) {
    for (class, count) in CLASSES.into_iter().zip(one.statuses) {
        let labels = [("app", app), ("status", class)];
        families.add("counter", "berth_http_requests_total", &labels, count as f64);
    }
    let labels = [("app", app)];
    for (name, value) in [
        ("berth_http_router_errors_total", one.faults),
        ("berth_http_retries_total", one.retries),
        ("berth_http_received_bytes_total", one.bytes_in),
        ("berth_http_sent_bytes_total", one.bytes_out),
    ] {
        families.add("counter", name, &labels, value as f64);
    }
    let bounds = LATENCY_BOUNDS_US.iter().map(|us| Some(*us as f64 / 1e6)).chain([None]);
    let buckets: Vec<(Option<f64>, u64)> = bounds.zip(one.latency.iter().copied()).collect();
    let sum = one.total_us as f64 / 1e6;
    families.histogram("berth_http_request_duration_seconds", &labels, &buckets, sum);
}

#[cfg(test)]
mod tests {
    use berth_container::{InstanceMeasures, Measures as Counts, NetworkMeasures, Role};

    use super::*;
    use crate::measures::host::Host;

    #[test]
    fn what_was_counted_is_told_with_names_and_units_that_prometheus_expects() {
        let (app, instance) = (AppId::new(1, [1; 10]), InstanceId::new(1, [2; 10]));
        let counts = InstanceMeasures {
            instance,
            app,
            role: Role::Instance,
            attempt: 3,
            cpu_us: 1_500_000,
            throttled_us: 0,
            memory_bytes: 7,
            memory_peak_bytes: 0,
            memory_limit_bytes: 9,
            oom_kills: 1,
            processes: 2,
            network: Some(NetworkMeasures { received_bytes: 5, sent_bytes: 6 }),
        };
        let mut latency = vec![0; LATENCY_BOUNDS_US.len() + 1];
        (latency[0], latency[30]) = (3, 1);
        let metrics = AppMetrics {
            app,
            requests: 4,
            statuses: [0, 3, 0, 0, 1, 0],
            faults: 0,
            retries: 0,
            bytes_in: 0,
            bytes_out: 80,
            total_us: 2_000_000,
            latency,
        };
        let named = Named { app, process: "web".into(), slot: 1 };
        let latest = Latest {
            at_ms: 1_500,
            counted: Arc::new(Counted {
                agent: Some(Counts { instances: vec![counts], programs: Vec::new() }),
                router: Some((1, vec![metrics])),
                wasm: None,
                host: Host { load: Some(0.5), ..Host::default() },
            }),
            names: HashMap::from([(instance, named)]),
        };
        let text = latest.text(&HashMap::from([(app, "shop".to_owned())]));
        for line in [
            "# TYPE berth_http_requests_total counter",
            "berth_http_requests_total{app=\"shop\",status=\"2xx\"} 3",
            "berth_http_request_duration_seconds_bucket{app=\"shop\",le=\"0.0001\"} 3",
            "berth_http_request_duration_seconds_bucket{app=\"shop\",le=\"63\"} 3",
            "berth_http_request_duration_seconds_bucket{app=\"shop\",le=\"+Inf\"} 4",
            "berth_http_request_duration_seconds_sum{app=\"shop\"} 2",
            "berth_http_request_duration_seconds_count{app=\"shop\"} 4",
            "berth_host_load1 0.5",
            "berth_measured_timestamp_seconds 1.5",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}\n{text}");
        }
        let own = format!("instance_name=\"web.1\",id=\"{instance}\"}}");
        for (name, value) in [("cpu_seconds_total", "1.5"), ("restarts_total", "2")] {
            let line = format!("berth_instance_{name}{{app=\"shop\",process=\"web\",{own} {value}");
            assert!(text.lines().any(|own| own == line), "{line}\n{text}");
        }
        assert!(!text.contains("memory_peak"), "the kernel did not tell it");
        let helps = text.lines().filter(|line| line.starts_with("# HELP")).count();
        let types = text.lines().filter(|line| line.starts_with("# TYPE")).count();
        assert_eq!(helps, types, "{text}");
        assert!(latest.text(&HashMap::new()).contains("berth_host_load1"), "an app that is gone");
    }
}
