//! Measures in the text form of Prometheus (version 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write;

use berth_model::extension::BreakerState;

use super::Live;

/// Lines by the name of the measure, which must stand together.
#[derive(Default)]
pub(crate) struct Families {
    lines: BTreeMap<String, (&'static str, String)>,
    helps: BTreeMap<&'static str, &'static str>,
}

/// What is told of extensions.
const HELPS: [(&str, &str); 11] = [
    ("berth_extension_info", "An extension, its version and state."),
    ("berth_extension_calls_total", "Calls by how they ended."),
    ("berth_extension_refused_total", "Calls that were not made because it rested."),
    ("berth_extension_denied_total", "Powers that it asked for and was not granted."),
    ("berth_extension_cpu_seconds_total", "Processor time of its calls."),
    ("berth_extension_loads_total", "How often its code was loaded."),
    ("berth_extension_memory_peak_bytes", "Most memory of one call."),
    ("berth_extension_breaker_state", "0 healthy, 1 resting, 2 called no more."),
    ("berth_extension_broken", "Whether it cannot be loaded."),
    ("berth_extension_duration_seconds", "Time of its calls."),
    ("", "A measure of an extension's own."),
];

impl Families {
    /// Says what a measure means; in one line, without a backslash.
    pub(crate) fn help(&mut self, name: &'static str, meaning: &'static str) {
        self.helps.insert(name, meaning);
    }

    /// One value.
    pub(crate) fn add(
        &mut self,
        kind: &'static str,
        name: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        self.line(kind, name, name, labels, value);
    }

    fn line(
        &mut self,
        kind: &'static str,
        family: &str,
        name: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let (_, lines) =
            self.lines.entry(family.to_owned()).or_insert_with(|| (kind, String::new()));
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{name}{labels} {value}");
    }

    /// Everything that one extension did.
    pub(super) fn extension(&mut self, live: &Live, now_ms: i64) {
        self.helps.extend(HELPS);
        let health = live.health(now_ms);
        let manifest = &live.row.version.manifest;
        let own = [("extension", live.row.id.as_str())];
        let id = own[0];
        let about = [
            id,
            ("kind", manifest.kind.as_str()),
            ("version", manifest.version.as_str()),
            ("state", live.row.state.as_str()),
        ];
        self.add("gauge", "berth_extension_info", &about, 1.0);
        for (outcome, count) in &health.calls {
            let labels = [id, ("outcome", *outcome)];
            self.add("counter", "berth_extension_calls_total", &labels, *count as f64);
        }
        let breaker = match health.breaker {
            BreakerState::Healthy => 0.0,
            BreakerState::Degraded { .. } => 1.0,
            BreakerState::Quarantined => 2.0,
        };
        let broken = f64::from(u8::from(health.broken.is_some()));
        for (kind, name, value) in [
            ("counter", "berth_extension_refused_total", health.refused as f64),
            ("counter", "berth_extension_denied_total", health.denied as f64),
            ("counter", "berth_extension_cpu_seconds_total", health.cpu_us as f64 / 1e6),
            ("counter", "berth_extension_loads_total", health.loads as f64),
            ("gauge", "berth_extension_memory_peak_bytes", health.memory_peak_bytes as f64),
            ("gauge", "berth_extension_breaker_state", breaker),
            ("gauge", "berth_extension_broken", broken),
        ] {
            self.add(kind, name, &own, value);
        }
        self.durations(id, &health);
        for ((name, labels), series) in live.series() {
            let (kind, end) = if series.counter { ("counter", "_total") } else { ("gauge", "") };
            let mut all = vec![id];
            // The platform's own label says whose measure it is.
            all.extend(labels.iter().map(|(key, value)| match key.as_str() {
                "extension" => ("own_extension", value.as_str()),
                key => (key, value.as_str()),
            }));
            self.add(kind, &format!("berth_extension_own_{name}{end}"), &all, series.value);
        }
    }

    fn durations(&mut self, id: (&str, &str), health: &super::Health) {
        let buckets = health.durations.iter();
        let buckets: Vec<(Option<f64>, u64)> =
            buckets.map(|(bound, count)| (bound.map(|us| us as f64 / 1e6), *count)).collect();
        let seconds = health.wall_us as f64 / 1e6;
        self.histogram("berth_extension_duration_seconds", &[id], &buckets, seconds);
    }

    /// A histogram: upper bounds, of which the last is none, and how many lie in each bucket.
    pub(crate) fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        buckets: &[(Option<f64>, u64)],
        sum: f64,
    ) {
        let mut below = 0;
        for (bound, count) in buckets {
            below += count;
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.line("histogram", name, &format!("{name}_bucket"), &labels, below as f64);
        }
        self.line("histogram", name, &format!("{name}_sum"), labels, sum);
        self.line("histogram", name, &format!("{name}_count"), labels, below as f64);
    }

    /// The text.
    pub(crate) fn text(self) -> String {
        let mut text = String::new();
        for (name, (kind, lines)) in self.lines {
            if let Some(help) = self.helps.get(name.as_str()).or_else(|| self.helps.get("")) {
                let _ = writeln!(text, "# HELP {name} {help}");
            }
            let _ = write!(text, "# TYPE {name} {kind}\n{lines}");
        }
        text
    }
}

/// A value of a label, as the text form wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_measure_stand_together_and_values_are_escaped() {
        let mut families = Families::default();
        families.add("counter", "b_total", &[("x", "a\"b\\c\nd")], 1.5);
        families.add("gauge", "a", &[], 2.0);
        families.add("counter", "b_total", &[("x", "e")], 2.0);
        assert_eq!(
            families.text(),
            "# TYPE a gauge\na 2\n# TYPE b_total counter\nb_total{x=\"a\\\"b\\\\c\\nd\"} 1.5\n\
             b_total{x=\"e\"} 2\n"
        );
    }
}
